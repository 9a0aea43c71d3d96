//! `adieu controller`: composes the operator from its parts.

use std::{
    collections::BTreeSet, io, net::SocketAddr, num::NonZeroUsize, pin::pin, sync::Arc,
    thread::available_parallelism, time::Duration,
};

use adieu_exposures::{KINDS, Kind};
use anyhow::Context as _;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::{
    runtime::{Handle, Runtime},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    controller::{self, Controller, Observation, ObserverScope, Replica},
    index::{
        caches::Caches,
        unusable_objects::UnusableObjects,
        workloads::{Events, Workloads},
    },
    runtime::{
        admin, ca_bundle,
        certificates::{self, CertificateManagement, CertificateRotator, CertificateStore, Certificates},
        client::counted_client,
        leader_election::LeaderElector,
        logs,
        metrics::Metrics,
        panics::{self, Watchdog},
        readiness::{Readiness, ReadinessCheck},
        serving::{self, Tls},
        shutdown,
    },
    webhook,
};

/// The time limit for open work at shutdown, within the grace period that the chart sets.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// The minimum and maximum number of threads that serve the webhook.
const THREADS: (usize, usize) = (2, 4);
/// The threads of everything else: watches, controller, status, certificates.
const CONTROLLER_THREADS: usize = 2;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The namespace that the operator runs in.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// The name of the pod, which identifies this replica in the Lease.
    #[arg(long, env = "POD_NAME")]
    pod_name: String,
    /// The Lease for leader election. Only the leader writes; every replica serves the webhook.
    #[arg(long, default_value = "adieu")]
    lease_name: String,
    /// The Service in front of the webhook; the serving certificate is issued for it.
    #[arg(long, default_value = "adieu")]
    service_name: String,
    /// The maximum number of workloads in the cluster that may roll out at a time because of policy changes.
    #[arg(long, value_name = "N", default_value = "10")]
    max_concurrent_rollouts: usize,
    /// Stops all writes to workloads. At run time, annotate the Lease instead: adieu.dev/paused=true.
    #[arg(long)]
    paused: bool,
    /// The API groups whose objects are watched, because they lead requests to pods, such as networking.k8s.io; all that are
    /// known by default.
    #[arg(long, value_name = "GROUPS", value_delimiter = ',', value_parser = exposure_group)]
    exposures: Option<Vec<String>>,
    /// Which terminations of pods are observed.
    #[arg(long, value_enum, default_value = "All")]
    observer_scope: ObserverScope,
    /// Writes no `TerminationProfiles`; metrics and Events report terminations all the same.
    #[arg(long)]
    no_termination_profiles: bool,
    /// The source of the certificates and the caBundle.
    #[arg(long, value_enum, default_value = "self-managed")]
    certificates: CertificateManagement,
    /// The Secret with the certificates: tls.crt, tls.key and ca.crt.
    #[arg(long, default_value = "adieu-certificates")]
    certificate_secret: String,
    /// The MutatingWebhookConfiguration whose caBundle is filled in.
    #[arg(long, default_value = "adieu")]
    webhook_configuration: String,
    /// The address on which the webhook listens, with TLS. [::] means all IPv4 and IPv6 addresses.
    #[arg(long, default_value = "[::]:8443")]
    webhook_address: SocketAddr,
    /// The longest timeoutSeconds of the webhooks. The API server sends its own as a parameter, which can only be shorter.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = clap::value_parser!(u8).range(1..=30))]
    webhook_timeout_seconds: u8,
    /// The address of /healthz, /readyz and /metrics, without TLS.
    #[arg(long, default_value = "[::]:8080")]
    admin_address: SocketAddr,
    /// The log level, such as info, or adieu=debug,warn.
    #[arg(long, env = "ADIEU_LOG", default_value = "info")]
    log: String,
    /// The log format.
    #[arg(long, value_enum, default_value = "json")]
    log_format: logs::Format,
}

