//! `adieu doctor`: checks whether admission works in a cluster, or adieu can be installed in it, and reports problems.

mod nodes;
mod pre;
mod problem;
mod served_kinds;

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

use self::{
    problem::{Check, Problem, WEBHOOKS},
    served_kinds::missing_kinds,
};
use super::{block_on::block_on, print};
use crate::{api::annotations, runtime::client::client};

/// The text of `--help`.
pub(super) const HELP: &str = "\
Creates an opted-in Deployment as a dry run, and checks that it is injected. Also checks that the API server \
serves the policies' kinds.

If something is wrong, it reports the problem and the remedy, and the exit code is 1. You need the right to \
create Deployments in the namespace. With the right to list MutatingWebhookConfigurations it reports more \
causes. With the rights to list nodes and to get nodes/proxy it also warns about nodes whose kubelet gives pods \
less than the injected grace period when the node shuts down. `helm test` runs it in the cluster.

With --pre it checks before the installation, and changes nothing: the version of Kubernetes, your rights to create \
the objects of the chart, the kinds of admission, and conflicts with what is installed, such as another release of adieu, \
its CRDs, or other CRDs with its short names.

Examples:

  adieu check --pre
  adieu check --pre -n platform --context prod
  adieu doctor
  adieu doctor -n shop -o json";

/// The namespace in which adieu is usually installed.
const NAMESPACE: &str = "adieu-system";
/// The interval of retries.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Checks whether adieu can be installed, instead of an installation.
    #[arg(long, conflicts_with_all = ["image", "wait"])]
    pre: bool,

    /// The namespace of the Deployment: any except kube-system and adieu's own, which the webhook ignores. Default: that
    /// of the kubeconfig's context. With --pre, the namespace to install adieu in; default: adieu-system.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,

    /// The image of the Deployment, for clusters that admit only certain images. It is never pulled.
    #[arg(long, value_name = "IMAGE", default_value = "registry.k8s.io/pause:3.10")]
    image: String,

    /// The time to retry while the API server does not call the webhook, which can take a moment after the
    /// installation.
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    wait: u64,

    /// The output format.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "text")]
    output: Format,
}

/// The format of the output.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// An object with `checks`.
    Json,
}

impl Arguments {
    fn namespace<'a>(&'a self, client: &'a Client) -> &'a str {
        self.namespace.as_deref().unwrap_or_else(|| client.default_namespace())
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    block_on(async {
        let client = client().await.map_err(Problem::Unreachable)?;
        let checks = if arguments.pre {
            pre::run_checks(&client, arguments.namespace.as_deref().unwrap_or(NAMESPACE)).await
        } else {
            run_checks(&client, arguments).await
        };
        match arguments.output {
            Format::Text => checks.iter().for_each(|check| print::to_stdout(line(check))),
            Format::Json => print::output(&json(&checks)?)?,
        }
        let has_failed = |check: &&Check| check.as_ref().is_err_and(|problem| !problem.is_warning());
        let failed = checks.iter().filter(has_failed).count();
        let count = checks.iter().filter(|check| check.is_ok() || has_failed(check)).count();
        anyhow::ensure!(failed == 0, "{failed} of {count} checks failed");
        Ok(())
    })
}

fn line(check: &Check) -> String {
    match check {
        Ok(success) => format!("✓ {success}"),
        Err(warning) if warning.is_warning() => format!("! {warning}"),
        Err(problem) => format!("✗ {problem}"),
    }
}

fn json(checks: &[Check]) -> anyhow::Result<String> {
    let checks = checks.iter().map(|check| match check {
        Ok(success) => json!({"result": "ok", "message": success}),
        Err(problem) => {
            let result = if problem.is_warning() { "warning" } else { "problem" };
            let text = problem.to_string();
            // Every problem has its remedy on the next line.
            let (message, remedy) = text.split_once("\n  ").unwrap_or((text.as_str(), ""));
            json!({"result": result, "message": message, "remedy": remedy})
        }
    });
    print::json(&json!({"checks": checks.collect::<Vec<_>>()}))
}

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
    let kinds = ["GracefulPolicy", "ClusterGracefulPolicy"];
    let missing = missing_kinds(client, "adieu.dev/v1alpha1", &kinds).await?;
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
