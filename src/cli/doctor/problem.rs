//! The problems that `adieu doctor` reports, each with its remedy.

use crate::runtime::{api_errors::describe, client::is_unreachable};

/// The suffix of the names of adieu's webhooks.
pub(super) const WEBHOOKS: &str = ".adieu.dev";

/// The oldest supported version of Kubernetes, as in the chart.
pub(super) const OLDEST_VERSION: &str = "1.30";

/// What was checked, or the problem.
pub(super) type Check = Result<String, Problem>;

/// A problem, and its remedy.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// No answer, or an error that isn't about adieu.
    #[error(
        "{}\n  Check the kubeconfig (--kubeconfig, KUBECONFIG) and its context (--context), its certificates and your \
         permissions.",
        not_reached(.0)
    )]
    Unreachable(#[source] kube::Error),
    /// The CRDs are missing.
    #[error(
        "the API server does not serve {0} (adieu.dev/v1alpha1)\n  Install the CRDs: set the chart's crds.enabled to true, or \
         run adieu crd | kubectl apply --server-side -f -"
    )]
    NotServed(String),
    /// RBAC denies the dry run.
    #[error(
        "you cannot create Deployments in {namespace}: {reason}\n  Use another account, or another namespace \
         (--namespace)."
    )]
    NotPermitted { namespace: String, reason: String },
    /// The webhook fails closed and can't be called.
    #[error(
        "the API server cannot call adieu and rejects workloads: {0}\n  Check that its replicas are ready, and \
         that no NetworkPolicy or firewall blocks the API server from their port webhook."
    )]
    NotCalled(String),
    /// The Deployment is rejected for another reason than injection.
    #[error(
        "a Deployment in {namespace} is rejected: {reason}\n  Use another namespace (--namespace; in the chart \
         test.namespace), or another image (--image)."
    )]
    Rejected { namespace: String, reason: String },
    /// The webhook is called, but doesn't inject.
    #[error(
        "the webhook is called for a Deployment in {0}, but injects nothing\n  A policy with mode Audit or injectionTarget \
         Pod, or a maximum grace period that is too low, applies there: see kubectl get \
         gracefulpolicies,clustergracefulpolicies --namespace {0}, or use another namespace."
    )]
    NotInjected(String),
    /// There is no configuration with adieu's webhooks.
    #[error("no MutatingWebhookConfiguration has webhooks of adieu\n  Install adieu: helm install adieu …")]
    NotInstalled,
    /// The operator has not written its CA yet, or can't.
    #[error(
        "the MutatingWebhookConfiguration {0} has no caBundle\n  The leader writes it, or cert-manager if you use it: \
         see the logs."
    )]
    NoBundle(String),
    /// The configuration excludes the namespace.
    #[error("the webhook ignores the namespace {0}\n  Use another one: --namespace.")]
    Excluded(String),
    /// The webhook isn't called, for an unknown reason.
    #[error(
        "a Deployment in {0} is not changed: the API server does not call the webhook, or the call times out\n  Check that its replicas \
         are ready, and that no NetworkPolicy or firewall blocks the API server from their port webhook."
    )]
    NotCalledSilently(String),
    /// The grace period is longer than these nodes' shutdown allows.
    #[error(
        "when these nodes shut down, their kubelets give pods less than the grace period of {grace_period} s: {nodes}\n  \
         Drain a node before it shuts down, or raise shutdownGracePeriod in its kubelet's configuration."
    )]
    ShortShutdown { grace_period: i64, nodes: String },
    /// The cluster is too old.
    #[error(
        "the API server has the version {0}, and adieu needs {oldest} or later\n  Upgrade the cluster. `adieu inject` \
         renders manifests for older ones.",
        oldest = OLDEST_VERSION
    )]
    OldVersion(String),
    /// RBAC denies the installation.
    #[error(
        "you cannot install the chart, because these rights are missing: {0}\n  Use another account, such as one with the \
         ClusterRole cluster-admin."
    )]
    MissingRights(String),
    /// Webhooks can't be registered.
    #[error(
        "the API server does not serve {0} (admissionregistration.k8s.io/v1)\n  Enable that API: adieu needs it."
    )]
    NoAdmission(String),
    /// There is an installation.
    #[error(
        "adieu is installed already: MutatingWebhookConfiguration {0}\n  Upgrade that release with helm upgrade, or uninstall it \
         first."
    )]
    InstalledAlready(String),
    /// Helm doesn't adopt objects that another release, or another client, created.
    #[error(
        "{crds} exists and belongs to {owner}\n  Install the chart as that release, or set its crds.enabled to false."
    )]
    ExistingCrd { crds: String, owner: String },
    /// kubectl chooses one of the kinds with a short name.
    #[error(
        "other kinds have the same short name: {0}\n  Name adieu's kinds in full, such as kubectl get gracefulpolicies."
    )]
    ShortNames(String),
    /// A check isn't possible.
    #[error("{what} cannot be checked: {reason}\n  Use an account that may read them.")]
    Unchecked { what: &'static str, reason: String },
}

/// Names the API server, and why it can't be reached.
fn not_reached(error: &kube::Error) -> String {
    let reason = describe(error);
    if is_unreachable(error) { reason } else { format!("the API server cannot be reached: {reason}") }
}

impl Problem {
    /// Whether admission works, or an installation succeeds, nevertheless.
    pub(super) fn is_warning(&self) -> bool {
        matches!(
            self,
            Self::ShortShutdown { .. }
                | Self::ExistingCrd { .. }
                | Self::ShortNames(_)
                | Self::Unchecked { .. }
        )
    }

    /// Whether a retry may succeed.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(kube::Error::Api(status)) => status.code >= 500 || status.code == 429,
            Self::Unreachable(_)
            | Self::NotInstalled
            | Self::NoBundle(_)
            | Self::NotCalledSilently(_)
            | Self::NotCalled(_) => true,
            _ => false,
        }
    }

    /// The problem behind an error for an opted-in Deployment.
    pub(super) fn of(error: kube::Error, namespace: &str) -> Self {
        let status = match error {
            kube::Error::Api(status) => status,
            error => return Self::Unreachable(error),
        };
        let (namespace, reason) = (namespace.to_owned(), status.message.clone());
        if reason.contains("failed calling webhook") && reason.contains(&format!("{WEBHOOKS}\"")) {
            Self::NotCalled(reason)
        } else if status.code == 403 && reason.contains("cannot create resource") {
            Self::NotPermitted { namespace, reason }
        } else if status.code >= 500 || status.code == 429 {
            Self::Unreachable(kube::Error::Api(status))
        } else {
            Self::Rejected { namespace, reason }
        }
    }
}
