//! Installs adieu in a cluster by its chart, as users do.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::image::{self, Adieu};
use crate::progress::{Step, print_line};
use crate::target::Target;
use crate::{command, interrupt};

/// The namespace that adieu is installed in.
pub const NAMESPACE: &str = "adieu-system";
/// The name of its Helm release.
pub const RELEASE: &str = "adieu";

/// The limit for Helm, and for the pods.
const LIMIT: Duration = Duration::from_mins(3);
const POLL: Duration = Duration::from_millis(200);

/// Options for Helm.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// Set a value of the chart, as Helm takes it
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    /// Take values of the chart from a file
    #[arg(long, short = 'f', value_name = "FILE")]
    pub values: Vec<PathBuf>,
}

/// The username of the installed operator.
pub async fn username(client: &Client) -> Result<String> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let pod = api.get(RELEASE).await?.spec.and_then(|spec| spec.template.spec);
    let account = pod.and_then(|pod| pod.service_account_name).context("adieu has no service account")?;
    Ok(format!("system:serviceaccount:{NAMESPACE}:{account}"))
}

/// Builds adieu and its image, installs or upgrades it, and waits until every
/// replica is ready and admission injects.
pub fn install(target: &Target, options: &Options) -> Result<()> {
    install_build(target, &image::adieu(target.workspace(), &[])?, options)
}

/// The same, with an existing image.
pub fn install_build(target: &Target, Adieu { image, program }: &Adieu, options: &Options) -> Result<()> {
    target.load_image(&image.archive)?;

    let step = Step::start("installing adieu");
    let mut helm = helm_upgrade(target);
    helm.args(["--install", "--create-namespace"]);
    // Before the caller's, which take precedence.
    helm.args(["--set", &format!("image.repository={}", image.repository)]);
    helm.args(["--set-string", &format!("image.tag={}", image.tag)]);
    helm.args(["--set", "image.pullPolicy=Never"]);
    for file in &options.values {
        let file = file.canonicalize().with_context(|| format!("there is no file {}", file.display()))?;
        helm.arg("--values").arg(file);
    }
    for value in &options.set {
        helm.args(["--set", value]);
    }
    command::run(&step, &mut helm, &target.workspace().log("helm"))
        .with_context(|| format!("cannot install adieu\n{}", situation(target)))?;
    step.done();

    wait(target, "every replica to be ready", replicas_ready)?;
    let step = Step::start("running adieu doctor");
    let mut doctor = target.command(program);
    doctor.args(["doctor", "--wait", &LIMIT.as_secs().to_string()]);
    command::run(&step, &mut doctor, &target.workspace().log("doctor")).with_context(|| situation(target))?;
    step.done();
    print_line(&format!("adieu {} is installed in the namespace {NAMESPACE}", image.tag));
    Ok(())
}

/// Changes a value of the installed chart, and waits until every replica has it. Other values stay.
pub fn set_value(target: &Target, value: &str) -> Result<()> {
    let step = Step::start(format!("upgrading adieu to {value}"));
    let mut helm = helm_upgrade(target);
    helm.args(["--reuse-values", "--set", value]);
    command::run(&step, &mut helm, &target.workspace().log("helm"))
        .with_context(|| format!("cannot upgrade adieu to {value}\n{}", situation(target)))?;
    step.done();
    wait(target, "every replica to be ready", replicas_ready)
}

/// `helm upgrade` of the release with the repository's chart, which waits for the pods.
fn helm_upgrade(target: &Target) -> Command {
    let mut helm = target.helm();
    helm.current_dir(target.workspace().root());
    helm.args(["upgrade", RELEASE, "charts/adieu", "--namespace", NAMESPACE]);
    helm.args(["--wait", "--timeout", &format!("{}s", LIMIT.as_secs())]);
    helm
}

/// Runs the chart's own tests, and checks that they leave no objects.
pub fn test(target: &Target) -> Result<()> {
    let step = Step::start("running helm test");
    let mut helm = target.helm();
    helm.args(["test", RELEASE, "--namespace", NAMESPACE, "--timeout", &format!("{}s", LIMIT.as_secs())]);
    let log = target.workspace().log("helm-test");
    command::run(&step, &mut helm, &log)?;
    let said = fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
    if !said.contains("is injected: preStop") {
        bail!("helm test passed without reporting an injection: {said}");
    }
    step.done();
    let mut kubectl = target.kubectl();
    kubectl.args(["get", "pods,serviceaccounts,roles,rolebindings", "--all-namespaces", "--output=name"]);
    let left = command::output(kubectl.arg("--selector=app.kubernetes.io/name=adieu-test"))?;
    if !left.is_empty() {
        bail!("helm test leaves objects: {}", left.lines().collect::<Vec<_>>().join(" "));
    }
    Ok(())
}

/// Uninstalls adieu. The chart keeps its CRDs.
pub fn uninstall(target: &Target) -> Result<()> {
    let step = Step::start("uninstalling adieu");
    let mut helm = target.helm();
    helm.args(["uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait"]);
    command::run(&step, &mut helm, &target.workspace().log("helm"))?;
    step.done();
    Ok(())
}

