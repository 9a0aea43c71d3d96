//! Errors of disruptions.

use crate::runtime::api_errors::describe;

/// Why a disruption can't begin, or is incomplete.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The workload doesn't exist.
    #[error("{kind} {name:?} not found in namespace {namespace:?}")]
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
    #[error("missing RBAC permissions: {0}")]
    Forbidden(String),
    /// A request to the API server failed.
    #[error("cannot {operation}")]
    Api {
        /// The failed action, as an infinitive.
        operation: String,
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
    /// An error of a request to the API server, for an operation such as `list the nodes`.
    pub(crate) fn api(operation: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        |source| Self::Api { operation: operation.into(), source: Box::new(source) }
    }

    /// The error with its cause, each once, for a message about more than this error.
    pub(crate) fn with_cause(&self) -> String {
        match self {
            Self::Api { source, .. } => format!("{self}: {}", describe(source)),
            error => error.to_string(),
        }
    }
}
