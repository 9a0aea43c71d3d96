//! Readiness: the conditions that must be met before the API server may call the webhook.

use std::sync::{Arc, Mutex, PoisonError};

/// The gates that are still closed. The process is ready when all are open.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    waiting_for: Arc<Mutex<Vec<&'static str>>>,
}

/// A condition for readiness, until it is [opened](Gate::open). A gate that is dropped, by a task that failed, stays
/// closed.
#[derive(Debug)]
pub struct Gate {
    name: &'static str,
    readiness: Readiness,
}

impl Readiness {
    /// Adds a closed gate.
    #[must_use]
    pub fn gate(&self, name: &'static str) -> Gate {
        self.add(name);
        Gate { name, readiness: self.clone() }
    }

    /// Fails readiness permanently: the process shuts down.
    pub fn shut_down(&self) {
        self.add("shutdown");
    }

    /// The names of the closed gates; empty when ready.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<&'static str> {
        self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, name: &'static str) {
        self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }
}

impl Gate {
    /// Opens the gate: its condition is met.
    pub fn open(self) {
        let mut waiting = self.readiness.waiting_for.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|name| *name != self.name);
        tracing::info!(gate = self.name, remaining = waiting.len(), "readiness gate opened");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_all_gates_are_open_and_no_shutdown() {
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
