//! Turns: of the workloads that a policy change reaches, only so many roll out at a time, the oldest first,
//! and none after one that failed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    mem,
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use kube::{ResourceExt as _, core::DynamicObject, runtime::reflector::ObjectRef};
use tokio::{
    sync::{Mutex, OwnedMutexGuard, watch},
    time::Instant,
};

use super::{
    Context,
    keys::{Key, PolicyKey, key, policy_key},
    progress::{Progress, progress},
    rollouts::{Found, Rollout},
    stalled::{name_for, stalled_by},
};
use crate::{
    plan::{self, Convergence, Kind, Source, Standing, Surroundings, When, Workload},
    runtime::{
        caches::{changes, hash_of},
        kept::Kept,
        workloads::resource,
    },
};

/// How old a look at all workloads may be. Thousands that wait ask more often than that.
const LOOK: Duration = Duration::from_secs(2);

/// The workloads whose rollout failed, so that no other begins, by the policy that it was for.
pub(super) type Failures = BTreeMap<PolicyKey, BTreeSet<String>>;

pub(super) struct Turns {
    /// How many roll out at a time in the whole cluster, whatever policies say.
    limit: usize,
    state: Arc<Mutex<State>>,
    /// Those whose turn it is, as of the last look.
    next: watch::Sender<Vec<Key>>,
}

/// How the rollouts go that were begun here.
pub(super) struct Course {
    /// Whether some aren't complete.
    pub(super) goes_on: bool,
    pub(super) failures: Failures,
}

#[derive(Default)]
struct State {
    notes: Notes,
    look: Option<(Instant, Look)>,
}

/// What is remembered of workloads from one look to the next.
#[derive(Default)]
struct Notes {
    /// The rollouts that aren't complete.
    rollouts: HashMap<Key, Rollout>,
    /// Those that were written for all anybody knows.
    tried: HashSet<Key>,
    /// The plans that failed, as hashes, by the uids of the workloads. Who undoes such a rollout doesn't want it
    /// again.
    failed_plans: HashMap<Option<String>, u64>,
}

/// All workloads at a time.
#[derive(Default)]
struct Look {
    queues: BTreeMap<PolicyKey, Queue>,
    /// Those whose turn it is.
    next: BTreeMap<Place, Key>,
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
    rollout: Rollout,
}

fn place(kind: Kind, object: &DynamicObject) -> Place {
    let created = object.creation_timestamp().map(|time| time.0.to_string()).unwrap_or_default();
    (created, object.namespace().unwrap_or_default(), kind.as_str(), object.name_any())
}

