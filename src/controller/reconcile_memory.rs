//! The memory that workloads may take while they are reconciled: parsed they take many times the memory of their text,
//! and several are reconciled at a time.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::index::cached_workload::CachedWorkload;

/// The unit that is counted, in bytes.
const UNIT: usize = 1 << 10;
/// How many units workloads may take together. Only unusually large ones wait for others.
const UNITS: u32 = 12 << 10;

/// The memory for parsed workloads.
pub(super) struct ReconcileMemory(Semaphore);

impl Default for ReconcileMemory {
    fn default() -> Self {
        Self(Semaphore::new(UNITS as usize))
    }
}

impl ReconcileMemory {
    /// Waits until there is memory for a workload, and holds it until the permit is dropped.
    pub(super) async fn reserve(&self, cached: &CachedWorkload) -> Option<SemaphorePermit<'_>> {
        let units = u32::try_from(cached.parsed_size().div_ceil(UNIT)).unwrap_or(UNITS);
        // It is never closed.
        self.0.acquire_many(units.clamp(1, UNITS)).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures::poll;
    use kube::core::DynamicObject;
    use serde_json::{Value, json};

    use super::*;

    fn cached(spec: &Value) -> CachedWorkload {
        let object = json!({"metadata": {"name": "web"}, "spec": spec});
        serde_json::from_value::<DynamicObject>(object).unwrap().into()
    }

    #[tokio::test]
    async fn large_workloads_wait_for_each_other_and_ordinary_ones_do_not() {
        let memory = ReconcileMemory::default();
        let large = cached(&json!({"env": vec![json!({"name": "A"}); 5_000]}));
        let mut held = vec![];
        while let Poll::Ready(permit) = poll!(Box::pin(memory.reserve(&large))) {
            held.push(permit);
        }
        assert!((1..5).contains(&held.len()), "{}", held.len());
        held.clear();
        let ordinary = cached(&json!({"env": vec![json!({"name": "A"}); 50]}));
        for _ in 0..100 {
            let Poll::Ready(permit) = poll!(Box::pin(memory.reserve(&ordinary))) else { panic!("it waits") };
            held.push(permit);
        }
    }
}
