//! Turns: of the workloads that a policy change reaches, only so many roll out at a time, the oldest first,
//! and none after one that failed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    mem,
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::jiff::Timestamp;
use kube::{core::DynamicObject, runtime::reflector::ObjectRef};
use tokio::{
    sync::{Mutex, OwnedMutexGuard, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    Context,
    keys::{Key, PolicyKey},
    rollouts::{Found, Rollout},
    stalled::{name_for, stalled_by},
};
use crate::{
    index::{Decision, Evaluation, caches::changes, kept::Kept, progress::Progress, workloads::resource},
    plan::{Kind, Standing, Surroundings, When},
};

/// How old a look at all workloads may be, even where nothing changed that any watch tells of: a rollout may have
/// come no further for too long.
const LOOK: Duration = Duration::from_secs(2);
/// How long changes are let come together before all workloads are looked at.
const TOGETHER: Duration = Duration::from_millis(100);

/// The workloads whose rollout failed, so that no other begins, by the policy that it was for.
pub(super) type Failures = BTreeMap<PolicyKey, BTreeSet<String>>;

pub(super) struct Turns {
    /// How many roll out at a time in the whole cluster, whatever policies say.
    limit: usize,
    state: Arc<Mutex<State>>,
    /// Those whose turn it is, as of the last look.
    next: watch::Sender<Vec<Key>>,
}

#[derive(Default)]
struct State {
    notes: Notes,
    look: Option<Looked>,
    /// The term of the index that this is about.
    term: u64,
}

/// What a look found, and as of when.
struct Looked {
    made: Instant,
    version: u64,
    look: Look,
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
    /// Whether any rollout goes on that may yet fail.
    goes_on: bool,
}

/// Where a workload stands among those that wait: by the time of its creation, then by namespace, kind and name.
type Place = (Option<Timestamp>, Key);

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
    key: Key,
    created: Option<Timestamp>,
    rollout: Rollout,
}

fn place(key: &Key, decision: &Decision) -> Place {
    (decision.created, key.clone())
}

