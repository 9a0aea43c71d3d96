//! Why a request isn't reviewed.

use adieu_review::BadRequest;

use super::parse_budget::NoBudget;

/// Why a request isn't reviewed.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The request isn't one that this webhook reviews.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// The caches aren't filled: without policies, adieu would revert workloads. The failurePolicy decides.
    #[error("this replica has just started, and its caches are not filled yet")]
    NotSynced,
    /// The failurePolicy decides.
    #[error("too many large reviews at the same time: try again")]
    NoMemory,
}

impl From<NoBudget> for ReviewError {
    fn from(_: NoBudget) -> Self {
        Self::NoMemory
    }
}
