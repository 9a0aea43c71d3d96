//! What is known about the cluster.

use crate::Limit;

/// What is known about the cluster beyond its objects.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Limits of grace periods outside of the pods.
    pub limits: Vec<Limit>,
    /// The versions of the kubelets, such as `v1.36.3`; empty if unknown.
    pub kubelets: Vec<String>,
    /// Whether the `PodDisruptionBudgets` can't be read, so that a missing one is unknown.
    pub budgets_unknown: bool,
}
