//! The cluster and the user that the command line names. Like `KUBECONFIG`, they apply to the whole process.

use std::{path::PathBuf, sync::OnceLock, time::Duration};

/// The cluster, and the user to connect as. What isn't given is that of the kubeconfig's current context, or of the pod's
/// service account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// The kubeconfig file, instead of those of `KUBECONFIG`.
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig.
    pub context: Option<String>,
    /// The cluster of the kubeconfig.
    pub cluster: Option<String>,
    /// The user of the kubeconfig.
    pub user: Option<String>,
    /// The user to impersonate.
    pub impersonated_user: Option<String>,
    /// The groups to impersonate.
    pub impersonated_groups: Vec<String>,
    /// The UID to impersonate.
    pub impersonated_uid: Option<String>,
    /// The time limit for each answer.
    pub request_timeout: Option<Duration>,
}

/// That of this process.
static OF_PROCESS: OnceLock<Connection> = OnceLock::new();

impl Connection {
    /// Applies it to all clients that this process makes from now on. A second call has no effect.
    pub fn apply(self) {
        let _ = OF_PROCESS.set(self);
    }

    /// That of this process.
    pub(super) fn of_process() -> Self {
        OF_PROCESS.get().cloned().unwrap_or_default()
    }

    /// Whether it names an entry of the kubeconfig. Then the pod's service account is no substitute for it.
    pub(super) fn needs_kubeconfig(&self) -> bool {
        [&self.context, &self.cluster, &self.user].into_iter().any(Option::is_some)
    }
}
