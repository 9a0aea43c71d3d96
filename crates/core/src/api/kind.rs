//! The kinds of workload.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kinds of workload, all of `apps/v1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet.
    DaemonSet,
}

impl WorkloadKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet];

    /// The kind in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }

    /// The kind of a group, version and kind; `None` if it is not a workload.
    #[must_use]
    pub fn from_gvk(group: &str, version: &str, kind: &str) -> Option<Self> {
        let workload = group == "apps" && version == "v1";
        Self::ALL.into_iter().find(|known| workload && known.as_str() == kind)
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_workloads_of_apps_v1_have_a_kind() {
        for kind in WorkloadKind::ALL {
            assert_eq!(WorkloadKind::from_gvk("apps", "v1", kind.as_str()), Some(kind));
            assert_eq!(WorkloadKind::from_gvk("apps", "v1beta1", kind.as_str()), None);
            assert_eq!(WorkloadKind::from_gvk("apps.kruise.io", "v1", kind.as_str()), None);
        }
        assert_eq!(WorkloadKind::from_gvk("apps", "v1", "ReplicaSet"), None);
    }
}
