//! Turns: of the workloads that a policy change reaches, only so many roll out at a time, the oldest first,
//! and none after one that failed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
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
    progress::{Progress, is_updated, patience, progress, progressing, reached, was_complete},
    stalled::{name_for, stalled_by},
};
use crate::{
    plan::{self, Convergence, Kind, Source, Standing, Surroundings, When, Workload},
    runtime::{caches::hash_of, workloads::resource},
};

/// How old a look at all workloads may be. Thousands that wait ask more often than that.
const LOOK: Duration = Duration::from_secs(2);
/// Who waits for a turn asks several times in that time.
const LATELY: Duration = Duration::from_secs(30);
/// How long a workload that waits keeps its place without asking. As a rule it asks every few seconds; what the
/// watch didn't bring has no one to ask for it.
const SILENCE: Duration = Duration::from_secs(30);
/// A workload.
pub(super) type Key = (Kind, ObjectRef<DynamicObject>);

pub(super) fn key(kind: Kind, object: &DynamicObject) -> Key {
    (kind, ObjectRef::from_obj_with(object, resource(kind)))
}

/// A policy: its namespace, which is empty for the cluster's, and its name.
pub(super) type PolicyKey = (String, Source);

/// The workloads whose rollout failed, so that no other begins, by the policy that it was for.
pub(super) type Failures = BTreeMap<PolicyKey, BTreeSet<String>>;

pub(super) fn policy_key(namespace: &str, policy: &Source) -> PolicyKey {
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
    policies: Failures,
}

#[derive(Default)]
struct State {
    /// The rollouts that aren't complete.
    rollouts: HashMap<Key, Rollout>,
    look: Option<(Instant, Look)>,
    /// Those that were written for all anybody knows.
    tried: HashSet<Key>,
    /// When those that wait asked for the last time, or were first seen.
    heard: HashMap<Key, Instant>,
    /// The plans that failed, as hashes, by the uids of the workloads. Who undoes such a rollout doesn't want it
    /// again.
    failures: HashMap<Option<String>, u64>,
}

/// A rollout that goes on, or has failed.
struct Rollout {
    /// Whether it was begun here, in turn.
    ours: bool,
    /// The policies that it is for.
    policies: BTreeSet<PolicyKey>,
    /// Another of the same name has another.
    uid: Option<String>,
    /// The plan that was written, as a hash, where it was written here.
    planned: Option<u64>,
    /// How long the pods that it replaces may take, as [`patience`] has it.
    before: Duration,
    /// The generation that was written, which the watch may not have brought yet.
    generation: i64,
    /// What was said of the rollout before, as a hash. It still is where pods of an older ReplicaSet come up again
    /// once none are left (`syncRolloutStatus` of the Deployment controller).
    said_before: Option<u64>,
    /// How far it was when last looked at, as a hash, and since when it is no further.
    reached: u64,
    since: Instant,
    /// Whether who led before saw that it had failed.
    given_up: bool,
}

impl Rollout {
    fn new(kind: Kind, object: &DynamicObject, ours: bool, policies: BTreeSet<PolicyKey>) -> Self {
        let (generation, reached) = (object.metadata.generation.unwrap_or(0), reached(kind, object));
        let uid = object.uid();
        Self {
            ours,
            policies,
            uid,
            planned: None,
            before: Duration::ZERO,
            generation,
            said_before: None,
            reached,
            since: Instant::now(),
            given_up: false,
        }
    }

    /// Whether the watch has yet to bring what was written.
    fn is_ahead_of(&self, object: &DynamicObject) -> bool {
        object.metadata.generation < Some(self.generation)
    }

    fn look(self, kind: Kind, object: &DynamicObject) -> Self {
        let reached = reached(kind, object);
        if reached == self.reached {
            return self;
        }
        Self { reached, since: Instant::now(), given_up: false, ..self }
    }

    /// Whether it has come no further for longer than it may.
    fn is_stuck(&self, kind: Kind, object: &DynamicObject) -> bool {
        self.given_up || self.since.elapsed() > patience(kind, object).max(self.before)
    }
}

