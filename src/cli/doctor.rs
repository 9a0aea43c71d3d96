//! `adieu doctor`: checks whether admission works in a cluster, and reports problems.

mod nodes;

use std::time::Duration;

use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration},
    apps::v1::Deployment,
    core::v1::LifecycleHandler,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, PostParams},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::block_on::block_on;
use crate::{
    api::annotations,
    runtime::{
        api_errors::describe,
        client::{client, is_unreachable},
    },
};

/// The text of `--help`.
pub(super) const HELP: &str = "\
Creates an opted-in Deployment as a dry run, and checks that it is injected. Also checks that the API server \
serves the policies' kinds.

If something is wrong, it reports the problem and the remedy, and the exit code is 1. You need the right to \
create Deployments in the namespace. With the right to list MutatingWebhookConfigurations it reports more \
causes. With the rights to list nodes and to get nodes/proxy it also warns about nodes whose kubelet gives pods \
less than the injected grace period when the node shuts down. `helm test` runs it in the cluster.

  adieu doctor --namespace shop";

/// The interval of retries.
const INTERVAL: Duration = Duration::from_secs(1);
/// The suffix of the names of adieu's webhooks.
const WEBHOOKS: &str = ".adieu.dev";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The namespace of the Deployment: any except kube-system and adieu's own, which the webhook ignores. Default: that
    /// of the kubeconfig's context.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,

    /// The image of the Deployment, for clusters that admit only certain images. It is never pulled.
    #[arg(long, value_name = "IMAGE", default_value = "registry.k8s.io/pause:3.10")]
    image: String,

    /// The time to retry while the API server does not call the webhook, which can take a moment after the
    /// installation.
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    wait: u64,
}

/// A problem, and its remedy.
#[derive(Debug, thiserror::Error)]
enum Problem {
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
}

/// Names the API server, and why it can't be reached.
fn not_reached(error: &kube::Error) -> String {
    let reason = describe(error);
    if is_unreachable(error) { reason } else { format!("the API server cannot be reached: {reason}") }
}

impl Arguments {
    fn namespace<'a>(&'a self, client: &'a Client) -> &'a str {
        self.namespace.as_deref().unwrap_or_else(|| client.default_namespace())
    }
}

impl Problem {
    /// Whether admission works nevertheless.
    fn is_warning(&self) -> bool {
        matches!(self, Self::ShortShutdown { .. })
    }

    /// Whether a retry may succeed.
    fn is_transient(&self) -> bool {
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
    fn of(error: kube::Error, namespace: &str) -> Self {
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

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    block_on(async {
        let client = client().await.map_err(Problem::Unreachable)?;
        let checks = run_checks(&client, arguments).await;
        for check in &checks {
            match check {
                Ok(success) => super::print::to_stdout(format!("✓ {success}")),
                Err(warning) if warning.is_warning() => super::print::to_stdout(format!("! {warning}")),
                Err(problem) => super::print::to_stdout(format!("✗ {problem}")),
            }
        }
        let has_failed = |check: &&Check| check.as_ref().is_err_and(|problem| !problem.is_warning());
        let failed = checks.iter().filter(has_failed).count();
        let count = checks.iter().filter(|check| check.is_ok() || has_failed(check)).count();
        anyhow::ensure!(failed == 0, "{failed} of {count} checks failed");
        Ok(())
    })
}

type Check = Result<String, Problem>;

/// An injection.
struct InjectionSummary {
    /// Its description.
    text: String,
    /// In seconds.
    grace_period: i64,
}

async fn run_checks(client: &Client, arguments: &Arguments) -> Vec<Check> {
    let version = client.apiserver_version().await.map_err(Problem::Unreachable);
    if let Err(problem) = version {
        return vec![Err(problem)];
    }
    let version = version.map(|version| format!("the API server is reachable: {}", version.git_version));
    let policies = policies(client).await;
    let injected = admission_in_time(client, arguments).await;
    let short = match &injected {
        Ok(InjectionSummary { grace_period, .. }) => short_shutdown(client, *grace_period).await,
        Err(_) => None,
    };
    let success = |injected: InjectionSummary| {
        let namespace = arguments.namespace(client);
        format!("an opted-in Deployment in {namespace} is injected: {}", injected.text)
    };
    [version, policies, injected.map(success)].into_iter().chain(short.map(Err)).collect()
}

/// Checks whether nodes that shut down give pods less than the injected grace period.
async fn short_shutdown(client: &Client, grace_period: i64) -> Option<Problem> {
    /// The maximum number of nodes in the message.
    const MAX_NAMED: usize = 5;
    let shorter = nodes::shorter_than(client, grace_period).await;
    let mut named: Vec<_> =
        shorter.iter().take(MAX_NAMED).map(|(name, seconds)| format!("{name} {seconds} s")).collect();
    if shorter.len() > MAX_NAMED {
        named.push(format!("and {} more", shorter.len() - MAX_NAMED));
    }
    let nodes = named.join(", ");
    (!shorter.is_empty()).then_some(Problem::ShortShutdown { grace_period, nodes })
}

/// Checks whether the kinds of the policies are served.
async fn policies(client: &Client) -> Check {
    let served = match client.list_api_group_resources("adieu.dev/v1alpha1").await {
        Ok(list) => list.resources.into_iter().map(|resource| resource.kind).collect(),
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(error) => return Err(Problem::Unreachable(error)),
    };
    let kinds = ["GracefulPolicy", "ClusterGracefulPolicy"];
    let missing: Vec<_> =
        kinds.into_iter().filter(|kind| !served.iter().any(|served| served == kind)).collect();
    if missing.is_empty() {
        Ok(format!("{} are served", kinds.join(" and ")))
    } else {
        Err(Problem::NotServed(missing.join(" and ")))
    }
}

async fn admission_in_time(client: &Client, arguments: &Arguments) -> Result<InjectionSummary, Problem> {
    let started = Instant::now();
    loop {
        let finding = admission(client, arguments).await;
        let is_transient = finding.as_ref().is_err_and(Problem::is_transient);
        if !is_transient || started.elapsed() >= Duration::from_secs(arguments.wait) {
            return finding;
        }
        sleep(INTERVAL).await;
    }
}

/// Checks whether an opted-in Deployment is injected. If not, an invalid annotation shows whether adieu is called,
/// whatever the policies are.
async fn admission(client: &Client, arguments: &Arguments) -> Result<InjectionSummary, Problem> {
    let namespace = arguments.namespace(client);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let create = async |key: &str, value: &str| {
        deployments.create(&dry_run, &deployment(&arguments.image, key, value)).await
    };
    let opted_in = async || {
        let answer =
            create(annotations::GRACEFUL, "true").await.map_err(|error| Problem::of(error, namespace))?;
        Ok(injected(&answer))
    };
    if let Some(found) = opted_in().await? {
        return Ok(found);
    }
    match create(annotations::DRAIN_SECONDS, "malformed").await {
        Err(kube::Error::Api(status)) if status.message.contains(annotations::DRAIN_SECONDS) => {
            // The webhook may have become available in between.
            opted_in().await?.ok_or_else(|| Problem::NotInjected(namespace.to_owned()))
        }
        _ => Err(why_not_called(client, namespace).await),
    }
}

/// A Deployment that every Pod Security Standard admits.
fn deployment(image: &str, key: &str, value: &str) -> Deployment {
    let labels = json!({"app.kubernetes.io/name": "adieu-doctor"});
    let deployment = json!({
        "metadata": {"generateName": "adieu-doctor-", "labels": labels, "annotations": {key: value}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": "app",
                        "image": image,
                        "resources": {
                            "requests": {"cpu": "10m", "memory": "16Mi"},
                            "limits": {"cpu": "10m", "memory": "16Mi"},
                        },
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }],
                },
            },
        },
    });
    serde_json::from_value(deployment).unwrap_or_default()
}