/// An API group of the kinds that are known. An empty list is one empty text.
fn exposure_group(text: &str) -> Result<String, String> {
    let groups: BTreeSet<_> = KINDS.iter().map(|kind| kind.group).collect();
    if text.is_empty() || groups.contains(text) {
        return Ok(text.to_owned());
    }
    let groups: Vec<_> = groups.into_iter().collect();
    Err(format!("not one of the known API groups: {}", groups.join(", ")))
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    logs::init(&arguments.log, arguments.log_format);
    panics::log();
    let cores = available_parallelism().map_or(THREADS.0, NonZeroUsize::get);
    let controller = threads("controller", CONTROLLER_THREADS)?;
    // A busy controller can't delay an admission. With two threads, one keeps answering while the other reads a large
    // review.
    let webhook = threads("webhook", cores.clamp(THREADS.0, THREADS.1))?;
    controller.block_on(operate(arguments, webhook.handle()))
}

/// A runtime with `count` threads. Each has its own memory, and a few keep up with any API server.
fn threads(name: &str, count: usize) -> anyhow::Result<Runtime> {
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    threads.thread_name(name).worker_threads(count).enable_all();
    threads.build().with_context(|| format!("cannot start the threads of the {name}"))
}

impl Arguments {
    fn webhook_timeout(&self) -> Duration {
        Duration::from_secs(self.webhook_timeout_seconds.into())
    }

    /// The kinds of objects that are watched, because they lead requests to pods.
    fn exposure_kinds(&self) -> Vec<&'static Kind> {
        let groups = self.exposures.as_ref();
        let is_watched =
            |kind: &&Kind| groups.is_none_or(|groups| groups.iter().any(|one| one == kind.group));
        KINDS.iter().filter(is_watched).collect()
    }

    fn leader_elector(&self, client: &Client) -> LeaderElector {
        let (lease, pod) = (self.lease_name.clone(), self.pod_name.clone());
        LeaderElector::new(client.clone(), &self.namespace, lease, pod)
    }

    fn certificate_rotator(&self, client: &Client, is_leader: &watch::Receiver<bool>) -> CertificateRotator {
        let dns_name = format!("{}.{}.svc", self.service_name, self.namespace);
        let secret = self.certificate_secret.clone();
        let store = CertificateStore::new(client.clone(), &self.namespace, secret, dns_name);
        let is_renewer = match self.certificates {
            CertificateManagement::SelfManaged => is_leader.clone(),
            CertificateManagement::External => watch::channel(false).1,
        };
        CertificateRotator::new(store, is_renewer)
    }
}

/// Starts the stages in order: each needs those before it. Shutdown is in reverse order.
async fn operate(arguments: &Arguments, webhook_threads: &Handle) -> anyhow::Result<()> {
    let mut requested = pin!(shutdown::requested());
    let (process, checks) = Process::start(arguments.admin_address).await?;
    let client = counted_client(process.metrics.api_requests.clone()).await;
    let client = client.context("cannot find the API server")?;
    let election = LeaderElection::start(arguments, &client, &process);
    let mut rotator = arguments.certificate_rotator(&client, &election.is_leader);
    let certificates = tokio::select! {
        certificates = rotator.wait_for_first() => certificates,
        panic = process.watchdog.failed() => return Err(panic.into()),
        outcome = &mut requested => {
            election.end().await;
            return outcome.context("cannot listen for signals");
        }
    };
    let tls = serving::configure(&certificates.serving).context("cannot read the serving certificate")?;
    certificates::report(&certificates, &process.metrics);

    let operator = Operator { arguments, client, process, election, stop: CancellationToken::new() };
    let (caches, events, watches) = operator.start_watches();
    let (rotation, bundle) = operator.start_rotation(rotator, certificates, &tls);
    let background = [
        watches,
        rotation,
        operator.start_ca_bundle(bundle, checks.ca_bundle),
        operator.process.watchdog.spawn("readiness", pass_when_synced(checks.caches, caches.clone())),
    ];
    let controller = operator.start_controller(caches.clone(), events);
    let webhook = operator.start_webhook(webhook_threads, caches, tls).await?;
    checks.webhook.pass();

    let outcome = requested_or_failed(requested, &operator.process.watchdog).await;
    operator.shut_down(controller, webhook, background).await;
    outcome
}