/// All workloads at a time.
#[derive(Default)]
struct Look {
    queues: BTreeMap<PolicyKey, Queue>,
    /// Those whose turn it is.
    next: BTreeSet<Place>,
    /// How many roll out that were begun here.
    rolling: usize,
}

/// Where a workload stands among those that wait: by the time of its creation, then by namespace, kind and name.
type Place = (String, String, &'static str, String);

/// The policies that ask for a rollout, and how many may roll out at a time because of each.
type Asking = BTreeMap<PolicyKey, usize>;

/// Of one policy.
#[derive(Default)]
struct Queue {
    rolling: usize,
    /// How many of those whose turn it is are for this policy.
    next: usize,
    failed: BTreeSet<String>,
}

/// The right to write one workload. Nobody else gets one until it is [taken](Turn::take) or dropped.
pub(super) struct Turn {
    state: OwnedMutexGuard<State>,
    policies: BTreeSet<PolicyKey>,
    planned: Option<u64>,
    before: Duration,
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
    /// included, nor have failed at one of his. For each policy that asks for it, fewer may roll out than the
    /// policy says, and no rollout may have failed; and no more older ones may wait than there is room for.
    pub(super) async fn ask(
        &self,
        context: &Context,
        kind: Kind,
        object: &DynamicObject,
        convergence: &Convergence,
    ) -> Option<Turn> {
        let mut state = self.state.clone().lock_owned().await;
        state.heard.insert(key(kind, object), Instant::now());
        self.look(&mut state, context);
        let (_, look) = state.look.as_ref()?;
        let asking = asking(object, convergence);
        let is_free = |(policy, limit): (&PolicyKey, &usize)| {
            let queue = look.queues.get(policy);
            queue.is_none_or(|queue| queue.failed.is_empty() && queue.rolling < *limit)
        };
        // Who is blocked holds no place, and tries again whenever there is room.
        let is_next =
            look.next.contains(&place(kind, object)) || context.blocked.is_blocked(&key(kind, object));
        let has_room = is_next && look.rolling < self.limit && asking.iter().all(is_free);
        let may_begin = match progress(kind, object) {
            Progress::Complete => true,
            // What its policy broke, its policy may mend.
            unfinished => state.rollouts.get(&key(kind, object)).is_some_and(|rollout| {
                rollout.ours && (unfinished == Progress::Failed || rollout.is_stuck(kind, object))
            }),
        };
        (may_begin && has_room).then(|| Turn {
            state,
            policies: asking.into_keys().collect(),
            planned: convergence.template.as_ref().map(hash_of),
            before: patience(kind, object),
        })
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

    /// Looks around, unless that was done a moment ago, or there is nothing to see yet: what isn't listed would
    /// seem not to roll out, and whoever led before to have left nothing.
    fn look(&self, state: &mut State, context: &Context) {
        let lately = state.look.as_ref().is_some_and(|(made, _)| made.elapsed() <= LOOK);
        if lately || !context.caches.workloads().is_filled() {
            return;
        }
        let look = state.look_around(context);
        let failed = look.queues.iter().filter(|(_, queue)| !queue.failed.is_empty());
        let failed = failed.map(|(policy, queue)| (policy.clone(), queue.failed.clone()));
        let (looked, policies) = (Instant::now(), failed.collect());
        *self.failed() = Failed { looked: Some(looked), policies };
        state.look = Some((looked, look));
    }

    /// The rollouts that failed, as of the last look.
    pub(super) fn failures(&self) -> Failures {
        self.failed().policies.clone()
    }

    /// How many rollouts failed, summed up over the policies. Where nobody has looked lately, nobody is
    /// concerned any more.
    pub(super) fn count_failures(&self) -> usize {
        let failed = self.failed();
        let lately = failed.looked.is_some_and(|looked| looked.elapsed() < LATELY);
        if lately { failed.policies.values().map(BTreeSet::len).sum() } else { 0 }
    }

    fn failed(&self) -> MutexGuard<'_, Failed> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn has_room(&self, limit: usize) -> bool {
        self.failed.is_empty() && self.rolling + self.next < limit
    }
}

impl State {
    /// Whether rollouts that were begun here aren't complete.
    fn has_ours(&self) -> bool {
        self.rollouts.values().any(|rollout| rollout.ours)
    }

    fn look_around(&mut self, context: &Context) -> Look {
        let is_first = self.look.is_none();
        let mut look = Look::default();
        let mut waiting = BTreeMap::new();
        let mut surroundings: HashMap<String, Arc<Surroundings>> = HashMap::new();
        let now = Instant::now();
        // Nothing stays of workloads that are gone.
        let (mut still, mut heard, mut failures) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut tried = HashSet::new();
        for (kind, object) in context.caches.workloads().all() {
            let around = surroundings
                .entry(object.namespace().unwrap_or_default())
                .or_insert_with_key(|namespace| Arc::new(context.caches.surroundings(namespace)));
            let convergence = plan::converge(&Workload::of(kind, &object), around);
            let is_strange = convergence.standing == Standing::Unmanaged && convergence.template.is_none();
            let is_undecided = !context.caches.knows_policies_of(&object.namespace().unwrap_or_default());
            if is_strange || is_undecided || object.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let (asking, waits) = (asking(&object, &convergence), convergence.when == When::InTurn);
            let key = key(kind, &object);
            let found = Found { kind, object: &object, convergence, around };
            let known = self.rollouts.remove(&key).filter(|known| known.uid == object.metadata.uid);
            // It may be one of ours of which nobody was told.
            let unseen = is_first || self.tried.contains(&key);
            let rollout = found.rollout(known, unseen);
            let behind = rollout.as_ref().is_some_and(|(rollout, _)| rollout.is_ahead_of(&object));
            let carries = behind || found.convergence.template.is_none();
            if rollout.is_none() && !carries && self.tried.contains(&key) {
                tried.insert(key.clone());
            }
            // What failed by itself is its user's to mend, and holds up nobody.
            let may_begin = rollout.as_ref().is_none_or(|(rollout, failed)| rollout.ours && *failed);
            let plan = found.convergence.template.as_ref().filter(|_| waits).map(hash_of);
            let failed_plan =
                rollout.as_ref().and_then(|(rollout, failed)| rollout.planned.filter(|_| *failed));
            let failed_before = self.failures.get(&object.metadata.uid).copied();
            let is_undone = plan.is_some() && plan == failed_before;
            if let Some(failed) = failed_plan.or(failed_before.filter(|_| is_undone)) {
                failures.insert(object.metadata.uid.clone(), failed);
            }
            if is_undone {
                for policy in asking.keys() {
                    let queue = look.queues.entry(policy.clone()).or_default();
                    queue.failed.insert(name_for(&policy.1, &object));
                }
            }
            if let Some((rollout, failed)) = rollout {
                // Who asks for another rollout of it may mend it.
                let stays = |policy: &PolicyKey| carries || !asking.contains_key(policy);
                look.count(&object, &rollout, failed, stays);
                still.insert(key.clone(), rollout);
            }
            if !may_begin || carries || !waits || context.blocked.is_blocked(&key) {
                continue;
            }
            let last = *self.heard.get(&key).unwrap_or(&now);
            heard.insert(key, last);
            if last.elapsed() < SILENCE {
                waiting.insert(place(kind, &object), asking);
            }
        }
        (self.rollouts, self.heard, self.failures, self.tried) = (still, heard, failures, tried);
        look.choose(waiting);
        look
    }
}

impl Look {
    fn count(
        &mut self,
        object: &DynamicObject,
        rollout: &Rollout,
        failed: bool,
        stays: impl Fn(&PolicyKey) -> bool,
    ) {
        self.rolling += usize::from(!failed && rollout.ours);
        for policy in &rollout.policies {
            let queue = self.queues.entry(policy.clone()).or_default();
            if !failed {
                queue.rolling += 1;
            } else if rollout.ours && stays(policy) {
                queue.failed.insert(name_for(&policy.1, object));
            }
        }
    }

    /// Those whose turn it is, the oldest first. Who waits for one policy holds up nobody that waits for another.
    fn choose(&mut self, waiting: BTreeMap<Place, Asking>) {
        for (place, asking) in waiting {
            let has_room = |(policy, limit): (&PolicyKey, &usize)| {
                self.queues.get(policy).is_none_or(|queue| queue.has_room(*limit))
            };
            if asking.iter().all(has_room) {
                for policy in asking.into_keys() {
                    self.queues.entry(policy).or_default().next += 1;
                }
                self.next.insert(place);
            }
        }
    }
}

/// A managed workload, as a look finds it.
struct Found<'a> {
    kind: Kind,
    object: &'a DynamicObject,
    convergence: Convergence,
    around: &'a Surroundings,
}

