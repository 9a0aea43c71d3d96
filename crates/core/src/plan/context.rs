//! Policies, Services and other inputs beyond the workload itself.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

use super::{
    required_drain::Exposures,
    source::Source,
    workload::{Kind, Workload},
};
use crate::api::{ClusterGracefulPolicy, GracefulPolicy};

/// The policies, Services and capabilities in the namespace of a workload.
#[derive(Clone, Debug)]
pub struct NamespaceContext {
    /// The policies of the workload's namespace.
    pub policies: Vec<Arc<GracefulPolicy>>,
    /// The cluster policies that match its namespace.
    pub cluster_policies: Vec<Arc<ClusterGracefulPolicy>>,
    /// The Services of the workload's namespace.
    pub services: Vec<Arc<Service>>,
    /// The exposures of the pods in the namespace. `None` while they are unknown: then an automatic drain that was injected
    /// is kept.
    pub exposures: Option<Arc<dyn Exposures>>,
    /// Whether every kubelet has the native sleep action (KEP-3960: on by default from 1.30).
    pub native_sleep: bool,
    /// Whether every pod of the namespace reaches the webhook, or only those with the label
    /// [`INJECTION`](crate::api::labels::INJECTION).
    pub injection_enabled: bool,
    /// Whether a policy that may apply can't be used, for example because it can't be decoded. It may be the one that
    /// opts a workload in.
    pub has_unusable_policy: bool,
}

impl NamespaceContext {
    /// Whether the policy `source` exists.
    pub(super) fn has(&self, source: &Source) -> bool {
        match source {
            Source::Policy(name) => self.policies.iter().any(|p| p.metadata.name.as_ref() == Some(name)),
            Source::ClusterPolicy(name) => {
                self.cluster_policies.iter().any(|p| p.metadata.name.as_ref() == Some(name))
            }
            _ => false,
        }
    }
}

impl Default for NamespaceContext {
    /// An empty namespace of a current cluster.
    fn default() -> Self {
        Self {
            policies: vec![],
            cluster_policies: vec![],
            services: vec![],
            exposures: None,
            native_sleep: true,
            injection_enabled: true,
            has_unusable_policy: false,
        }
    }
}

/// The inputs of an injection other than the template and the settings.
// The flags are independent.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Copy, Debug)]
pub struct InjectionContext<'a> {
    /// The kind of the workload; `None` for a pod that no workload of `apps/v1` owns.
    pub kind: Option<Kind>,
    /// The Services of its namespace.
    pub services: &'a [Arc<Service>],
    /// Whether the workload is being created.
    pub creating: bool,
    /// Whether the request opts in a workload that exists, or changes its choice of a readiness probe: if no Service
    /// selects the pods, it gets a warning where one that is being created may get a probe.
    pub opting_in: bool,
    /// The source that opts the workload in.
    pub opted_in_by: &'a Source,
    /// Whether every kubelet has the native sleep action.
    pub native_sleep: bool,
    /// The workload's own selector.
    pub selector: Option<&'a Value>,
    /// Whether the workload's strategy is `Recreate`.
    pub recreates: bool,
    /// Whether the command line injects.
    pub rendered: bool,
}

impl<'a> InjectionContext<'a> {
    pub(super) fn of(
        workload: &Workload<'a>,
        context: &'a NamespaceContext,
        creating: bool,
        opted_in_by: &'a Source,
    ) -> Self {
        Self {
            kind: workload.kind,
            services: &context.services,
            creating,
            opting_in: false,
            opted_in_by,
            native_sleep: context.native_sleep,
            selector: workload.selector,
            recreates: workload.recreates,
            rendered: false,
        }
    }
}
