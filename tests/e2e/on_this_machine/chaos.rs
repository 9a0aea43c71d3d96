//! People change their minds about many Deployments while the operator crashes: in the end everything is as
//! they last said, nobody rolled out without somebody having asked for it, and what is unmanaged is untouched.
//!
//! `ADIEU_CHAOS_DEPLOYMENTS` sets how many there are to begin with, `ADIEU_CHAOS_SEED` which acts and at which of
//! them the operator crashes; what was used is printed.

use std::collections::BTreeMap;

use kube::{ResourceExt as _, api::ListParams};
use nix::sys::signal::Signal;
use proptest::{collection::vec, prelude::*, sample::Index, sample::select, strategy::ValueTree as _};
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
const ACTS: usize = 6;
/// How often the operator crashes meanwhile.
const CRASHES: usize = 3;

const POLICIES: [&str; 2] = ["one", "other"];

/// What somebody does.
#[derive(Clone, Debug)]
enum Act {
    /// Brings another Deployment, with `adieu.dev/graceful` and `adieu.dev/policy`.
    Create(Option<bool>, Option<&'static str>),
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

fn act() -> impl Strategy<Value = (Index, Act)> {
    let graceful = || select(vec![Some(true), Some(true), Some(false), None]);
    let followed = || select(vec![Some(POLICIES[0]), Some(POLICIES[1]), None]);
    let act = prop_oneof![
        1 => (graceful(), followed()).prop_map(|(graceful, policy)| Act::Create(graceful, policy)),
        3 => graceful().prop_map(Act::Graceful),
        3 => followed().prop_map(Act::Follow),
        2 => select(vec![Some(1), Some(4), None]).prop_map(Act::Drain),
        1 => any::<u8>().prop_map(Act::Release),
        1 => (select(POLICIES.to_vec()), 1..6_i64).prop_map(|(policy, drain)| Act::Policy(policy, drain)),
    ];
    (any::<Index>(), act)
}

/// At which act the operator crashes, and which of its replicas.
type Crash = (usize, usize);

fn acts_and_crashes(acts: usize) -> impl Strategy<Value = (Vec<(Index, Act)>, Vec<Crash>)> {
    (vec(act(), acts), vec((0..acts, 0..2_usize), CRASHES))
}

/// What a template says: the release, and the drain that is injected.
type Said = (u8, Option<i64>);

/// A Deployment, as people want it.
#[derive(Clone, Debug, Default)]
struct Wanted {
    graceful: Option<bool>,
    policy: Option<&'static str>,
    drain: Option<i64>,
    release: u8,
    /// What its template had reason to say, one after the other.
    asked: Vec<Said>,
    /// What whoever applied it last was answered.
    answered: Option<Said>,
}

impl Wanted {
    /// The drain that is to be injected.
    fn injected(&self, policies: &BTreeMap<&str, i64>) -> Option<i64> {
        let opted_in = self.graceful.unwrap_or(self.policy.is_some());
        let policy = self.policy.map(|policy| policies[policy]);
        opted_in.then_some(self.drain.or(policy).unwrap_or(10))
    }

    /// What a person applies; what is taken away is null.
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

    /// What a person creates.
    fn object(&self, name: &str, replicas: i32) -> Value {
        let mut object = web(name, &json!({}));
        json_patch::merge(&mut object, &self.patch());
        object["spec"]["replicas"] = json!(replicas);
        // Every ReplicaSet is to be counted.
        object["spec"]["revisionHistoryLimit"] = json!(1000);
        object
    }

    fn take(&mut self, act: &Act) {
        match *act {
            Act::Graceful(graceful) => self.graceful = graceful,
            Act::Follow(policy) => self.policy = policy,
            Act::Drain(drain) => self.drain = drain,
            Act::Release(release) => self.release = release,
            Act::Create(..) | Act::Policy(..) => {}
        }
    }

    /// Notes the drain that is asked for, or that somebody was answered with.
    fn ask(&mut self, drain: Option<i64>) {
        let said = (self.release, drain);
        if self.asked.last() != Some(&said) {
            self.asked.push(said);
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
    async fn new(count: usize) -> Self {
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
        let policies = POLICIES.map(|name| (name, 3)).into();
        let mut world = Self { scene, operator, policies, wanted: BTreeMap::new(), missed: 0 };
        for index in 0..count {
            world.create(Wanted::default()).await;
            let unmanaged = Wanted::default().object(&format!("unmanaged-{index}"), 0);
            world.scene.create(&unmanaged).await;
        }
        world.observed().await;
        world
    }

    async fn create(&mut self, asked: Wanted) {
        let number = self.wanted.len();
        let name = format!("web-{number}");
        // Most are asleep: what matters here is their template.
        let answer = self.scene.create(&asked.object(&name, i32::from(number.is_multiple_of(4)))).await;
        self.wanted.insert(name.clone(), asked);
        self.note(&name, &answer);
    }

    async fn deployments(&self) -> BTreeMap<String, Value> {
        let listed = self.scene.api("apps/v1", "Deployment").list(&ListParams::default()).await.unwrap();
        listed.items.into_iter().map(|one| (one.name_any(), serde_json::to_value(one).unwrap())).collect()
    }

    async fn unmanaged(&self) -> BTreeMap<String, Value> {
        let all = self.deployments().await.into_iter().filter(|(name, _)| name.starts_with("unmanaged"));
        all.map(|(name, one)| (name, one["metadata"]["resourceVersion"].clone())).collect()
    }

    /// How many ReplicaSets each Deployment has of what its template said.
    async fn replica_sets(&self) -> BTreeMap<String, BTreeMap<Said, usize>> {
        let listed = self.scene.api("apps/v1", "ReplicaSet").list(&ListParams::default()).await.unwrap();
        let mut sets: BTreeMap<String, BTreeMap<Said, usize>> = BTreeMap::new();
        for set in listed.items {
            let of = set.owner_references()[0].name.clone();
            let set = serde_json::to_value(set).unwrap();
            let release = set["spec"]["template"]["metadata"]["annotations"]["release"].as_str().unwrap();
            let said = (release.parse().unwrap(), drain(&set));
            *sets.entry(of).or_default().entry(said).or_default() += 1;
        }
        sets
    }

    async fn act(&mut self, who: &Index, act: &Act) {
        match *act {
            Act::Policy(policy, drain) => return self.change(policy, drain).await,
            Act::Create(graceful, policy) => {
                return self.create(Wanted { graceful, policy, ..Wanted::default() }).await;
            }
            _ => {}
        }
        let name = who.get(&self.wanted.keys().cloned().collect::<Vec<_>>()).clone();
        let one = self.wanted.get_mut(&name).unwrap();
        let before = one.patch();
        one.take(act);
        let patch = one.patch();
        let answer = self.scene.patch("Deployment", &name, &patch).await.unwrap();
        // Who applies what is there changes nothing.
        if patch != before
            || self.wanted[&name].answered != Some((self.wanted[&name].release, drain(&answer)))
        {
            self.note(&name, &answer);
        }
    }

    /// Notes what somebody was answered, and what it shall come to.
    fn note(&mut self, name: &str, answer: &Value) {
        let one = self.wanted.get_mut(name).unwrap();
        let now = one.injected(&self.policies);
        one.answered = Some((one.release, drain(answer)));
        one.ask(drain(answer));
        one.ask(now);
        self.missed += usize::from(!is_as_wanted(answer, now));
    }

    async fn change(&mut self, policy: &'static str, drain: i64) {
        self.policies.insert(policy, drain);
        let patch = json!({"spec": {"drainSeconds": drain}});
        self.scene.patch("GracefulPolicy", policy, &patch).await.unwrap();
        for one in self.wanted.values_mut() {
            one.ask(one.injected(&self.policies));
        }
    }

    async fn settled(&self) {
        eventually("everything to be as people said", || async {
            let all = self.deployments().await;
            self.wanted.iter().all(|(name, one)| is_as_wanted(&all[name], one.injected(&self.policies)))
        })
        .await;
    }

    /// Waits until each template that is there now has its ReplicaSet.
    async fn observed(&self) {
        eventually("the Deployment controller", || async {
            let all = self.deployments().await;
            all.values().all(|one| {
                one["status"]["observedGeneration"] == one["metadata"]["generation"] && revision(one) > 0
            })
        })
        .await;
    }

    /// How many rollouts and ReplicaSets there were, none of which nobody had asked for.
    async fn rollouts(&self) -> (i64, usize) {
        let (all, sets) = (self.deployments().await, self.replica_sets().await);
        let (mut rollouts, mut count) = (0, 0);
        for (name, one) in &self.wanted {
            let revision = revision(&all[name]);
            assert!(
                revision <= i64::try_from(one.asked.len()).unwrap(),
                "{name} rolled out needlessly: {one:?} {:#}",
                all[name]
            );
            rollouts += revision - 1;
            // What differs in nothing that somebody asks for is a record that was rewritten, unless it was
            // something else in between.
            for (said, &sets) in &sets[name] {
                let asked = one.asked.iter().filter(|asked| *asked == said).count();
                assert!(sets <= asked.max(1), "{name} has {sets} ReplicaSets of {said:?}: {one:?}");
                count += sets;
            }
        }
        (rollouts, count)
    }
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn everything_ends_as_people_last_said_though_the_operator_crashes() {
    let count = usize::try_from(from_environment("ADIEU_CHAOS_DEPLOYMENTS", 40)).unwrap();
    let (acts, crashes) =
        generated("ADIEU_CHAOS_SEED", &acts_and_crashes(count * ACTS), 1).remove(0).current();
    let mut world = World::new(count).await;
    let untouched = world.unmanaged().await;

    let operator = Operator::find(&world.scene.client).await;
    for (number, (who, act)) in acts.iter().enumerate() {
        let crashes = async {
            for (_, which) in crashes.iter().filter(|(at, _)| *at == number) {
                crash(&operator, *which).await;
            }
        };
        // While the act is under way.
        tokio::join!(world.act(who, act), crashes);
    }
    let last_act = Instant::now();
    world.settled().await;
    let evaluated = last_act.elapsed();

    // Whoever comes to lead looks at everything anew; that is over once it has followed one more change.
    crash(&operator, 0).await;
    crash(&operator, 1).await;
    // Nobody is there to inject it, or one of them is back already.
    world.create(Wanted { policy: Some(POLICIES[0]), ..Wanted::default() }).await;
    world.change(POLICIES[0], 7).await;
    world.settled().await;
    world.observed().await;

    let (rollouts, sets) = world.rollouts().await;
    assert_eq!(world.unmanaged().await, untouched);
    let created = world.wanted.len() - count;
    figure(
        &format!(
            "{} acts on {count} Deployments and {created} that were created meanwhile, the operator killed {} times \
             at random moments",
            acts.len(),
            CRASHES + 2,
        ),
        &format!(
            "all is as people last said {:.1} s after the last act; {rollouts} rollouts with {sets} ReplicaSets, all \
             of them asked for, though {} acts met no webhook or one that knew an older policy; {} unmanaged \
             Deployments kept their resourceVersion",
            evaluated.as_secs_f64(),
            world.missed,
            untouched.len(),
        ),
    );
    world.operator.anew(1).await;
    world.scene.end().await;
}