impl Turns {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, state: Arc::default(), next: watch::Sender::default() }
    }

    /// The workloads of a kind whose turn it is, after each look. As a rule they ask by themselves every few
    /// seconds; who waits for a reason that no watch tells of doesn't, and would hold its place for ever.
    pub(super) fn called(&self, kind: Kind) -> impl Stream<Item = ObjectRef<Kept>> + Send + use<> {
        let next = self.next.subscribe();
        changes(next.clone()).flat_map(move |()| {
            let of_kind: Vec<_> = next.borrow().iter().filter(|(of, _)| *of == kind).cloned().collect();
            stream::iter(of_kind).map(|(kind, object)| {
                let namespace = object.namespace.unwrap_or_default();
                ObjectRef::new_with(&object.name, resource(kind)).within(&namespace)
            })
        })
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
        self.look(&mut state, context);
        let (_, look) = state.look.as_ref()?;
        let asking = asking(object, convergence);
        let is_free = |(policy, limit): (&PolicyKey, &usize)| {
            let queue = look.queues.get(policy);
            queue.is_none_or(|queue| queue.failed.is_empty() && queue.rolling < *limit)
        };
        // Who is blocked holds no place, and tries again whenever there is room.
        let is_next =
            look.next.contains_key(&place(kind, object)) || context.blocked.is_blocked(&key(kind, object));
        let has_room = is_next && look.rolling < self.limit && asking.iter().all(is_free);
        let may_begin = match progress(kind, object) {
            Progress::Complete => true,
            // What its policy broke, its policy may mend.
            unfinished => state.notes.rollouts.get(&key(kind, object)).is_some_and(|rollout| {
                rollout.ours && (unfinished == Progress::Failed || rollout.is_stuck(kind, object))
            }),
        };
        (may_begin && has_room).then(|| {
            let policies = asking.into_keys().collect();
            Turn { state, rollout: Rollout::planned(kind, object, convergence.template.as_ref(), policies) }
        })
    }

    /// Looks at the rollouts that were begun here, which may fail, and be mended, while nobody asks for a turn;
    /// goes on is told of `policy`, if one is given.
    pub(super) async fn follow(&self, context: &Context, policy: Option<(&str, &Source)>) -> Course {
        let mut state = self.state.lock().await;
        // Whoever led before may have left some.
        if state.look.is_none() || state.has_ours() || !state.failures().is_empty() {
            self.look(&mut state, context);
        }
        let concerned = |(namespace, policy): (&str, &Source)| {
            let queue =
                state.look.as_ref().and_then(|(_, look)| look.queues.get(&policy_key(namespace, policy)));
            queue.is_some_and(|queue| queue.rolling > 0 || !queue.failed.is_empty())
        };
        let failures = state.failures();
        let unfinished = state.has_ours() || !failures.is_empty();
        Course { goes_on: unfinished && policy.is_none_or(concerned), failures }
    }

    /// Forgets everything: another leads, and what there was is no longer so once this one does again.
    pub(super) async fn step_down(&self) {
        *self.state.lock().await = State::default();
    }

    /// Looks around, unless that was done a moment ago, or there is nothing to see yet: what isn't listed would
    /// seem not to roll out, and whoever led before to have left nothing.
    fn look(&self, state: &mut State, context: &Context) {
        let lately = state.look.as_ref().is_some_and(|(made, _)| made.elapsed() <= LOOK);
        if lately || !context.caches.workloads().is_filled() {
            return;
        }
        let look = state.look_around(context);
        self.next.send_replace(look.next.values().cloned().collect());
        state.look = Some((Instant::now(), look));
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
        self.notes.rollouts.values().any(|rollout| rollout.ours)
    }

    /// The rollouts that failed, as of the last look.
    fn failures(&self) -> Failures {
        let queues = self.look.iter().flat_map(|(_, look)| &look.queues);
        let failed = queues.filter(|(_, queue)| !queue.failed.is_empty());
        failed.map(|(policy, queue)| (policy.clone(), queue.failed.clone())).collect()
    }

    fn look_around(&mut self, context: &Context) -> Look {
        let is_first = self.look.is_none();
        let mut look = Look::default();
        let mut waiting = BTreeMap::new();
        let mut namespaces: HashMap<String, (Arc<Surroundings>, bool)> = HashMap::new();
        // Nothing stays of workloads that are gone.
        let (mut before, now) = (mem::take(&mut self.notes), &mut self.notes);
        for (kind, object) in context.caches.workloads().all() {
            let (around, is_decided) =
                namespaces.entry(object.namespace().unwrap_or_default()).or_insert_with_key(|namespace| {
                    let caches = &context.caches;
                    (Arc::new(caches.surroundings(namespace)), caches.knows_policies_of(namespace))
                });
            let convergence = plan::converge(&Workload::of(kind, &object), around);
            let is_strange = convergence.standing == Standing::Unmanaged && convergence.template.is_none();
            if is_strange || !*is_decided || object.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let (asking, waits) = (asking(&object, &convergence), convergence.when == When::InTurn);
            let key = key(kind, &object);
            let found = Found { kind, object: &object, convergence, around };
            let known = before.rollouts.remove(&key).filter(|known| known.uid == object.metadata.uid);
            // It may be one of ours of which nobody was told.
            let unseen = is_first || before.tried.contains(&key);
            let rollout = found.rollout(known, unseen);
            let behind = rollout.as_ref().is_some_and(|(rollout, _)| rollout.is_ahead_of(&object));
            let carries = behind || found.convergence.template.is_none();
            if rollout.is_none() && !carries && before.tried.contains(&key) {
                now.tried.insert(key.clone());
            }
            // What failed by itself is its user's to mend, and holds up nobody.
            let may_begin = rollout.as_ref().is_none_or(|(rollout, failed)| rollout.ours && *failed);
            let failed_plan =
                rollout.as_ref().and_then(|(rollout, failed)| rollout.planned.filter(|_| *failed));
            // Whoever led before may have told of it.
            let told = || {
                let stalled = if is_first { stalled_by(&object, around, true) } else { BTreeSet::new() };
                stalled.iter().any(|policy| asking.contains_key(policy))
            };
            let failed_before = before.failed_plans.get(&object.metadata.uid);
            let may_be_undone = waits && !carries && (failed_before.is_some() || told());
            let plan = found.convergence.template.as_ref().filter(|_| may_be_undone).map(hash_of);
            let undone = plan.filter(|plan| failed_before.is_none_or(|failed| failed == plan));
            if let Some(failed) = failed_plan.or(undone) {
                now.failed_plans.insert(object.metadata.uid.clone(), failed);
            }
            if undone.is_some() {
                for policy in asking.keys() {
                    let queue = look.queues.entry(policy.clone()).or_default();
                    queue.failed.insert(name_for(&policy.1, &object));
                }
            }
            if let Some((rollout, failed)) = rollout {
                // Who asks for another rollout of it may mend it.
                let stays = |policy: &PolicyKey| carries || !asking.contains_key(policy);
                look.count(&object, &rollout, failed, stays);
                now.rollouts.insert(key.clone(), rollout);
            }
            if may_begin && !carries && waits && !context.blocked.is_blocked(&key) {
                waiting.insert(place(kind, &object), (key, asking));
            }
        }
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
    fn choose(&mut self, waiting: BTreeMap<Place, (Key, Asking)>) {
        for (place, (key, asking)) in waiting {
            let has_room = |(policy, limit): (&PolicyKey, &usize)| {
                self.queues.get(policy).is_none_or(|queue| queue.has_room(*limit))
            };
            if asking.iter().all(has_room) {
                for policy in asking.into_keys() {
                    self.queues.entry(policy).or_default().next += 1;
                }
                self.next.insert(place, key);
            }
        }
    }
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
        self.state.notes.tried.insert(key);
    }

    /// Notes what was written.
    pub(super) fn take(mut self, kind: Kind, written: &DynamicObject) {
        if let Some((_, look)) = &mut self.state.look {
            look.rolling += 1;
            look.next.remove(&place(kind, written));
            for policy in &self.rollout.policies {
                look.queues.entry(policy.clone()).or_default().rolling += 1;
            }
        }
        let rollout = self.rollout.begun(written);
        self.state.notes.rollouts.insert(key(kind, written), rollout);
    }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
