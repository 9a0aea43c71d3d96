//! `adieu controller`: the operator. Here everything that runs in it is put together.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum_server::{Handle, tls_rustls::RustlsConfig};
use futures::StreamExt as _;
use kube::Client;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    controller,
    runtime::{
        admin, ca_bundle,
        caches::Caches,
        certificates::{Certificates, Keeper},
        logs,
        metrics::Metrics,
        readiness::Readiness,
        serving, shutdown,
        workloads::Workloads,
    },
    webhook,
};

/// How often the certificates' age is looked at.
const CERTIFICATE_CHECK: Duration = Duration::from_hours(1);
/// How long after a failure the certificates are looked at again.
const CERTIFICATE_RETRY: Duration = Duration::from_secs(10);
/// How long open admission requests may take to end. They have a timeout of 10 seconds at most.
const DRAIN_LIMIT: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The namespace that the operator runs in.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// The name of the pod, for the events that are published.
    #[arg(long, env = "POD_NAME")]
    pod_name: Option<String>,
    /// The Service in front of the webhook; the serving certificate is made for it.
    #[arg(long, default_value = "adieu")]
    service_name: String,
    /// The Secret that keeps the certificates.
    #[arg(long, default_value = "adieu-certificates")]
    certificate_secret: String,
    /// The MutatingWebhookConfiguration whose caBundle is filled in.
    #[arg(long, default_value = "adieu")]
    webhook_configuration: String,
    /// Where the webhook listens, with TLS.
    #[arg(long, default_value = "0.0.0.0:8443")]
    webhook_address: SocketAddr,
    /// Where /healthz, /readyz and /metrics are served, without TLS.
    #[arg(long, default_value = "0.0.0.0:8080")]
    admin_address: SocketAddr,
    /// What is logged, such as info, or adieu=debug,warn.
    #[arg(long, env = "ADIEU_LOG", default_value = "info")]
    log: String,
    /// How it is logged.
    #[arg(long, value_enum, default_value = "json")]
    log_format: logs::Format,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    logs::init(&arguments.log, arguments.log_format);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the asynchronous runtime")?
        .block_on(operate(arguments))
}

async fn operate(arguments: &Arguments) -> anyhow::Result<()> {
    let requested = shutdown::requested();
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

    let client = Client::try_default().await.context("finding the API server")?;
    let dns_name = format!("{}.{}.svc", arguments.service_name, arguments.namespace);
    let secret = arguments.certificate_secret.clone();
    let keeper = Keeper::new(client.clone(), &arguments.namespace, secret, dns_name);
    let certificates = keeper.ensure().await.context("preparing the certificates")?;
    let tls = serving::configure(&certificates.serving).context("reading the serving certificate")?;
    metrics.certificate_expiration.set(certificates.expiration());
    let (authority, authority_changes) = watch::channel(certificates.authority.certificate);

    let (workloads, events) = Workloads::follow(&client, &controller::watched(&arguments.namespace));
    let (caches, follow) = Caches::follow(&client, workloads);
    let server = Handle::new();
    let stop = CancellationToken::new();
    let background = [
        tokio::spawn(follow),
        tokio::spawn(keep_certificates(keeper, tls.clone(), authority, metrics.clone())),
        tokio::spawn(ca_bundle::keep(
            client.clone(),
            arguments.webhook_configuration.clone(),
            authority_changes,
            ca_bundle_gate,
        )),
    ];
    let identity =
        controller::Identity { namespace: arguments.namespace.clone(), pod: arguments.pod_name.clone() };
    let controller = tokio::spawn(controller::run(
        client,
        caches.clone(),
        events,
        metrics.clone(),
        identity,
        stop.clone(),
    ));
    let router = webhook::router(caches.clone(), metrics);
    let mut webhook_server =
        tokio::spawn(serving::serve(arguments.webhook_address, router, tls, server.clone()));
    let gates = tokio::spawn({
        let server = server.clone();
        async move {
            if caches.synced().await.is_ok() && caches.workloads().filled().await.is_ok() {
                caches_gate.open();
            }
            if server.listening().await.is_some() {
                serving_gate.open();
            }
        }
    });

    let outcome = tokio::select! {
        outcome = requested => outcome.context("listening for signals"),
        outcome = &mut webhook_server => {
            outcome.context("serving the webhook")?.context("serving the webhook")?;
            anyhow::bail!("the webhook server ended by itself");
        }
    };
    readiness.shut_down();
    stop.cancel();
    server.graceful_shutdown(Some(DRAIN_LIMIT));
    // Both are bounded: open requests by the limit above, a reconcile by the client's time limits.
    let drained = timeout(DRAIN_LIMIT * 2, async { tokio::join!(webhook_server, controller) }).await;
    if drained.is_err() {
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

/// Renews the certificates in time, and takes over what another replica renewed.
async fn keep_certificates(
    keeper: Keeper,
    tls: RustlsConfig,
    authority: watch::Sender<String>,
    metrics: Arc<Metrics>,
) {
    let mut changes = keeper.changes().boxed();
    let mut wait = CERTIFICATE_CHECK;
    loop {
        // Whether the Secret changed or it is time, the same is to be done.
        drop(timeout(wait, changes.next()).await);
        wait = match keeper
            .ensure()
            .await
            .map(|certificates| adopt(&certificates, &tls, &authority, &metrics))
        {
            Ok(()) => CERTIFICATE_CHECK,
            Err(error) => {
                tracing::warn!(%error, "certificates not renewed, trying again");
                CERTIFICATE_RETRY
            }
        };
    }
}

fn adopt(
    certificates: &Certificates,
    tls: &RustlsConfig,
    authority: &watch::Sender<String>,
    metrics: &Metrics,
) {
    match serving::reload(tls, &certificates.serving) {
        Ok(()) => drop(metrics.certificate_expiration.set(certificates.expiration())),
        Err(error) => tracing::error!(%error, "certificate not loaded, the last good one stays"),
    }
    authority.send_if_modified(|current| {
        let changed = *current != certificates.authority.certificate;
        if changed {
            current.clone_from(&certificates.authority.certificate);
        }
        changed
    });
}
