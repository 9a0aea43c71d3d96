//! Turns: of the workloads that a policy change reaches, only so many roll out at a time, the oldest first,
//! and none after one that failed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::{ResourceExt as _, core::DynamicObject, runtime::reflector::ObjectRef};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::Instant,
};

use super::{
    Context,
    progress::{Progress, is_updated, patience, progress, reached, was_complete},
};
use crate::{
    plan::{self, Convergence, Kind, Source, Surroundings, When, Workload},
    runtime::workloads::resource,
};

/// How old a look at all workloads may be. Thousands that wait ask more often than that.
const LOOK: Duration = Duration::from_secs(2);
/// Who waits for a turn asks several times in that time.
const LATELY: Duration = Duration::from_secs(30);
/// A workload.
pub(super) type Key = (Kind, ObjectRef<DynamicObject>);

pub(super) fn key(kind: Kind, object: &DynamicObject) -> Key {
    (kind, ObjectRef::from_obj_with(object, resource(kind)))
}

/// How the condition `Stalled` names the first workload whose rollout failed.
pub(super) fn rollout_failed(name: &str) -> String {
    format!("the rollout of {name} failed")
}

/// A policy: its namespace, which is empty for the cluster's, and its name.
type PolicyKey = (String, Source);

fn policy_key(namespace: &str, policy: &Source) -> PolicyKey {
    let namespace = if matches!(policy, Source::ClusterPolicy(_)) { "" } else { namespace };
    (namespace.to_owned(), policy.clone())
}

pub(super) struct Turns {
    /// How many roll out at a time in the whole cluster, whatever policies say.
    limit: usize,
    state: Arc<Mutex<State>>,
    failed: SyncMutex<Failed>,
}

/// The rollouts that failed, by policy, as of the last look.
#[derive(Default)]
struct Failed {
    looked: Option<Instant>,
    policies: BTreeMap<PolicyKey, Vec<String>>,
}

#[derive(Default)]
struct State {
    /// The rollouts that aren't complete.
    rollouts: HashMap<Key, Rollout>,
    look: Option<(Instant, Look)>,
}

/// A rollout that goes on, or has failed.
#[derive(Clone, Copy)]
struct Rollout {
    /// Whether it was begun here, in turn.
    ours: bool,
    /// The generation that was written, which the watch may not have brought yet.
    generation: i64,
    /// How far it was when last looked at, as a hash, and since when it is no further.
    reached: u64,
    since: Instant,
}

impl Rollout {
    fn new(object: &DynamicObject, ours: bool) -> Self {
        let generation = object.metadata.generation.unwrap_or(0);
        Self { ours, generation, reached: reached(object), since: Instant::now() }
    }

    /// `anew` where nobody has looked for so long that it may have gone on and back.
    fn look(self, object: &DynamicObject, anew: bool) -> Self {
        let reached = reached(object);
        let no_further = reached == self.reached && !anew;
        if no_further { self } else { Self { reached, since: Instant::now(), ..self } }
    }

    /// Whether it has come no further for longer than it may.
    fn is_stuck(&self, object: &DynamicObject) -> bool {
        self.since.elapsed() > patience(object)
    }
}

/// All workloads at a time.
#[derive(Default)]
struct Look {
    queues: BTreeMap<PolicyKey, Queue>,
    /// How many roll out that a policy has a say in.
    rolling: usize,
}

