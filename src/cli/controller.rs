//! `adieu controller`: the operator. Here everything that runs in it is put together.

use std::{
    io, net::SocketAddr, num::NonZeroUsize, pin::pin, sync::Arc, thread::available_parallelism,
    time::Duration,
};

use anyhow::Context as _;
use kube::Client;
use tokio::{
    runtime::{Handle, Runtime},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    controller,
    index::{caches::Caches, unusable::UnusableObjects, workloads::Workloads},
    runtime::{
        admin,
        ca_bundle::{self, Bundle},
        certificates::Keeper,
        client::client,
        leader::Candidate,
        logs,
        metrics::Metrics,
        panics::{self, Watchdog},
        readiness::{Gate, Readiness},
        renewal::{self, Renewal},
        serving, shutdown,
    },
    webhook,
};

/// How long open work may take to end, within the grace period that the chart gives.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// The fewest and the most threads that serve the webhook.
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
    /// How many workloads may roll out at a time because of policy changes, in the whole cluster.
    #[arg(long, value_name = "N", default_value = "10")]
    max_concurrent_rollouts: usize,
    /// Stop all writes to workloads. At run time, annotate the Lease instead: adieu.dev/paused=true.
    #[arg(long)]
    paused: bool,
    /// The source of the certificates and the caBundle.
    #[arg(long, value_enum, default_value = "self-managed")]
    certificates: Management,
    /// The Secret with the certificates: tls.crt, tls.key and ca.crt.
    #[arg(long, default_value = "adieu-certificates")]
    certificate_secret: String,
    /// The MutatingWebhookConfiguration whose caBundle is filled in.
    #[arg(long, default_value = "adieu")]
    webhook_configuration: String,
    /// The address on which the webhook listens, with TLS. [::] means all IPv4 and IPv6 addresses.
    #[arg(long, default_value = "[::]:8443")]
    webhook_address: SocketAddr,
    /// The webhooks' timeoutSeconds, for requests without a timeout parameter; the API server sends one.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Management {
    /// adieu, with its own CA.
    SelfManaged,
    /// Another component, such as cert-manager; adieu only reads the Secret.
    External,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    logs::init(&arguments.log, arguments.log_format);
    panics::log();
    let cores = available_parallelism().map_or(THREADS.0, NonZeroUsize::get);
    let controller = threads("controller", CONTROLLER_THREADS)?;
    // However long the controller computes, an admission waits for no thread. With two, one goes on while the other
    // reads a large review.
    let webhook = threads("webhook", cores.clamp(THREADS.0, THREADS.1))?;
    controller.block_on(operate(arguments, webhook.handle()))
}

/// So many threads for asynchronous work. Each has memory of its own, and a few keep up with any API server.
fn threads(name: &str, count: usize) -> anyhow::Result<Runtime> {
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    threads.thread_name(name).worker_threads(count).enable_all();
    threads.build().with_context(|| format!("starting the threads of the {name}"))
}

impl Arguments {
    fn candidate(&self, client: &Client) -> Candidate {
        let (lease, pod) = (self.lease_name.clone(), self.pod_name.clone());
        Candidate::new(client.clone(), &self.namespace, lease, pod)
    }

    fn webhook_timeout(&self) -> Duration {
        Duration::from_secs(self.webhook_timeout_seconds.into())
    }

    fn renewal(&self, client: &Client, is_leader: &watch::Receiver<bool>) -> Renewal {
        let dns_name = format!("{}.{}.svc", self.service_name, self.namespace);
        let secret = self.certificate_secret.clone();
        let renews = match self.certificates {
            Management::SelfManaged => is_leader.clone(),
            Management::External => watch::channel(false).1,
        };
        Renewal::new(Keeper::new(client.clone(), &self.namespace, secret, dns_name), renews)
    }
}

