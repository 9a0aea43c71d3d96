//! The workloads that have to be evaluated again, until the evaluator takes them.

use std::{
    collections::BTreeSet,
    mem::take,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::keys::WorkloadKey;

/// The maximum number of workloads, of Services, and of namespaces in a batch. A replica that doesn't lead takes no batches;
/// with more marks, all workloads are evaluated, and with more Services those of their namespaces: one tenant's routes can
/// name thousands.
const LIMIT: usize = 10_000;

/// The workloads that have to be evaluated again.
#[derive(Clone, Debug, Default)]
pub struct Dirty(Arc<(Mutex<Batch>, Notify)>);

/// The marks since the last batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) all: bool,
    pub(super) namespaces: BTreeSet<String>,
    /// Services whose exposures changed, by namespace and name.
    pub(super) services: BTreeSet<(String, String)>,
    pub(super) workloads: BTreeSet<WorkloadKey>,
}

impl Batch {
    /// Replaces too many marks by fewer that comprise them.
    fn limit(&mut self) {
        if self.services.len() > LIMIT {
            let services = take(&mut self.services).into_iter();
            self.namespaces.extend(services.map(|(namespace, _)| namespace));
        }
        if self.workloads.len().max(self.namespaces.len()) > LIMIT {
            *self = Self { all: true, ..Self::default() };
        }
    }
}

impl Dirty {
    /// Marks a workload that was changed or deleted.
    pub fn workload(&self, key: WorkloadKey) {
        self.mark(|batch| {
            batch.workloads.insert(key);
            batch.limit();
        });
    }

    /// Marks the workloads whose pods a Service selects.
    pub fn service(&self, namespace: &str, name: &str) {
        self.mark(|batch| {
            if !batch.namespaces.contains(namespace) {
                batch.services.insert((namespace.to_owned(), name.to_owned()));
                batch.limit();
            }
        });
    }

    /// Marks all workloads of a namespace.
    pub fn namespace(&self, namespace: &str) {
        self.mark(|batch| {
            batch.namespaces.insert(namespace.to_owned());
            batch.limit();
        });
    }

    /// Marks all workloads.
    pub fn all(&self) {
        self.mark(|batch| *batch = Batch { all: true, ..Batch::default() });
    }

    /// Waits for a mark, and takes the batch.
    pub(super) async fn take(&self) -> Batch {
        loop {
            let batch = take(&mut *self.batch());
            if batch != Batch::default() {
                return batch;
            }
            self.0.1.notified().await;
        }
    }

    fn mark(&self, change: impl FnOnce(&mut Batch)) {
        {
            let mut batch = self.batch();
            if batch.all {
                return;
            }
            change(&mut batch);
        }
        self.0.1.notify_one();
    }

    fn batch(&self) -> MutexGuard<'_, Batch> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::api::WorkloadKind as Kind;

    fn key(name: &str) -> WorkloadKey {
        WorkloadKey { namespace: "shop".into(), kind: Kind::Deployment, name: name.into() }
    }

    #[tokio::test]
    async fn marking_all_workloads_replaces_single_marks() {
        let dirty = Dirty::default();
        dirty.workload(key("a"));
        dirty.namespace("bank");
        let batch = dirty.take().await;
        assert_eq!((batch.all, batch.namespaces.len(), batch.workloads.len()), (false, 1, 1));
        assert!(dirty.take().now_or_never().is_none());
        dirty.all();
        dirty.workload(key("a"));
        assert_eq!(dirty.take().await, Batch { all: true, ..Batch::default() });
        for number in 0..=LIMIT {
            dirty.workload(key(&number.to_string()));
        }
        assert!(dirty.take().await.all);
        for number in 0..=LIMIT {
            dirty.namespace(&number.to_string());
        }
        assert!(dirty.take().await.all);
    }

    #[tokio::test]
    async fn many_services_of_a_namespace_mark_only_its_workloads() {
        let dirty = Dirty::default();
        for number in 0..2 * LIMIT {
            dirty.service("shop", &number.to_string());
        }
        dirty.service("bank", "web");
        let expected = Batch {
            namespaces: ["shop".to_owned()].into(),
            services: [("bank".to_owned(), "web".to_owned())].into(),
            ..Batch::default()
        };
        assert_eq!(dirty.take().await, expected);
    }
}