impl Turns {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, state: Arc::default(), next: watch::Sender::default() }
    }

    /// The workloads of a kind whose turn it is, after each look.
    pub(super) fn called(&self, kind: Kind) -> impl Stream<Item = ObjectRef<Kept>> + Send + use<> {
        let next = self.next.subscribe();
        changes(next.clone()).flat_map(move |()| {
            let of_kind: Vec<_> = next.borrow().iter().filter(|key| key.kind == kind).cloned().collect();
            stream::iter(of_kind).map(|key| reference(&key))
        })
    }

    /// Looks whenever something changed, and every now and then while rollouts go on, which may fail by coming no
    /// further; requeues the workloads whose turn it is, and the policies that it concerns.
    pub(super) async fn drive(&self, context: &Context) {
        let mut version = context.index.version();
        let mut leads = context.replica.leads.clone();
        loop {
            if !*leads.borrow_and_update() {
                self.step_down().await;
                if leads.wait_for(|leads| *leads).await.is_err() {
                    return;
                }
            }
            let unfinished = self.follow(context).await;
            let changed = async {
                tokio::select! {
                    changed = version.changed() => changed,
                    changed = leads.changed() => changed,
                }
            };
            if unfinished {
                drop(timeout(LOOK, changed).await);
            } else if changed.await.is_err() {
                return;
            }
            sleep(TOGETHER).await;
        }
    }

    /// Asks whether the workload may roll out now, whose plan is `planned`. It must not be in the middle of a
    /// rollout, its user's own included, nor have failed at one of his. For each policy that asks for it, fewer may
    /// roll out than the policy says, and no rollout may have failed; and no more older ones may wait than there is
    /// room for.
    pub(super) async fn ask(
        &self,
        context: &Context,
        key: &Key,
        (uid, generation): (Option<&String>, Option<i64>),
        planned: u64,
    ) -> Option<Turn> {
        let mut state = self.state.clone().lock_owned().await;
        self.look(&mut state, context);
        let Looked { look, .. } = state.look.as_ref()?;
        // What was evaluated is what is to be written.
        let evaluation = context.index.get(key).filter(|evaluation| {
            let Evaluation { decision, rollout } = evaluation.as_ref();
            let is_same = decision.uid.as_ref() == uid && rollout.generation == generation;
            is_same && decision.planned == Some(planned)
        })?;
        let Evaluation { decision, rollout: at } = evaluation.as_ref();
        let is_free = |(policy, limit): (&PolicyKey, &usize)| {
            let queue = look.queues.get(policy);
            queue.is_none_or(|queue| queue.failed.is_empty() && queue.rolling < *limit)
        };
        // Who is blocked holds no place, and tries again whenever there is room.
        let is_next = look.next.contains_key(&place(key, decision)) || context.blocked.is_blocked(key);
        let has_room = is_next && look.rolling < self.limit && decision.asked_by.iter().all(is_free);
        let may_begin = match at.progress {
            Progress::Complete => true,
            // What its policy broke, its policy may mend.
            unfinished => state.notes.rollouts.get(key).is_some_and(|rollout| {
                rollout.ours && (unfinished == Progress::Failed || rollout.is_stuck(at))
            }),
        };
        (may_begin && has_room).then(|| {
            let policies = decision.asked_by.keys().cloned().collect();
            let (key, created) = (key.clone(), decision.created);
            Turn { state, key, created, rollout: Rollout::planned(&evaluation, policies) }
        })
    }

    /// Looks at the rollouts that were begun here, which may fail, and be fixed, while no workload asks for a turn.
    /// Whether some aren't complete.
    pub(super) async fn follow(&self, context: &Context) -> bool {
        let mut state = self.state.lock().await;
        self.look(&mut state, context);
        // Whosever it is, it holds a place until it has failed, of which no watch tells.
        state.look.as_ref().is_some_and(|looked| looked.look.goes_on)
    }

    /// The rollouts that failed, as of the last look.
    pub(super) async fn failures(&self) -> Failures {
        self.state.lock().await.failures()
    }

    /// Forgets everything: another leads, and what there was is no longer so once this one does again.
    pub(super) async fn step_down(&self) {
        let mut state = self.state.lock().await;
        *state = State { term: state.term, ..State::default() };
    }

    /// Looks around, unless nothing can have changed since that was done, or there is nothing to see yet: what isn't
    /// evaluated would seem not to roll out, and the previous leader to have left nothing.
    fn look(&self, state: &mut State, context: &Context) {
        let term = context.index.term();
        if state.term != term {
            *state = State { term, ..State::default() };
        }
        let (made, version) = (Instant::now(), *context.index.version().borrow());
        let lately = state.look.as_ref().is_some_and(|look| {
            let age = look.made.elapsed();
            age <= TOGETHER || age <= LOOK && look.version == version
        });
        if lately || !context.index.is_complete() {
            return;
        }
        let before = state.failures();
        let look = state.look_around(context);
        if look.rolling < self.limit {
            self.next.send_replace(look.next.values().cloned().collect());
        }
        state.look = Some(Looked { made, version, look });
        let now = state.failures();
        let differ = |policy: &&PolicyKey| before.get(*policy) != now.get(*policy);
        let policies: BTreeSet<_> = before.keys().chain(now.keys()).filter(differ).cloned().collect();
        // Also those that wait for one of them.
        let waiting = policies.iter().flat_map(|policy| context.index.of_policy(policy));
        let waiting: BTreeSet<_> =
            waiting.flat_map(|(_, evaluation)| evaluation.decision.counted_by.clone()).collect();
        if !policies.is_empty() {
            context.index.touch_policies(policies.union(&waiting).cloned());
            // Metrics count what failed.
            context.index.bump();
        }
    }
}

/// How a controller finds it.
pub(super) fn reference(key: &Key) -> ObjectRef<Kept> {
    ObjectRef::new_with(&key.name, resource(key.kind)).within(&key.namespace)
}

impl Queue {
    fn has_room(&self, limit: usize) -> bool {
        self.failed.is_empty() && self.rolling + self.next < limit
    }
}

impl State {
    /// The rollouts that failed, as of the last look.
    fn failures(&self) -> Failures {
        let queues = self.look.iter().flat_map(|looked| &looked.look.queues);
        let failed = queues.filter(|(_, queue)| !queue.failed.is_empty());
        failed.map(|(policy, queue)| (policy.clone(), queue.failed.clone())).collect()
    }