type Task = JoinHandle<Option<()>>;

/// The parts that live as long as the process. The admin server outlives the others, so that failing readiness is
/// visible.
struct Process {
    readiness: Readiness,
    metrics: Arc<Metrics>,
    watchdog: Watchdog,
    admin_server: Task,
    stop_admin_server: CancellationToken,
}

struct ReadinessChecks {
    caches: ReadinessCheck,
    webhook: ReadinessCheck,
    ca_bundle: ReadinessCheck,
}

impl Process {
    async fn start(admin_address: SocketAddr) -> anyhow::Result<(Self, ReadinessChecks)> {
        let readiness = Readiness::default();
        let checks = ReadinessChecks {
            caches: readiness.check("caches"),
            webhook: readiness.check("webhook"),
            ca_bundle: readiness.check("caBundle"),
        };
        let metrics = Arc::new(Metrics::default());
        let watchdog = Watchdog::new(metrics.clone());
        let listener = serving::listen(admin_address).await.context("cannot listen on the admin address")?;
        let stop = CancellationToken::new();
        let serve =
            admin::serve(listener, readiness.clone(), metrics.clone(), stop.clone().cancelled_owned());
        let admin_server = watchdog.spawn("the admin server", serve);
        Ok((Self { readiness, metrics, watchdog, admin_server, stop_admin_server: stop }, checks))
    }
}

/// This replica's part in the leader election.
struct LeaderElection {
    is_leader: watch::Receiver<bool>,
    paused: watch::Receiver<bool>,
    previous_renewal: watch::Receiver<Option<Timestamp>>,
    release: CancellationToken,
    task: Task,
}

impl LeaderElection {
    fn start(arguments: &Arguments, client: &Client, process: &Process) -> Self {
        let (leader_sender, is_leader) = watch::channel(false);
        let (paused_sender, paused) = watch::channel(false);
        let (renewal_sender, previous_renewal) = watch::channel(None);
        let release = CancellationToken::new();
        let elector = arguments.leader_elector(client);
        let senders = [leader_sender, paused_sender];
        let run = elector.run(senders, renewal_sender, process.metrics.clone(), release.clone());
        let task = process.watchdog.spawn("leader election", run);
        Self { is_leader, paused, previous_renewal, release, task }
    }

    /// Releases the Lease, so that another replica can lead immediately.
    async fn end(self) {
        self.release.cancel();
        drop(self.task.await);
    }
}

/// The parts that the later stages share.
struct Operator<'a> {
    arguments: &'a Arguments,
    client: Client,
    process: Process,
    election: LeaderElection,
    /// Stops the webhook and the controller.
    stop: CancellationToken,
}