/// Where a workload stands in a queue: by the time of its creation, then by namespace, kind and name.
type Place = (String, String, &'static str, String);

/// Of one policy.
#[derive(Default)]
struct Queue {
    /// Those that wait for their turn, the oldest first.
    waiting: BTreeSet<Place>,
    rolling: usize,
    failed: Vec<String>,
}

/// The right to write one workload. Nobody else gets one until it is [taken](Turn::take) or dropped.
pub(super) struct Turn {
    state: OwnedMutexGuard<State>,
    policies: Vec<PolicyKey>,
    place: Place,
}

fn place(kind: Kind, object: &DynamicObject) -> Place {
    let created = object.creation_timestamp().map(|time| time.0.to_string()).unwrap_or_default();
    (created, object.namespace().unwrap_or_default(), kind.as_str(), object.name_any())
}

impl Turns {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, state: Arc::default(), failed: SyncMutex::default() }
    }

    /// Asks whether `object` may roll out now. It must not be in the middle of a rollout, its user's own
    /// included, nor have failed at one of his; of those that one of `policies` concerns fewer than the policy says may be, and none that
    /// was rolled out for it may have failed; and no more older ones may wait than there is room for.
    pub(super) async fn ask(
        &self,
        context: &Context,
        kind: Kind,
        object: &DynamicObject,
        convergence: &Convergence,
    ) -> Option<Turn> {
        let mut state = self.state.clone().lock_owned().await;
        self.look(&mut state, context);
        let (_, look) = state.look.as_ref()?;
        let workload = Workload::of(kind, object);
        let namespace = object.namespace().unwrap_or_default();
        let concerning = plan::concerning(&workload, &convergence.resolution);
        let policies: Vec<_> = concerning.iter().map(|policy| policy_key(&namespace, policy)).collect();
        let limit = usize::try_from(convergence.resolution.settings.max_concurrent.value).unwrap_or(1);
        let place = place(kind, object);
        // Who is blocked holds no place, and tries again whenever there is room.
        let blocked = context.blocked.is_blocked(&key(kind, object));
        let has_room = policies.iter().all(|policy| {
            let queue = look.queues.get(policy);
            queue.is_some_and(|queue| queue.has_room_for((!blocked).then_some(&place), limit))
        });
        let may_begin = match progress(kind, object) {
            Progress::Complete => true,
            // What its policy broke, its policy may mend.
            unfinished => state.rollouts.get(&key(kind, object)).is_some_and(|rollout| {
                rollout.ours && (unfinished == Progress::Failed || rollout.is_stuck(object))
            }),
        };
        (may_begin && has_room && look.rolling < self.limit).then_some(Turn { state, policies, place })
    }

    /// Looks at the rollouts that were begun here, which may fail while nobody asks for a turn. Whether there
    /// are any that aren't complete, among those of `policy` if one is given.
    pub(super) async fn follow(&self, context: &Context, policy: Option<(&str, &Source)>) -> bool {
        let mut state = self.state.lock().await;
        // Whoever led before may have left some.
        if state.look.is_none() || state.has_ours() {
            self.look(&mut state, context);
        }
        let concerned = |(namespace, policy): (&str, &Source)| {
            let queue =
                state.look.as_ref().and_then(|(_, look)| look.queues.get(&policy_key(namespace, policy)));
            queue.is_some_and(|queue| queue.rolling > 0 || !queue.failed.is_empty())
        };
        state.has_ours() && policy.is_none_or(concerned)
    }

    /// Forgets everything: another leads, and what there was is no longer so once this one does again.
    pub(super) async fn step_down(&self) {
        *self.state.lock().await = State::default();
        *self.failed() = Failed::default();
    }

    /// Looks around, unless that was done a moment ago.
    fn look(&self, state: &mut State, context: &Context) {
        if state.look.as_ref().is_some_and(|(made, _)| made.elapsed() <= LOOK) {
            return;
        }
        let look = state.look_around(context);
        let failed = |(policy, queue): (&PolicyKey, &Queue)| (policy.clone(), queue.failed.clone());
        let (looked, policies) = (Instant::now(), look.queues.iter().map(failed).collect());
        *self.failed() = Failed { looked: Some(looked), policies };
        state.look = Some((looked, look));
    }

    /// The workloads whose rollout for a policy failed, so that no other begins.
    pub(super) fn failed_for(&self, namespace: &str, policy: &Source) -> Vec<String> {
        self.failed().policies.get(&policy_key(namespace, policy)).cloned().unwrap_or_default()
    }

    /// How many rollouts failed, summed up over the policies. Where nobody has looked lately, nobody is
    /// concerned any more.
    pub(super) fn failures(&self) -> usize {
        let failed = self.failed();
        let lately = failed.looked.is_some_and(|looked| looked.elapsed() < LATELY);
        if lately { failed.policies.values().map(Vec::len).sum() } else { 0 }
    }

    fn failed(&self) -> MutexGuard<'_, Failed> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn has_room_for(&self, place: Option<&Place>, limit: usize) -> bool {
        let room = limit.saturating_sub(self.rolling);
        let in_front = |place| self.waiting.iter().take(room).any(|waiting| waiting == place);
        self.failed.is_empty() && room > 0 && place.is_none_or(in_front)
    }
}

impl State {
    /// Whether rollouts that were begun here aren't complete.
    fn has_ours(&self) -> bool {
        self.rollouts.values().any(|rollout| rollout.ours)
    }

