//! Turns: of the workloads that a policy holds for, only so many roll out at a time.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use kube::{ResourceExt as _, core::DynamicObject, runtime::reflector::ObjectRef};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{Context, progress::rolling_out};
use crate::{
    plan::{self, Kind, Source, Surroundings, Workload},
    runtime::workloads::resource,
};

/// The last write per namespace: the watch may not have brought it yet.
type Last = HashMap<String, (Kind, ObjectRef<DynamicObject>, i64)>;

#[derive(Default)]
pub(super) struct Turns(Arc<Mutex<Last>>);

/// The right to write one workload. Nobody else gets one until it is [taken](Turn::take) or dropped.
pub(super) struct Turn(OwnedMutexGuard<Last>);

impl Turns {
    /// Asks whether `object` may roll out now. It must not be in the middle of a rollout, its user's own
    /// included, and of the others that one of `policies` concerns fewer than `max_concurrent` may be.
    pub(super) async fn ask(
        &self,
        context: &Context,
        kind: Kind,
        object: &DynamicObject,
        policies: &BTreeSet<&Source>,
        max_concurrent: usize,
    ) -> Option<Turn> {
        let last = self.0.clone().lock_owned().await;
        let namespace = object.namespace().unwrap_or_default();
        let seen = last.get(&namespace).is_none_or(|(kind, reference, generation)| {
            let current = context.caches.workloads().of(*kind).get(reference);
            current.is_none_or(|current| current.metadata.generation >= Some(*generation))
        });
        let surroundings = context.caches.surroundings(&namespace);
        let others = context.caches.workloads().inside(&namespace);
        let rolling = others.iter().filter(|(kind, other)| {
            rolling_out(*kind, other) && concerned(*kind, other, policies, &surroundings)
        });
        let free = seen && !rolling_out(kind, object) && rolling.count() < max_concurrent;
        free.then_some(Turn(last))
    }
}

impl Turn {
    /// Notes what was written.
    pub(super) fn take(mut self, kind: Kind, written: &DynamicObject) {
        let reference = ObjectRef::from_obj_with(written, resource(kind));
        let generation = written.metadata.generation.unwrap_or(0);
        self.0.insert(written.namespace().unwrap_or_default(), (kind, reference, generation));
    }
}

fn concerned(
    kind: Kind,
    object: &DynamicObject,
    policies: &BTreeSet<&Source>,
    surroundings: &Surroundings,
) -> bool {
    !plan::resolve(&Workload::of(kind, object), surroundings).policies().is_disjoint(policies)
}
