//! Turns: of the workloads that a policy holds for, only so many roll out at a time.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use kube::{ResourceExt as _, core::DynamicObject, runtime::reflector::ObjectRef};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{Context, progress::rolling_out};
use crate::{
    plan::{self, Kind, Source, Workload},
    runtime::workloads::resource,
};

/// The generations that were written: the watch may not have brought them yet.
type Written = HashMap<(Kind, ObjectRef<DynamicObject>), i64>;

#[derive(Default)]
pub(super) struct Turns(Arc<Mutex<Written>>);

/// The right to write one workload. Nobody else gets one until it is [taken](Turn::take) or dropped.
pub(super) struct Turn(OwnedMutexGuard<Written>);

impl Turns {
    /// Asks whether `object` may roll out now. It must not be in the middle of a rollout, its user's own
    /// included, and of the others that one of `policies` concerns fewer than `max_concurrent` may be: in
    /// its namespace, or everywhere where one of them is the cluster's.
    pub(super) async fn ask(
        &self,
        context: &Context,
        kind: Kind,
        object: &DynamicObject,
        policies: &BTreeSet<Source>,
        max_concurrent: usize,
    ) -> Option<Turn> {
        let mut written = self.0.clone().lock_owned().await;
        let workloads = context.caches.workloads();
        written.retain(|(kind, reference), generation| {
            let current = workloads.of(*kind).get(reference);
            current.is_some_and(|current| current.metadata.generation < Some(*generation))
        });
        let others = if policies.iter().any(|policy| matches!(policy, Source::ClusterPolicy(_))) {
            workloads.all()
        } else {
            workloads.inside(&object.namespace().unwrap_or_default())
        };
        let rolling = others
            .iter()
            .filter(|(kind, other)| rolling_out(*kind, other) && concerned(context, *kind, other, policies));
        // What the watch has yet to bring rolls out as well.
        let rolling = rolling.count() + written.len();
        (!rolling_out(kind, object) && rolling < max_concurrent).then_some(Turn(written))
    }
}

impl Turn {
    /// Notes what was written.
    pub(super) fn take(mut self, kind: Kind, written: &DynamicObject) {
        let reference = ObjectRef::from_obj_with(written, resource(kind));
        self.0.insert((kind, reference), written.metadata.generation.unwrap_or(0));
    }
}

fn concerned(context: &Context, kind: Kind, object: &DynamicObject, policies: &BTreeSet<Source>) -> bool {
    let surroundings = context.caches.surroundings(&object.namespace().unwrap_or_default());
    let workload = Workload::of(kind, object);
    let resolution = plan::resolve(&workload, &surroundings);
    !plan::concerning(&workload, &resolution).is_disjoint(policies)
}
