//! Users change many Deployments while the operator crashes: in the end all of them match the last change, every
//! rollout has a cause, and unmanaged Deployments are unchanged.
//!
//! `ADIEU_CHAOS_DEPLOYMENTS` sets the number of Deployments at the beginning, `ADIEU_CHAOS_SEED` the acts and
//! crashes. Both are printed.

use std::collections::BTreeMap;

use kube::{ResourceExt as _, api::ListParams};
use nix::sys::signal::Signal;
use proptest::{collection::vec, prelude::*, sample::Index, sample::select, strategy::ValueTree as _};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    figures::figure,
    operator::Operator,
    processes::signal,
    random::{from_environment, generated},
    support::{Scene, drain, eventually, grace_period, is_observed, web},
};

/// Acts per Deployment.
const ACTS: usize = 6;
/// The number of crashes of the operator.
const CRASHES: usize = 3;

const POLICIES: [&str; 2] = ["one", "other"];

/// A user's act.
#[derive(Clone, Debug)]
enum Act {
    /// Creates another Deployment, with `adieu.dev/graceful` and `adieu.dev/policy`.
    Create(Option<bool>, Option<&'static str>),
    /// Sets `adieu.dev/graceful`.
    Graceful(Option<bool>),
    /// Sets `adieu.dev/policy`.
    Follow(Option<&'static str>),
    /// Sets `adieu.dev/drain-seconds`.
    Drain(Option<i64>),
    /// Updates the application.
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

/// The act during which the operator crashes, and the replica.
type Crash = (usize, usize);

fn acts_and_crashes(acts: usize) -> impl Strategy<Value = (Vec<(Index, Act)>, Vec<Crash>)> {
    (vec(act(), acts), vec((0..acts, 0..2_usize), CRASHES))
}

/// The content of a template: the release, and the injected drain.
type Content = (u8, Option<i64>);

/// The desired state of a Deployment.
#[derive(Clone, Debug, Default)]
struct Desired {
    graceful: Option<bool>,
    policy: Option<&'static str>,
    drain: Option<i64>,
    release: u8,
    /// The contents that its template had a reason to have, in order.
    requested: Vec<Content>,
    /// The answer to its last change.
    answered: Option<Content>,
}

impl Desired {
    /// The expected drain.
    fn injected(&self, policies: &BTreeMap<&str, i64>) -> Option<i64> {
        let opted_in = self.graceful.unwrap_or(self.policy.is_some());
        let policy = self.policy.map(|policy| policies[policy]);
        opted_in.then_some(self.drain.or(policy).unwrap_or(10))
    }

    /// The patch that a user applies; removed values are null.
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

    /// The object that a user creates.
    fn object(&self, name: &str, replicas: i32) -> Value {
        let mut object = web(name, &json!({}));
        json_patch::merge(&mut object, &self.patch());
        object["spec"]["replicas"] = json!(replicas);
        // All ReplicaSets are counted.
        object["spec"]["revisionHistoryLimit"] = json!(1000);
        object
    }

    fn apply(&mut self, act: &Act) {
        match *act {
            Act::Graceful(graceful) => self.graceful = graceful,
            Act::Follow(policy) => self.policy = policy,
            Act::Drain(drain) => self.drain = drain,
            Act::Release(release) => self.release = release,
            Act::Create(..) | Act::Policy(..) => {}
        }
    }

    /// Records the drain that was requested, or that an answer had.
    fn request(&mut self, drain: Option<i64>) {
        let said = (self.release, drain);
        if self.requested.last() != Some(&said) {
            self.requested.push(said);
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

/// Kills an operator's container.
async fn crash(operator: &Operator, which: usize) {
    eventually("an operator to crash", || async {
        let mut pods = operator.pods().await;
        let count = pods.len().max(1);
        pods.rotate_left(which % count);
        // A crashed one may not have restarted yet.
        pods.iter().any(|pod| signal(pod, Signal::SIGKILL))
    })
    .await;
}

/// The desired state of all Deployments.
struct TestCluster {
    scene: Scene,
    operator: Operator,
    /// The drain of each policy.
    policies: BTreeMap<&'static str, i64>,
    desired: BTreeMap<String, Desired>,
    /// Acts without the webhook, or before it knew a policy's change: the controller injects later.
    missed: usize,
}

impl TestCluster {
    /// Managed Deployments, and as many unmanaged ones.
    async fn new(count: usize) -> Self {
        let scene = Scene::new().await;
        let operator = Operator::find(&scene.client).await;
        operator.scale_from_zero(2).await;
        for name in POLICIES {
            let policy = json!({
                "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": name},
                "spec": {"drainSeconds": 3, "rollout": {"maxConcurrent": 10}},
            });
            scene.create(&policy).await;
        }
        let policies = POLICIES.map(|name| (name, 3)).into();
        let mut cluster = Self { scene, operator, policies, desired: BTreeMap::new(), missed: 0 };
        for index in 0..count {
            cluster.create(Desired::default()).await;
            let unmanaged = Desired::default().object(&format!("unmanaged-{index}"), 0);
            cluster.scene.create(&unmanaged).await;
        }
        cluster.observed().await;
        cluster
    }

    async fn create(&mut self, requested: Desired) {
        let number = self.desired.len();
        let name = format!("web-{number}");
        // Most have no pods, as only their template matters.
        let answer = self.scene.create(&requested.object(&name, i32::from(number.is_multiple_of(4)))).await;
        self.desired.insert(name.clone(), requested);
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

    /// The number of ReplicaSets of each Deployment, by content.
    async fn replica_sets(&self) -> BTreeMap<String, BTreeMap<Content, usize>> {
        let listed = self.scene.api("apps/v1", "ReplicaSet").list(&ListParams::default()).await.unwrap();
        let mut sets: BTreeMap<String, BTreeMap<Content, usize>> = BTreeMap::new();
        for set in listed.items {
            let of = set.owner_references()[0].name.clone();
            let set = serde_json::to_value(set).unwrap();
            let release = set["spec"]["template"]["metadata"]["annotations"]["release"].as_str().unwrap();
            let said = (release.parse().unwrap(), drain(&set));
            *sets.entry(of).or_default().entry(said).or_default() += 1;
        }
        sets
    }

    async fn act(&mut self, which: &Index, act: &Act) {
        match *act {
            Act::Policy(policy, drain) => return self.change(policy, drain).await,
            Act::Create(graceful, policy) => {
                return self.create(Desired { graceful, policy, ..Desired::default() }).await;
            }
            _ => {}
        }
        let name = which.get(&self.desired.keys().cloned().collect::<Vec<_>>()).clone();
        let one = self.desired.get_mut(&name).unwrap();
        let before = one.patch();
        one.apply(act);
        let patch = one.patch();
        let answer = self.scene.patch("Deployment", &name, &patch).await.unwrap();
        // Applying the current state changes nothing.
        if patch != before
            || self.desired[&name].answered != Some((self.desired[&name].release, drain(&answer)))
        {
            self.note(&name, &answer);
        }
    }

    /// Records an answer, and the expected result.
    fn note(&mut self, name: &str, answer: &Value) {
        let one = self.desired.get_mut(name).unwrap();
        let now = one.injected(&self.policies);
        one.answered = Some((one.release, drain(answer)));
        one.request(drain(answer));
        one.request(now);
        self.missed += usize::from(!is_as_wanted(answer, now));
    }

    async fn change(&mut self, policy: &'static str, drain: i64) {
        self.policies.insert(policy, drain);
        let patch = json!({"spec": {"drainSeconds": drain}});
        self.scene.patch("GracefulPolicy", policy, &patch).await.unwrap();
        for one in self.desired.values_mut() {
            one.request(one.injected(&self.policies));
        }
    }

    async fn settled(&self) {
        eventually("all Deployments to match the last change", || async {
            let all = self.deployments().await;
            self.desired.iter().all(|(name, one)| is_as_wanted(&all[name], one.injected(&self.policies)))
        })
        .await;
    }

    /// Waits until each current template has its ReplicaSet.
    async fn observed(&self) {
        eventually("the Deployment controller", || async {
            let all = self.deployments().await;
            all.values().all(|one| is_observed(one) && revision(one) > 0)
        })
        .await;
    }

    /// The number of rollouts and ReplicaSets, each of which must have a cause.
    async fn rollouts(&self) -> (i64, usize) {
        let (all, sets) = (self.deployments().await, self.replica_sets().await);
        let (mut rollouts, mut count) = (0, 0);
        for (name, one) in &self.desired {
            let revision = revision(&all[name]);
            assert!(
                revision <= i64::try_from(one.requested.len()).unwrap(),
                "{name} rolled out needlessly: {one:?} {:#}",
                all[name]
            );
            rollouts += revision - 1;
            // ReplicaSets with equal contents differ in a rewritten record, unless the content changed in between.
            for (said, &sets) in &sets[name] {
                let requested = one.requested.iter().filter(|requested| *requested == said).count();
                assert!(sets <= requested.max(1), "{name} has {sets} ReplicaSets of {said:?}: {one:?}");
                count += sets;
            }
        }
        (rollouts, count)
    }
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn everything_matches_the_last_change_although_the_operator_crashes() {
    let count = usize::try_from(from_environment("ADIEU_CHAOS_DEPLOYMENTS", 40)).unwrap();
    let (acts, crashes) =
        generated("ADIEU_CHAOS_SEED", &acts_and_crashes(count * ACTS), 1).remove(0).current();
    let mut cluster = TestCluster::new(count).await;
    let untouched = cluster.unmanaged().await;

    let operator = Operator::find(&cluster.scene.client).await;
    for (number, (which, act)) in acts.iter().enumerate() {
        let crashes = async {
            for (_, which) in crashes.iter().filter(|(at, _)| *at == number) {
                crash(&operator, *which).await;
            }
        };
        // During the act.
        tokio::join!(cluster.act(which, act), crashes);
    }
    let last_act = Instant::now();
    cluster.settled().await;
    let evaluated = last_act.elapsed();

    // A new leader evaluates everything, which is over once it has applied one more change.
    crash(&operator, 0).await;
    crash(&operator, 1).await;
    // No replica is available to inject it, or one has restarted already.
    cluster.create(Desired { policy: Some(POLICIES[0]), ..Desired::default() }).await;
    cluster.change(POLICIES[0], 7).await;
    cluster.settled().await;
    cluster.observed().await;

    let (rollouts, sets) = cluster.rollouts().await;
    assert_eq!(cluster.unmanaged().await, untouched);
    let created = cluster.desired.len() - count;
    figure(
        &format!(
            "{} changes by users to {count} Deployments and {created} that are created meanwhile, while the operator \
             is killed {} times at random moments",
            acts.len(),
            CRASHES + 2,
        ),
        &format!(
            "all match the last change {:.1} s after it; {rollouts} rollouts with {sets} ReplicaSets, none of them \
             needless, although {} changes reached no webhook, or one with an older policy in its cache; {} \
             unmanaged Deployments kept their resourceVersion",
            evaluated.as_secs_f64(),
            cluster.missed,
            untouched.len(),
        ),
    );
    cluster.operator.scale_from_zero(1).await;
    cluster.scene.end().await;
}