fn injected(deployment: &Deployment) -> Option<InjectionSummary> {
    let template = &deployment.spec.as_ref()?.template;
    template.metadata.as_ref()?.annotations.as_ref()?.get(annotations::INJECTED)?;
    let pod = template.spec.as_ref()?;
    let lifecycle = pod.containers.first()?.lifecycle.as_ref();
    // A drain of 0 has no hook.
    let hook = lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref()).map_or("none".into(), describe);
    let grace_period = pod.termination_grace_period_seconds?;
    Some(InjectionSummary { text: format!("preStop {hook}, grace period {grace_period} s"), grace_period })
}

fn describe(hook: &LifecycleHandler) -> String {
    match (&hook.sleep, &hook.exec, &hook.http_get) {
        (Some(sleep), _, _) => format!("sleep {} s", sleep.seconds),
        (_, Some(exec), _) => {
            format!("exec {}", exec.command.iter().flatten().cloned().collect::<Vec<_>>().join(" "))
        }
        (_, _, Some(get)) => format!("httpGet {}", get.path.as_deref().unwrap_or("/")),
        _ => "without a handler".into(),
    }
}

async fn why_not_called(client: &Client, namespace: &str) -> Problem {
    let all: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let unknown = || Problem::NotCalledSilently(namespace.into());
    let Ok(all) = all.list(&ListParams::default()).await else { return unknown() };
    let webhooks: Vec<_> = all
        .iter()
        .flat_map(|configuration| configuration.webhooks.iter().flatten().map(move |w| (configuration, w)))
        .filter(|(_, webhook)| webhook.name.ends_with(WEBHOOKS))
        .collect();
    let no_bundle = webhooks.iter().find(|(_, webhook)| webhook.client_config.ca_bundle.is_none());
    if webhooks.is_empty() {
        Problem::NotInstalled
    } else if let Some((configuration, _)) = no_bundle {
        Problem::NoBundle(configuration.name_any())
    } else if webhooks.iter().all(|(_, webhook)| excludes(webhook, namespace)) {
        Problem::Excluded(namespace.into())
    } else {
        unknown()
    }
}

/// Whether the webhook's selector excludes the namespace.
fn excludes(webhook: &MutatingWebhook, namespace: &str) -> bool {
    let selector =
        webhook.namespace_selector.as_ref().and_then(|selector| selector.match_expressions.as_ref());
    selector.into_iter().flatten().any(|expression| {
        expression.key == "kubernetes.io/metadata.name"
            && expression.operator == "NotIn"
            && expression.values.iter().flatten().any(|value| value == namespace)
    })
}

#[cfg(test)]
#[path = "doctor_tests.rs"]
mod tests;