async fn operate(arguments: &Arguments, webhook_threads: &Handle) -> anyhow::Result<()> {
    let mut requested = pin!(shutdown::requested());
    let readiness = Readiness::default();
    let caches_gate = readiness.gate("caches");
    let serving_gate = readiness.gate("webhook");
    let ca_bundle_gate = readiness.gate("caBundle");
    let metrics = Arc::new(Metrics::default());
    let watchdog = Watchdog::new(metrics.clone());
    // The admin server outlives the rest, so that failing readiness can be seen.
    let ended = CancellationToken::new();
    let listener =
        serving::listen(arguments.admin_address).await.context("listening at the admin address")?;
    let admin_server = watchdog.spawn(
        "the admin server",
        admin::serve(listener, readiness.clone(), metrics.clone(), ended.clone().cancelled_owned()),
    );

    let client = client().await.context("finding the API server")?;
    let (tell_leader, is_leader) = watch::channel(false);
    let (tell_paused, paused) = watch::channel(false);
    let resign = CancellationToken::new();
    let campaign =
        arguments.candidate(&client).campaign([tell_leader, tell_paused], metrics.clone(), resign.clone());
    let campaign = watchdog.spawn("leader election", campaign);
    let mut renewal = arguments.renewal(&client, &is_leader);
    let certificates = tokio::select! {
        certificates = renewal.first() => certificates,
        panic = watchdog.failed() => return Err(panic.into()),
        outcome = &mut requested => {
            resign.cancel();
            drop(campaign.await);
            return outcome.context("listening for signals");
        }
    };
    let tls = serving::configure(&certificates.serving).context("reading the serving certificate")?;
    renewal::tell(&certificates, &metrics);
    let (authorities, authorities_change) = watch::channel(certificates.bundle.clone());
    let bundle = match arguments.certificates {
        Management::SelfManaged => Bundle::Ours(authorities_change),
        Management::External => Bundle::Theirs,
    };

    let (unusable, watched) = (UnusableObjects::new(&metrics), controller::watched(&arguments.namespace));
    let (workloads, events) = Workloads::follow(&client, Some(&watched), &unusable);
    let (caches, follow) = Caches::follow(&client, workloads, &unusable);
    let stop = CancellationToken::new();
    let background = [
        watchdog.spawn("the watches", follow),
        watchdog.spawn("certificate rotation", {
            let (tls, metrics) = (tls.clone(), metrics.clone());
            async move { renewal.keep(certificates, tls, authorities, &metrics).await }
        }),
        watchdog.spawn(
            "the caBundle",
            ca_bundle::keep(
                client.clone(),
                arguments.webhook_configuration.clone(),
                bundle,
                is_leader.clone(),
                ca_bundle_gate,
            ),
        ),
        watchdog.spawn("readiness", open_when_synced(caches_gate, caches.clone())),
    ];
    let paused = if arguments.paused { watch::channel(true).1 } else { paused };
    let replica = controller::Replica {
        pod: arguments.pod_name.clone(),
        rollouts: arguments.max_concurrent_rollouts,
        is_leader,
        paused,
    };
    let controller = watchdog.spawn(
        "the controller",
        controller::run(client, caches.clone(), events, metrics.clone(), replica, stop.clone()),
    );
    let router = webhook::router(caches, metrics.clone(), arguments.webhook_timeout());
    let listener = webhook_threads.spawn(serving::listen(arguments.webhook_address)).await?;
    let listener = listener.context("listening at the webhook address")?;
    let serving = serving::serve(listener, router, tls, metrics, stop.clone());
    let webhook_server = watchdog.spawn_on(webhook_threads, "the webhook", serving);
    serving_gate.open();

    let outcome = asked_or_failed(requested, &watchdog).await;
    readiness.shut_down();
    stop.cancel();
    let handed_over = async {
        // Whoever leads next may act at once.
        drop(controller.await);
        resign.cancel();
        drop(campaign.await);
    };
    if timeout(DRAIN_LIMIT, async { tokio::join!(webhook_server, handed_over) }).await.is_err() {
        tracing::warn!("open work was cut short");
    }
    end(background, admin_server, ended).await;
    outcome
}

/// Returns when the process is asked to end, or has to because a task that it can't work without panicked.
async fn asked_or_failed(
    requested: impl Future<Output = io::Result<()>>,
    watchdog: &Watchdog,
) -> anyhow::Result<()> {
    tokio::select! {
        outcome = requested => outcome.context("listening for signals"),
        panic = watchdog.failed() => Err(panic.into()),
    }
}

/// Ends what has nothing to finish, and the admin server last.
async fn end(
    background: impl IntoIterator<Item = JoinHandle<Option<()>>>,
    admin_server: JoinHandle<Option<()>>,
    ended: CancellationToken,
) {
    for task in background {
        task.abort();
    }
    ended.cancel();
    drop(admin_server.await);
    tracing::info!("bye");
}

/// Opens the gate when there is something to decide with.
async fn open_when_synced(caches_gate: Gate, caches: Caches) {
    if caches.synced().await.is_ok() && caches.workloads().filled().await.is_ok() {
        caches_gate.open();
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
        let outcome = timeout(DRAIN_LIMIT, asked_or_failed(pending(), &watchdog)).await.expect("an end");
        assert_eq!(outcome.unwrap_err().to_string(), "the watches panicked: on purpose");
        assert_eq!(task.await.unwrap(), None);
        let watchdog = Watchdog::new(Arc::default());
        assert!(asked_or_failed(ready(Ok(())), &watchdog).await.is_ok());
    }
}
