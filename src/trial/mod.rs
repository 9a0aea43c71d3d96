//! Makes a workload go through a disruption, and follows what its pods do meanwhile.

mod access;
mod disrupt;
mod disruption;
mod follow;
mod node;
mod remote;
#[cfg(test)]
pub(crate) mod test_support;
mod workload;

pub use access::check as check_access;
pub use disrupt::Trial;
pub use disruption::Disruption;
pub use follow::follow;
pub use remote::{Image, Job, operator_image};
pub use workload::Workload;

/// Why a trial can't begin, or didn't come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such workload.
    #[error("there is no {kind} {name:?} in the namespace {namespace:?}")]
    NotFound {
        /// Its kind.
        kind: crate::plan::Kind,
        /// Its name.
        name: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// The workload can't go through this disruption as it stands.
    #[error("{0}")]
    Impossible(String),
    /// RBAC is in the way.
    #[error("RBAC doesn't let you {0}")]
    Forbidden(String),
    /// The API server said no, or nothing.
    #[error("{doing}")]
    Api {
        /// What was being done.
        doing: String,
        /// What came back.
        source: Box<kube::Error>,
    },
    /// The disruption began, but didn't come to its end.
    #[error("{0}")]
    Incomplete(String),
    /// The load in the cluster didn't run to its end.
    #[error("the load in the cluster: {0}")]
    Remote(String),
}

impl Error {
    /// An error of the API server, met while `doing` something.
    fn api(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        |source| Self::Api { doing: doing.into(), source: Box::new(source) }
    }
}
