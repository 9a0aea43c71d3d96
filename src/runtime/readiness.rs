//! Readiness: the conditions that must be met before the API server may call the webhook.
//! `src/cli/controller.rs` adds them.

use std::sync::{Arc, Mutex, PoisonError};

/// The checks that have not passed yet. The process is ready when there is none.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    pending_checks: Arc<Mutex<Vec<&'static str>>>,
}

/// A condition for readiness, until it [passes](ReadinessCheck::pass). If it is dropped, by a task that failed, it
/// never passes.
#[derive(Debug)]
pub struct ReadinessCheck {
    name: &'static str,
    readiness: Readiness,
}

impl Readiness {
    /// Adds a check that has not passed.
    #[must_use]
    pub fn check(&self, name: &'static str) -> ReadinessCheck {
        self.add(name);
        ReadinessCheck { name, readiness: self.clone() }
    }

    /// Fails readiness permanently: the process shuts down.
    pub fn shut_down(&self) {
        self.add("shutdown");
    }

    /// The names of the checks that have not passed; empty when ready.
    #[must_use]
    pub fn pending_checks(&self) -> Vec<&'static str> {
        self.pending_checks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, name: &'static str) {
        self.pending_checks.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }
}

impl ReadinessCheck {
    /// The condition is met.
    pub fn pass(self) {
        let mut waiting = self.readiness.pending_checks.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|name| *name != self.name);
        tracing::info!(check = self.name, remaining = waiting.len(), "readiness check passed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_all_checks_have_passed_and_no_shutdown() {
        let readiness = Readiness::default();
        let (a, b) = (readiness.check("a"), readiness.check("b"));
        assert_eq!(readiness.pending_checks(), ["a", "b"]);
        a.pass();
        drop(b);
        assert_eq!(readiness.pending_checks(), ["b"]);

        let readiness = Readiness::default();
        assert!(readiness.pending_checks().is_empty());
        readiness.shut_down();
        assert!(!readiness.pending_checks().is_empty());
    }
}
