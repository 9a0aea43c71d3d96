//! People change their minds about many Deployments while the operator crashes: in the end everything is as
//! they last said, nobody rolled out more often than somebody asked for, and what is unmanaged is untouched.
//!
//! `ADIEU_CHAOS_DEPLOYMENTS` sets how many, `ADIEU_CHAOS_SEED` which acts; what was used is printed.

use std::collections::BTreeMap;

use kube::{ResourceExt as _, api::ListParams};
use nix::sys::signal::Signal;
use proptest::{prelude::*, sample::Index, sample::select, strategy::ValueTree as _};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::signal;
use crate::{
    figures::figure,
    operator::Operator,
    random::{from_environment, generated},
    support::{Scene, drain, eventually, grace_period, web},
};

/// Acts per Deployment.
const ACTS: u64 = 6;
/// How often the operator crashes.
const CRASHES: u64 = 3;

const POLICIES: [&str; 2] = ["one", "other"];

/// What somebody does.
#[derive(Clone, Debug)]
enum Act {
    /// Sets `adieu.dev/graceful`.
    Graceful(Option<bool>),
    /// Sets `adieu.dev/policy`.
    Follow(Option<&'static str>),
    /// Sets `adieu.dev/drain-seconds`.
    Drain(Option<i64>),
    /// Brings a new version of the application.
    Release(u8),
    /// Changes a policy.
    Policy(&'static str, i64),
}

fn acts() -> impl Strategy<Value = (Index, Act)> {
    let act = prop_oneof![
        3 => select(vec![Some(true), Some(true), Some(false), None]).prop_map(Act::Graceful),
        3 => select(vec![Some(POLICIES[0]), Some(POLICIES[1]), None]).prop_map(Act::Follow),
        2 => select(vec![Some(1), Some(4), None]).prop_map(Act::Drain),
        1 => any::<u8>().prop_map(Act::Release),
        1 => (select(POLICIES.to_vec()), 1..6_i64).prop_map(|(policy, drain)| Act::Policy(policy, drain)),
    ];
    (any::<Index>(), act)
}

/// A Deployment, as people want it.
#[derive(Clone, Debug, Default)]
struct Wanted {
    graceful: Option<bool>,
    policy: Option<&'static str>,
    drain: Option<i64>,
    release: u8,
    /// How many revisions there may be.
    revisions: i64,
}

impl Wanted {
    /// The drain that is to be injected.
    fn injected(&self, policies: &BTreeMap<&str, i64>) -> Option<i64> {
        let opted_in = self.graceful.unwrap_or(self.policy.is_some());
        let policy = self.policy.map(|policy| policies[policy]);
        opted_in.then_some(self.drain.or(policy).unwrap_or(10))
    }

    /// What a person applies.
    fn patch(&self) -> Value {
        json!({
            "metadata": {"annotations": {
                "adieu.dev/graceful": self.graceful.map(|graceful| graceful.to_string()),
                "adieu.dev/policy": self.policy,
                "adieu.dev/drain-seconds": self.drain.map(|drain| drain.to_string()),
            }},
            "spec": {"template": {"metadata": {"annotations": {"release": self.release.to_string()}}}},
        })
    }

    fn take(&mut self, act: &Act) {
        match *act {
            Act::Graceful(graceful) => self.graceful = graceful,
            Act::Follow(policy) => self.policy = policy,
            Act::Drain(drain) => self.drain = drain,
            Act::Release(release) => self.release = release,
            Act::Policy(..) => {}
        }
    }
}

fn is_as_wanted(deployment: &Value, injected: Option<i64>) -> bool {
    let grace = grace_period(deployment) == Some(injected.map_or(30, |drain| drain + 35));
    drain(deployment) == injected && grace
}

fn revision(deployment: &Value) -> i64 {
    let annotations = &deployment["metadata"]["annotations"];
    annotations["deployment.kubernetes.io/revision"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Ends an operator's container without a word.
async fn crash(operator: &Operator, which: usize) {
    eventually("an operator to crash", || async {
        let mut pods = operator.pods().await;
        let count = pods.len().max(1);
        pods.rotate_left(which % count);
        // One that has crashed already may not be back yet.
        pods.iter().any(|pod| signal(pod, Signal::SIGKILL))
    })
    .await;
}

/// What people want, and where.
struct World {
    scene: Scene,
    operator: Operator,
    /// The drain of each policy.
    policies: BTreeMap<&'static str, i64>,
    wanted: BTreeMap<String, Wanted>,
    /// Acts that met no webhook, or one that didn't know of a policy's change yet: the controller follows.
    missed: usize,
}

impl World {
    /// Deployments, and as many that nobody manages.
    async fn new(count: u64) -> Self {
        let scene = Scene::new().await;
        let operator = Operator::find(&scene.client).await;
        operator.anew(2).await;
        for name in POLICIES {
            let policy = json!({
                "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": name},
                "spec": {"drainSeconds": 3, "rollout": {"maxConcurrent": 10}},
            });
            scene.create(&policy).await;
        }
        let mut wanted = BTreeMap::new();
        for index in 0..count {
            let name = format!("web-{index}");
            let mut deployment = web(&name, &json!({}));
            // Most are asleep: what matters here is their template.
            deployment["spec"]["replicas"] = json!(i32::from(index % 4 == 0));
            scene.create(&deployment).await;
            // The first act writes a release into the template.
            wanted.insert(name, Wanted { revisions: 2, ..Wanted::default() });
            deployment["metadata"]["name"] = json!(format!("unmanaged-{index}"));
            deployment["spec"]["replicas"] = json!(0);
            scene.create(&deployment).await;
        }
        let world =
            Self { scene, operator, policies: POLICIES.map(|name| (name, 3)).into(), wanted, missed: 0 };
        eventually("the rollouts", || async {
            world.deployments().await.values().all(|one| {
                one["status"]["observedGeneration"] == one["metadata"]["generation"] && revision(one) == 1
            })
        })
        .await;
        world
    }

    async fn deployments(&self) -> BTreeMap<String, Value> {
        let listed = self.scene.api("apps/v1", "Deployment").list(&ListParams::default()).await.unwrap();
        listed.items.into_iter().map(|one| (one.name_any(), serde_json::to_value(one).unwrap())).collect()
    }

    async fn unmanaged(&self) -> BTreeMap<String, Value> {
        let all = self.deployments().await.into_iter().filter(|(name, _)| name.starts_with("unmanaged"));
        all.map(|(name, one)| (name, one["metadata"]["resourceVersion"].clone())).collect()
    }

    async fn act(&mut self, who: &Index, act: &Act) {
        if let Act::Policy(policy, drain) = *act {
            return self.change(policy, drain).await;
        }
        let name = who.get(&self.wanted.keys().cloned().collect::<Vec<_>>()).clone();
        let one = self.wanted.get_mut(&name).unwrap();
        let before = (one.release, one.injected(&self.policies));
        one.take(act);
        let now = one.injected(&self.policies);
        one.revisions += i64::from(before != (one.release, now));
        let answer = self.scene.patch("Deployment", &name, &one.patch()).await.unwrap();
        if !is_as_wanted(&answer, now) {
            one.revisions += 1;
            self.missed += 1;
        }
    }

    async fn change(&mut self, policy: &'static str, drain: i64) {
        let changes = self.policies.insert(policy, drain) != Some(drain);
        let patch = json!({"spec": {"drainSeconds": drain}});
        self.scene.patch("GracefulPolicy", policy, &patch).await.unwrap();
        for one in self.wanted.values_mut().filter(|one| one.policy == Some(policy)) {
            one.revisions += i64::from(changes && one.graceful != Some(false) && one.drain.is_none());
        }
    }

    async fn settled(&self) {
        eventually("everything to be as people said", || async {
            let all = self.deployments().await;
            self.wanted.iter().all(|(name, one)| is_as_wanted(&all[name], one.injected(&self.policies)))
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn everything_ends_as_people_last_said_though_the_operator_crashes() {
    let count = from_environment("ADIEU_CHAOS_DEPLOYMENTS", 40);
    let acts = generated("ADIEU_CHAOS_SEED", &acts(), count * ACTS);
    let mut world = World::new(count).await;
    let untouched = world.unmanaged().await;

    let every = acts.len() as u64 / (CRASHES + 1);
    for (number, act) in (1..).zip(&acts) {
        let (who, act) = act.current();
        if number % every == 0 {
            crash(&world.operator, who.index(2)).await;
        }
        world.act(&who, &act).await;
    }
    let last_act = Instant::now();
    world.settled().await;
    let converged = last_act.elapsed();

    // Whoever comes to lead looks at everything anew; that is over once it has followed one more change.
    crash(&world.operator, 0).await;
    crash(&world.operator, 1).await;
    let mut last = web("last", &json!({"adieu.dev/policy": POLICIES[0]}));
    last["spec"]["replicas"] = json!(0);
    world.scene.create(&last).await;
    // Nobody is there to inject it, or one of them is back already.
    let asked = Wanted { policy: Some(POLICIES[0]), revisions: 2, ..Wanted::default() };
    world.wanted.insert("last".to_owned(), asked);
    world.change(POLICIES[0], 7).await;
    world.settled().await;

    let all = world.deployments().await;
    let rolled: i64 = world.wanted.keys().map(|name| revision(&all[name]) - 1).sum();
    for (name, one) in &world.wanted {
        assert!(
            revision(&all[name]) <= one.revisions,
            "{name} rolled out needlessly: {one:?} {:#}",
            all[name]
        );
    }
    assert_eq!(world.unmanaged().await, untouched);
    figure(
        &format!("{} acts on {count} Deployments, the operator killed {} times", acts.len(), CRASHES + 2),
        &format!(
            "all is as people last said {:.1} s after the last act; {rolled} rollouts, none needless, \
             though {} acts met no webhook or one that knew an older policy",
            converged.as_secs_f64(),
            world.missed,
        ),
    );
    world.operator.anew(1).await;
    world.scene.end().await;
}