/// Uninstalls adieu, and checks that only the CRDs are left.
pub fn uninstall_leaves_nothing(target: &Target) -> Result<()> {
    let kinds = |scope: &str| -> Result<String> {
        let mut kubectl = target.kubectl();
        let listed =
            command::output(kubectl.args(["api-resources", "--verbs=list", "--output=name", scope]))?;
        // Events expire.
        Ok(listed.lines().filter(|kind| !kind.starts_with("events")).collect::<Vec<_>>().join(","))
    };
    let (namespaced, cluster_wide) = (kinds("--namespaced=true")?, kinds("--namespaced=false")?);
    let get = |kinds: &str, arguments: &[&str]| {
        let mut kubectl = target.kubectl();
        command::output(kubectl.args(["get", kinds, "--output=name", "--ignore-not-found"]).args(arguments))
    };
    uninstall(target)?;
    let labelled = format!("--selector=app.kubernetes.io/instance={RELEASE}");
    wait(target, "the objects of adieu to be gone", |_| async {
        let found = [
            get(&cluster_wide, &[&labelled])?,
            get(&namespaced, &["--all-namespaces", &labelled])?,
            get(&namespaced, &["--namespace", NAMESPACE])?,
        ];
        // The CRDs, and objects that exist in every namespace.
        let kept = |line: &str| line.starts_with("customresourcedefinition");
        let usual = ["serviceaccount/default", "configmap/kube-root-ca.crt"];
        let left: Vec<_> = found
            .iter()
            .flat_map(|text| text.lines())
            .filter(|line| !kept(line) && !usual.contains(line))
            .collect();
        if !left.is_empty() {
            bail!("objects are left: {}", left.join(" "));
        }
        Ok(())
    })?;
    let crds = get("customresourcedefinitions", &[])?;
    for plural in ["gracefulpolicies", "clustergracefulpolicies", "terminationprofiles"] {
        let name = format!("{plural}.adieu.dev");
        if !crds.lines().any(|line| line.rsplit('/').next() == Some(&name)) {
            bail!("the CRD {name} is gone, with every object");
        }
    }
    Ok(())
}

/// Ends terminating pods of the operator without their drain, which takes some 20 s, if they run on this machine. It is
/// an error while a pod is left. Then it releases the Lease, as a leader does after its drain.
pub async fn end_without_drain(client: Client) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/instance={RELEASE}"));
    let left = pods.list(&ours).await?.items;
    for pod in left.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()) {
        if kill_processes(pod) {
            // The kubelet would wait for the sleep of its preStop hook. It may be gone.
            let _ = pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
        }
    }
    if let Some(pod) = left.first() {
        bail!("{} is still there", pod.name_any())
    }
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let released = Patch::Merge(json!({"spec": {"holderIdentity": null}}));
    match leases.patch(RELEASE, &PatchParams::default(), &released).await {
        // After an uninstall there is none.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        outcome => Ok(outcome.map(drop)?),
    }
}

/// Kills the processes of a pod that run on this machine, because the kubelet ignores a shorter grace period of a
/// terminating pod (kubernetes#83916). Returns whether there were any.
fn kill_processes(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let ids = statuses.filter_map(|status| Some(status.container_id.as_deref()?.split_once("://")?.1));
    let ids: Vec<_> = ids.filter(|id| !id.is_empty()).collect();
    let Ok(entries) = fs::read_dir("/proc") else { return false };
    let mut has_killed = false;
    for entry in entries.flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if ids.iter().any(|id| groups.contains(*id)) {
            has_killed |= kill(Pid::from_raw(process), Signal::SIGKILL).is_ok();
        }
    }
    has_killed
}

/// An error unless every replica of adieu is ready and none is outdated.
async fn replicas_ready(client: Client) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client, NAMESPACE);
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/instance={RELEASE}"));
    let found = deployments.list(&ours).await?.items;
    if found.is_empty() {
        bail!("there is no Deployment of the release {RELEASE} in {NAMESPACE}");
    }
    for deployment in found {
        let is_observed = is_observed(&deployment);
        let name = deployment.metadata.name.unwrap_or_default();
        if !is_observed {
            bail!("the Deployment {name} is not observed yet");
        }
        let wanted = deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1);
        let status = deployment.status.unwrap_or_default();
        let count = |number: Option<i32>| number.unwrap_or_default();
        if [status.replicas, status.updated_replicas, status.ready_replicas].map(count) != [wanted; 3] {
            bail!(
                "the Deployment {name} has {} replicas, {} updated and {} ready, of {wanted} desired",
                count(status.replicas),
                count(status.updated_replicas),
                count(status.ready_replicas)
            );
        }
    }
    Ok(())
}

/// Whether the Deployment controller has observed the last change.
pub fn is_observed(deployment: &Deployment) -> bool {
    let observed = deployment.status.as_ref().and_then(|status| status.observed_generation);
    observed >= deployment.metadata.generation
}

/// Polls `ask` until it succeeds.
pub fn wait<F>(target: &Target, what: &str, ask: impl Fn(Client) -> F + Sync) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let step = Step::start(format!("waiting for {what}"));
    let started = Instant::now();
    loop {
        let Err(error) = target.with_client(&ask) else { break };
        interrupt::check()?;
        if started.elapsed() > LIMIT {
            return Err(error)
                .with_context(|| format!("waited {} s for {what}\n{}", LIMIT.as_secs(), situation(target)));
        }
        step.waiting();
        sleep(POLL);
    }
    step.done();
    Ok(())
}

/// adieu's pods and Events, for an error message.
fn situation(target: &Target) -> String {
    let mut text = String::new();
    for arguments in [
        ["get", "pods", "--output=wide"].as_slice(),
        &["get", "events", "--sort-by=.lastTimestamp"],
        &["logs", "--selector=app.kubernetes.io/name=adieu", "--tail=20", "--prefix"],
    ] {
        let mut kubectl = target.kubectl();
        kubectl.args(["--namespace", NAMESPACE]).args(arguments);
        let shown = command::output(&mut kubectl).unwrap_or_else(|error| format!("{error:#}"));
        for line in shown.lines() {
            let _ = writeln!(text, "    {}", command::shorten(line));
        }
    }
    text
}