impl Found<'_> {
    /// The rollout that it is in the middle of, if any, and whether that failed.
    fn rollout(&self, known: Option<Rollout>, unseen: bool) -> Option<(Rollout, bool)> {
        let Self { kind, object, .. } = *self;
        let known = known.map(|known| known.look(kind, object));
        let behind = known.as_ref().is_some_and(|known| known.is_ahead_of(object));
        let now = if behind { Progress::Rolling } else { progress(kind, object) };
        if now == Progress::Complete {
            return None;
        }
        let mut rollout = known.unwrap_or_else(|| self.not_known(unseen, now));
        let says_so = rollout.said_before.is_none_or(|before| said(object) != Some(before));
        // Of a DaemonSet's pods on many nodes one is always away.
        let was_complete = was_complete(kind, object) && says_so || is_updated(kind, object) && !rollout.ours;
        let broken = now == Progress::Rolling && !behind && was_complete;
        rollout.ours &= !broken;
        if !rollout.ours {
            rollout.policies = self.concerning();
        }
        // The Deployment controller doesn't always notice, and the others never do.
        let failed = broken || now == Progress::Failed || rollout.is_stuck(kind, object);
        Some((rollout, failed))
    }

    /// A rollout that nobody knew of. Whoever led before may have begun it, and seen it fail.
    fn not_known(&self, unseen: bool, now: Progress) -> Rollout {
        let Self { kind, object, .. } = *self;
        let stalled = if unseen { stalled_by(object, self.around) } else { BTreeSet::new() };
        if !stalled.is_empty() {
            return Rollout { given_up: true, ..Rollout::new(kind, object, true, stalled) };
        }
        let carries = self.convergence.template.is_none();
        let ours = unseen && carries && now == Progress::Rolling && !is_updated(kind, object);
        Rollout::new(kind, object, ours, self.concerning())
    }

    fn concerning(&self) -> BTreeSet<PolicyKey> {
        let namespace = self.object.namespace().unwrap_or_default();
        let policies = plan::concerning(&Workload::of(self.kind, self.object), &self.convergence);
        policies.iter().map(|policy| policy_key(&namespace, policy)).collect()
    }
}

