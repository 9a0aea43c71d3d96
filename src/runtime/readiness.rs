//! Readiness: everything that must be there before the webhook may be called.

use std::sync::{Arc, Mutex, PoisonError};

/// What the process still waits for. Ready when nothing is left.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    waiting_for: Arc<Mutex<Vec<&'static str>>>,
}

/// One thing that is waited for, until it is [opened](Gate::open). A gate that is merely dropped, by a
/// task that failed, stays shut.
#[derive(Debug)]
pub struct Gate {
    name: &'static str,
    readiness: Readiness,
}

impl Readiness {
    /// A thing to wait for.
    #[must_use]
    pub fn gate(&self, name: &'static str) -> Gate {
        self.add(name);
        Gate { name, readiness: self.clone() }
    }

    /// Fails readiness for good: the process is about to end.
    pub fn shut_down(&self) {
        self.add("shutdown: no new requests, please");
    }

    /// The names of what is waited for; empty when ready.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<&'static str> {
        self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, name: &'static str) {
        self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }
}

impl Gate {
    /// What the gate stands for is there.
    pub fn open(self) {
        let mut waiting = self.readiness.waiting_for.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|name| *name != self.name);
        tracing::info!(gate = self.name, remaining = waiting.len(), "ready");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_every_gate_is_open_and_no_shutdown() {
        let readiness = Readiness::default();
        let (a, b) = (readiness.gate("a"), readiness.gate("b"));
        assert_eq!(readiness.waiting_for(), ["a", "b"]);
        a.open();
        drop(b);
        assert_eq!(readiness.waiting_for(), ["b"]);

        let readiness = Readiness::default();
        assert!(readiness.waiting_for().is_empty());
        readiness.shut_down();
        assert!(!readiness.waiting_for().is_empty());
    }
}
