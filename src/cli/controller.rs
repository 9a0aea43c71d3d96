//! `adieu controller`: the operator. Here everything that runs in it is put together.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum_server::Handle;
use kube::Client;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    controller,
    runtime::{
        admin,
        ca_bundle::{self, Bundle},
        caches::Caches,
        certificates::Keeper,
        client::client,
        leader::Candidate,
        logs,
        metrics::Metrics,
        readiness::{Gate, Readiness},
        renewal::{self, Renewal},
        serving, shutdown,
        unusable::UnusableObjects,
        workloads::Workloads,
    },
    webhook,
};

/// How long open work may take to end, within the grace period that the chart gives.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The namespace that the operator runs in.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// The name of the pod: what the other replicas know this one by.
    #[arg(long, env = "POD_NAME")]
    pod_name: String,
    /// The Lease by which replicas agree on one that acts; every one serves admission.
    #[arg(long, default_value = "adieu")]
    lease_name: String,
    /// The Service in front of the webhook; the serving certificate is made for it.
    #[arg(long, default_value = "adieu")]
    service_name: String,
    /// How many workloads roll out at a time because of policy changes, in the whole cluster.
    #[arg(long, value_name = "N", default_value = "10")]
    max_concurrent_rollouts: usize,
    /// Write no workload until this is gone again. At run time, annotate the Lease: adieu.dev/paused=true.
    #[arg(long)]
    paused: bool,
    /// Who makes the certificates and fills in the caBundle.
    #[arg(long, value_enum, default_value = "self-managed")]
    certificates: Management,
    /// The Secret that keeps the certificates: tls.crt, tls.key and ca.crt.
    #[arg(long, default_value = "adieu-certificates")]
    certificate_secret: String,
    /// The MutatingWebhookConfiguration whose caBundle is filled in.
    #[arg(long, default_value = "adieu")]
    webhook_configuration: String,
    /// Where the webhook listens, with TLS. [::] is every address of both families.
    #[arg(long, default_value = "[::]:8443")]
    webhook_address: SocketAddr,
    /// Where /healthz, /readyz and /metrics are served, without TLS.
    #[arg(long, default_value = "[::]:8080")]
    admin_address: SocketAddr,
    /// What is logged, such as info, or adieu=debug,warn.
    #[arg(long, env = "ADIEU_LOG", default_value = "info")]
    log: String,
    /// How it is logged.
    #[arg(long, value_enum, default_value = "json")]
    log_format: logs::Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Management {
    /// adieu itself, with an authority of its own.
    SelfManaged,
    /// Somebody else, such as cert-manager; they are only read.
    External,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    logs::init(&arguments.log, arguments.log_format);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the asynchronous runtime")?
        .block_on(operate(arguments))
}

impl Arguments {
    fn candidate(&self, client: &Client) -> Candidate {
        let (lease, pod) = (self.lease_name.clone(), self.pod_name.clone());
        Candidate::new(client.clone(), &self.namespace, lease, pod)
    }

    fn renewal(&self, client: &Client, leads: &watch::Receiver<bool>) -> Renewal {
        let dns_name = format!("{}.{}.svc", self.service_name, self.namespace);
        let secret = self.certificate_secret.clone();
        let renews = match self.certificates {
            Management::SelfManaged => leads.clone(),
            Management::External => watch::channel(false).1,
        };
        Renewal::new(Keeper::new(client.clone(), &self.namespace, secret, dns_name), renews)
    }
}

async fn operate(arguments: &Arguments) -> anyhow::Result<()> {
    let mut requested = pin!(shutdown::requested());
    let readiness = Readiness::default();
    let caches_gate = readiness.gate("caches");
    let serving_gate = readiness.gate("webhook");
    let ca_bundle_gate = readiness.gate("caBundle");
    let metrics = Arc::new(Metrics::default());
    // The admin server outlives the rest, so that failing readiness can be seen.
    let ended = CancellationToken::new();
    let admin_server = tokio::spawn(admin::serve(
        arguments.admin_address,
        readiness.clone(),
        metrics.clone(),
        ended.clone().cancelled_owned(),
    ));

    let client = client().await.context("finding the API server")?;
    let (tell_leads, leads) = watch::channel(false);
    let (tell_paused, paused) = watch::channel(false);
    let resign = CancellationToken::new();
    let campaign =
        arguments.candidate(&client).campaign([tell_leads, tell_paused], metrics.clone(), resign.clone());
    let campaign = tokio::spawn(campaign);
    let mut renewal = arguments.renewal(&client, &leads);
    let certificates = tokio::select! {
        certificates = renewal.first() => certificates,
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
    let server = Handle::new();
    let stop = CancellationToken::new();
    let background = [
        tokio::spawn(follow),
        tokio::spawn({
            let (tls, metrics) = (tls.clone(), metrics.clone());
            async move { renewal.keep(certificates, tls, authorities, &metrics).await }
        }),
        tokio::spawn(ca_bundle::keep(
            client.clone(),
            arguments.webhook_configuration.clone(),
            bundle,
            leads.clone(),
            ca_bundle_gate,
        )),
    ];
    let paused = if arguments.paused { watch::channel(true).1 } else { paused };
    let replica = controller::Replica {
        pod: arguments.pod_name.clone(),
        rollouts: arguments.max_concurrent_rollouts,
        leads,
        paused,
    };
    let controller =
        tokio::spawn(controller::run(client, caches.clone(), events, metrics.clone(), replica, stop.clone()));
    let router = webhook::router(caches.clone(), metrics);
    let mut webhook_server =
        tokio::spawn(serving::serve(arguments.webhook_address, router, tls, server.clone(), stop.clone()));
    let gates = tokio::spawn(open(caches_gate, caches, serving_gate, server.clone()));

    let outcome = tokio::select! {
        outcome = &mut requested => outcome.context("listening for signals"),
        outcome = &mut webhook_server => {
            outcome.context("serving the webhook")?.context("serving the webhook")?;
            anyhow::bail!("the webhook server ended by itself");
        }
    };
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
    for task in background {
        task.abort();
    }
    gates.abort();
    ended.cancel();
    if let Ok(Err(error)) = admin_server.await {
        tracing::warn!(%error, "admin server");
    }
    tracing::info!("bye");
    outcome
}

/// Opens the gates when there is something to decide with, and someone to ask.
async fn open(caches_gate: Gate, caches: Caches, serving_gate: Gate, server: Handle<SocketAddr>) {
    if caches.synced().await.is_ok() && caches.workloads().filled().await.is_ok() {
        caches_gate.open();
    }
    if server.listening().await.is_some() {
        serving_gate.open();
    }
}