    fn look_around(&mut self, context: &Context) -> Look {
        let anew = self.look.as_ref().is_some_and(|(made, _)| made.elapsed() > LATELY);
        let mut look = Look::default();
        let mut surroundings: HashMap<String, Arc<Surroundings>> = HashMap::new();
        let mut still = HashMap::new();
        for (kind, object) in context.caches.workloads().all() {
            let namespace = object.namespace().unwrap_or_default();
            let around = surroundings
                .entry(namespace.clone())
                .or_insert_with_key(|namespace| Arc::new(context.caches.surroundings(namespace)));
            let workload = Workload::of(kind, &object);
            let convergence = plan::converge(&workload, around);
            let policies = plan::concerning(&workload, &convergence.resolution);
            if policies.is_empty() || object.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let key = key(kind, &object);
            let rollout = self.rollouts.get(&key).map(|rollout| rollout.look(&object, anew));
            // The watch has yet to bring what was written.
            let behind = rollout.is_some_and(|rollout| object.metadata.generation < Some(rollout.generation));
            let mut now = if behind { Progress::Rolling } else { progress(kind, &object) };
            let broken = !behind && now == Progress::Rolling && was_complete(kind, &object);
            // The Deployment controller doesn't always notice, and the others never do.
            let stuck = rollout.is_some_and(|rollout| rollout.is_stuck(&object));
            if broken || now == Progress::Rolling && stuck {
                now = Progress::Failed;
            }
            let carries = behind || convergence.template.is_none();
            // Whoever led before may have rolled it out, and seen it fail.
            let adopted = self.look.is_none()
                && (carries && now == Progress::Rolling && !is_updated(kind, &object)
                    || now == Progress::Failed
                        && policies.iter().any(|policy| is_stalled_by(&object, around, policy)));
            let ours = !broken && (rollout.is_some_and(|rollout| rollout.ours) || adopted);
            if now != Progress::Complete {
                let rollout = rollout.unwrap_or_else(|| Rollout::new(&object, ours));
                still.insert(key.clone(), Rollout { ours, ..rollout });
            }
            let waits = !carries && convergence.when == When::InTurn && !context.blocked.is_blocked(&key);
            look.rolling += usize::from(now == Progress::Rolling);
            for policy in &policies {
                let queue = look.queues.entry(policy_key(&namespace, policy)).or_default();
                match now {
                    Progress::Rolling => queue.rolling += 1,
                    Progress::Failed if ours && carries => queue.failed.push(object.name_any()),
                    // What failed by itself is its user's to mend, and holds up nobody.
                    Progress::Failed if !ours => {}
                    Progress::Failed | Progress::Complete if waits => {
                        queue.waiting.insert(place(kind, &object));
                    }
                    Progress::Failed | Progress::Complete => {}
                }
            }
        }
        self.rollouts = still;
        look
    }
}

/// Whether the policy's status says that the rollout of this workload failed.
fn is_stalled_by(object: &DynamicObject, around: &Surroundings, policy: &Source) -> bool {
    let status = match policy {
        Source::Policy(name) => {
            let found = around.policies.iter().find(|policy| policy.metadata.name.as_ref() == Some(name));
            found.and_then(|policy| policy.status.as_ref())
        }
        Source::ClusterPolicy(name) => {
            let found =
                around.cluster_policies.iter().find(|policy| policy.metadata.name.as_ref() == Some(name));
            found.and_then(|policy| policy.status.as_ref())
        }
        _ => None,
    };
    let mut conditions = status.iter().flat_map(|status| &status.conditions);
    let says = rollout_failed(&object.name_any());
    conditions.any(|condition| {
        condition.type_ == "Stalled" && condition.status == "True" && condition.message.starts_with(&says)
    })
}

impl Turn {
    /// Notes what was written.
    pub(super) fn take(mut self, kind: Kind, written: &DynamicObject) {
        self.state.rollouts.insert(key(kind, written), Rollout::new(written, true));
        let Some((_, look)) = &mut self.state.look else { return };
        look.rolling += 1;
        for policy in &self.policies {
            let queue = look.queues.entry(policy.clone()).or_default();
            queue.rolling += 1;
            queue.waiting.remove(&self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failed_rollouts_count_while_somebody_looks() {
        let turns = Turns::new(1);
        let policy = policy_key("shop", &Source::Policy("all".into()));
        *turns.failed() = Failed {
            looked: Some(Instant::now()),
            policies: [(policy, vec!["web".to_owned(), "api".to_owned()])].into(),
        };
        assert_eq!(turns.failures(), 2);
        tokio::time::advance(LATELY).await;
        assert_eq!(turns.failures(), 0);
    }

    #[test]
    fn the_oldest_go_first_and_none_where_one_failed() {
        let at =
            |created: &str| (created.to_owned(), "shop".to_owned(), "Deployment", format!("web-{created}"));
        let mut queue = Queue::default();
        queue.waiting.extend(["2", "1", "3"].map(at));
        assert!(queue.has_room_for(Some(&at("1")), 1) && !queue.has_room_for(Some(&at("2")), 1));
        assert!(queue.has_room_for(Some(&at("2")), 2) && !queue.has_room_for(Some(&at("3")), 2));
        queue.rolling = 1;
        assert!(!queue.has_room_for(Some(&at("1")), 1) && queue.has_room_for(Some(&at("1")), 2));
        assert!(!queue.has_room_for(Some(&at("2")), 2));
        assert!(!queue.has_room_for(None, 1) && queue.has_room_for(None, 2));
        queue.failed.push("broken".into());
        assert!(!queue.has_room_for(Some(&at("1")), 2));
    }
}
