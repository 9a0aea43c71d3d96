//! Errors of disruptions.

/// Why a disruption can't begin, or is incomplete.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The workload doesn't exist.
    #[error("there is no {kind} {name:?} in the namespace {namespace:?}")]
    NotFound {
        /// Its kind.
        kind: crate::plan::Kind,
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// The workload's current state doesn't allow this disruption.
    #[error("{0}")]
    Impossible(String),
    /// RBAC doesn't allow it.
    #[error("RBAC doesn't allow you to {0}")]
    Forbidden(String),
    /// A request to the API server failed.
    #[error("{doing}")]
    Api {
        /// The action that failed.
        doing: String,
        /// The error of the request.
        source: Box<kube::Error>,
    },
    /// The disruption began, but wasn't completed.
    #[error("{0}")]
    Incomplete(String),
    /// The load in the cluster failed.
    #[error("the load in the cluster: {0}")]
    Remote(String),
}

impl Error {
    /// An error of a request to the API server, while `doing` something.
    pub(super) fn api(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        |source| Self::Api { doing: doing.into(), source: Box::new(source) }
    }
}
