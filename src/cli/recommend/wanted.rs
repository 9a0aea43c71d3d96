//! A time that a workload needs.

/// A time with its evidence.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WantedTime {
    /// The time that a policy has to set, in seconds; `None` if an annotation sets it, or if the drain is `Auto`.
    pub(super) seconds: Option<i64>,
    /// The time and why it is needed.
    pub(super) evidence: String,
    /// What a policy can't do.
    pub(super) note: Option<String>,
}