    fn look_around(&mut self, context: &Context) -> Look {
        let is_first = self.look.is_none();
        let mut look = Look::default();
        let mut waiting = BTreeMap::new();
        let mut namespaces: HashMap<String, Surroundings> = HashMap::new();
        // Nothing stays of workloads that are gone.
        let (mut before, now) = (mem::take(&mut self.notes), &mut self.notes);
        for (key, evaluation) in context.index.all() {
            let Evaluation { decision, rollout: at } = evaluation.as_ref();
            let is_strange = decision.standing == Standing::Unmanaged && decision.planned.is_none();
            if decision.too_large || is_strange {
                continue;
            }
            let known = before.rollouts.remove(&key).filter(|known| known.uid == decision.uid);
            let waits = decision.planned.is_some() && decision.when == When::InTurn;
            let was_tried = before.tried.contains(&key);
            if known.is_none() && at.progress == Progress::Complete && !waits && !was_tried {
                // As a rule there is nothing more to see.
                continue;
            }
            // It may be one of ours of which nobody was told.
            let unseen = is_first || was_tried;
            let around = unseen.then(|| {
                &*namespaces
                    .entry(key.namespace.clone())
                    .or_insert_with_key(|namespace| context.caches.surroundings(namespace))
            });
            let found = Found { key: &key, evaluation: &evaluation, around };
            let rollout = found.rollout(known);
            let behind = rollout.as_ref().is_some_and(|(rollout, _)| rollout.is_ahead_of(at));
            let carries = behind || decision.planned.is_none();
            if rollout.is_none() && !carries && was_tried {
                now.tried.insert(key.clone());
            }
            // What failed by itself is its user's to mend, and holds up nobody.
            let may_begin = rollout.as_ref().is_none_or(|(rollout, failed)| rollout.ours && *failed);
            let failed_plan =
                rollout.as_ref().and_then(|(rollout, failed)| rollout.planned.filter(|_| *failed));
            // Whoever led before may have told of it.
            let told = || {
                let stalled = around.filter(|_| is_first).map(|around| stalled_by(&key, around, true));
                stalled.iter().flatten().any(|policy| decision.asked_by.contains_key(policy))
            };
            let failed_before = before.failed_plans.get(&decision.uid);
            let may_be_undone = waits && !carries && (failed_before.is_some() || told());
            let plan = decision.planned.filter(|_| may_be_undone);
            let undone = plan.filter(|plan| failed_before.is_none_or(|failed| failed == plan));
            if let Some(failed) = failed_plan.or(undone) {
                now.failed_plans.insert(decision.uid.clone(), failed);
            }
            if undone.is_some() {
                for policy in decision.asked_by.keys() {
                    let queue = look.queues.entry(policy.clone()).or_default();
                    queue.failed.insert(name_for(policy.source(), &key));
                }
            }
            if let Some((rollout, failed)) = rollout {
                // Who asks for another rollout of it may mend it.
                let stays = |policy: &PolicyKey| carries || !decision.asked_by.contains_key(policy);
                look.count(&key, &rollout, failed, stays);
                now.rollouts.insert(key.clone(), rollout);
            }
            if may_begin && !carries && waits && !context.blocked.is_blocked(&key) {
                waiting.insert(place(&key, decision), (key, decision.asked_by.clone()));
            }
        }
        look.choose(waiting);
        look
    }
}

impl Look {
    fn count(&mut self, key: &Key, rollout: &Rollout, failed: bool, stays: impl Fn(&PolicyKey) -> bool) {
        self.rolling += usize::from(!failed && rollout.ours);
        self.goes_on |= !failed;
        for policy in &rollout.policies {
            let queue = self.queues.entry(policy.clone()).or_default();
            if !failed {
                queue.rolling += 1;
            } else if rollout.ours && stays(policy) {
                queue.failed.insert(name_for(policy.source(), key));
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

impl Turn {
    /// Notes that nobody knows whether it was written.
    pub(super) fn may_have_begun(mut self) {
        let key = self.key;
        self.state.notes.tried.insert(key);
    }

    /// Notes what was written.
    pub(super) fn take(mut self, written: &DynamicObject) {
        if let Some(Looked { look, .. }) = &mut self.state.look {
            look.rolling += 1;
            look.next.remove(&(self.created, self.key.clone()));
            for policy in &self.rollout.policies {
                look.queues.entry(policy.clone()).or_default().rolling += 1;
            }
        }
        let rollout = self.rollout.begun(written);
        self.state.notes.rollouts.insert(self.key, rollout);
    }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