/// What the workload's controller says of its rollout, for comparisons.
fn said(object: &DynamicObject) -> Option<u64> {
    progressing(object).map(hash_of)
}

/// The policies that ask for a rollout of the workload.
fn asking(object: &DynamicObject, convergence: &Convergence) -> Asking {
    let namespace = object.namespace().unwrap_or_default();
    let asking = convergence.asked_by.iter();
    asking.map(|(policy, limit)| (policy_key(&namespace, policy), *limit)).collect()
}

impl Turn {
    /// Notes that nobody knows whether it was written.
    pub(super) fn may_have_begun(mut self, key: Key) {
        self.state.tried.insert(key);
    }

    /// Notes what was written.
    pub(super) fn take(mut self, kind: Kind, written: &DynamicObject) {
        if let Some((_, look)) = &mut self.state.look {
            look.rolling += 1;
            look.next.remove(&place(kind, written));
            for policy in &self.policies {
                look.queues.entry(policy.clone()).or_default().rolling += 1;
            }
        }
        let begun = Rollout::new(kind, written, true, self.policies);
        let (planned, before, said_before) = (self.planned, self.before, said(written));
        let rollout = Rollout { planned, before, said_before, ..begun };
        self.state.rollouts.insert(key(kind, written), rollout);
    }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