impl Operator<'_> {
    fn start_watches(&self) -> (Caches, [Events; 3], Task) {
        let unusable = UnusableObjects::new(&self.process.metrics);
        let namespace_field_selector = controller::namespace_field_selector(&self.arguments.namespace);
        let (workloads, events) = Workloads::follow(&self.client, Some(&namespace_field_selector), &unusable);
        let kinds = self.arguments.exposure_kinds();
        let (caches, watches) = Caches::follow(&self.client, workloads, &unusable, kinds);
        (caches, events, self.process.watchdog.spawn("the watches", watches))
    }

    /// Also returns the caBundle to write; `None` if another component writes it.
    fn start_rotation(
        &self,
        rotator: CertificateRotator,
        certificates: Certificates,
        tls: &Tls,
    ) -> (Task, Option<watch::Receiver<String>>) {
        let (sender, bundle) = watch::channel(certificates.bundle.clone());
        let (tls, metrics) = (tls.clone(), self.process.metrics.clone());
        let rotate = async move { rotator.run(certificates, tls, sender, &metrics).await };
        let is_ours = self.arguments.certificates == CertificateManagement::SelfManaged;
        (self.process.watchdog.spawn("certificate rotation", rotate), is_ours.then_some(bundle))
    }

    fn start_ca_bundle(&self, bundle: Option<watch::Receiver<String>>, check: ReadinessCheck) -> Task {
        let configuration = self.arguments.webhook_configuration.clone();
        let is_leader = self.election.is_leader.clone();
        let run = ca_bundle::run(self.client.clone(), configuration, bundle, is_leader, check);
        self.process.watchdog.spawn("the caBundle", run)
    }

    fn start_controller(&self, caches: Caches, events: [Events; 3]) -> Task {
        let paused =
            if self.arguments.paused { watch::channel(true).1 } else { self.election.paused.clone() };
        let replica = Replica {
            pod: self.arguments.pod_name.clone(),
            max_concurrent_rollouts: self.arguments.max_concurrent_rollouts,
            is_leader: self.election.is_leader.clone(),
            previous_renewal: self.election.previous_renewal.clone(),
            paused,
        };
        let observation = Observation {
            scope: self.arguments.observer_scope,
            writes_profiles: !self.arguments.no_termination_profiles,
            field_selector: controller::namespace_field_selector(&self.arguments.namespace),
        };
        let (client, metrics) = (self.client.clone(), self.process.metrics.clone());
        let controller = Controller { client, caches, metrics, replica, observation };
        self.process.watchdog.spawn("the controller", controller.run(events, self.stop.clone()))
    }

    async fn start_webhook(&self, threads: &Handle, caches: Caches, tls: Tls) -> anyhow::Result<Task> {
        let metrics = &self.process.metrics;
        let router = webhook::router(caches, metrics.clone(), self.arguments.webhook_timeout());
        let listener = threads.spawn(serving::listen(self.arguments.webhook_address)).await?;
        let listener = listener.context("cannot listen on the webhook address")?;
        let serve = serving::serve(listener, router, tls, metrics.clone(), self.stop.clone());
        Ok(self.process.watchdog.spawn_on(threads, "the webhook", serve))
    }

    /// Drains the webhook and the controller, releases the Lease, and ends the admin server last.
    async fn shut_down(self, controller: Task, webhook: Task, background: impl IntoIterator<Item = Task>) {
        let Self { process, election, stop, .. } = self;
        process.readiness.shut_down();
        stop.cancel();
        let hand_over = async {
            drop(controller.await);
            election.end().await;
        };
        if timeout(DRAIN_LIMIT, async { tokio::join!(webhook, hand_over) }).await.is_err() {
            tracing::warn!("shutdown timed out, aborting open requests");
        }
        for task in background {
            task.abort();
        }
        process.stop_admin_server.cancel();
        drop(process.admin_server.await);
        tracing::info!("shut down");
    }
}

/// Returns when the process has to end: on a signal, or because a task that it needs panicked.
async fn requested_or_failed(
    requested: impl Future<Output = io::Result<()>>,
    watchdog: &Watchdog,
) -> anyhow::Result<()> {
    tokio::select! {
        outcome = requested => outcome.context("cannot listen for signals"),
        panic = watchdog.failed() => Err(panic.into()),
    }
}

/// Passes the check once the caches are filled.
async fn pass_when_synced(caches_check: ReadinessCheck, caches: Caches) {
    if caches.synced().await.is_ok() && caches.workloads().filled().await.is_ok() {
        caches_check.pass();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_ends_the_process_with_an_error() {
        let watchdog = Watchdog::new(Arc::default());
        let task: JoinHandle<Option<()>> = watchdog.spawn("the watches", async { panic!("on purpose") });
        let outcome = timeout(DRAIN_LIMIT, requested_or_failed(pending(), &watchdog)).await.expect("the end");
        assert_eq!(outcome.unwrap_err().to_string(), "the watches panicked: on purpose");
        assert_eq!(task.await.unwrap(), None);
        let watchdog = Watchdog::new(Arc::default());
        assert!(requested_or_failed(ready(Ok(())), &watchdog).await.is_ok());
    }
}
