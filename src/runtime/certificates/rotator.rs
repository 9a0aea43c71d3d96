//! Keeps the certificates current: the leader renews them, every replica serves with them.

use std::{future::pending, time::Duration};

use futures::{Stream, StreamExt as _};
use time::OffsetDateTime;
use tokio::{sync::watch, time::timeout};

use super::{
    secret::Certificates,
    store::{CertificateStore, Error},
};
use crate::runtime::{
    metrics::Metrics,
    serving::{self, Tls},
};

/// The time from a failure to the next attempt.
const RETRY: Duration = Duration::from_secs(5);

/// Renews or reloads the certificates when the Secret changes or a renewal is due.
pub struct CertificateRotator {
    store: CertificateStore,
    is_renewer: watch::Receiver<bool>,
}

impl CertificateRotator {
    /// Renews certificates while `is_renewer` is true, and only reads them otherwise.
    #[must_use]
    pub fn new(store: CertificateStore, is_renewer: watch::Receiver<bool>) -> Self {
        Self { store, is_renewer }
    }

    /// Waits for the first certificates.
    pub async fn wait_for_first(&mut self) -> Certificates {
        let mut changes = self.store.changes().boxed();
        loop {
            match self.read_or_renew(None).await {
                Ok(Some(certificates)) => return certificates,
                Ok(None) => tracing::info!("waiting for the leader to create the certificates"),
                Err(error) => tracing::warn!(%error, "cannot read the certificates, retrying"),
            }
            drop(timeout(RETRY, self.changed(&mut changes)).await);
        }
    }

    /// Renews the certificates when they are due, and loads those that another replica renewed. Sends the trusted
    /// CAs to `bundle`. Never returns.
    pub async fn run(
        mut self,
        mut current: Certificates,
        tls: Tls,
        bundle: watch::Sender<String>,
        metrics: &Metrics,
    ) {
        let mut changes = self.store.changes().boxed();
        let mut wait = current.next_step(OffsetDateTime::now_utc());
        loop {
            // A changed Secret, a change of leader and a due renewal need the same steps.
            drop(timeout(wait, self.changed(&mut changes)).await);
            wait = match self.read_or_renew(Some(&current)).await {
                Ok(Some(certificates)) => {
                    load(&certificates, &tls, &bundle, metrics);
                    current = certificates;
                    current.next_step(OffsetDateTime::now_utc())
                }
                // The certificates in memory are served until the leader has created others.
                Ok(None) => RETRY,
                Err(error) => {
                    tracing::warn!(%error, "cannot renew the certificates, retrying");
                    RETRY
                }
            };
        }
    }

    async fn read_or_renew(&mut self, served: Option<&Certificates>) -> Result<Option<Certificates>, Error> {
        let is_renewer = *self.is_renewer.borrow_and_update();
        if is_renewer { self.store.renew(served).await.map(Some) } else { self.store.read().await }
    }

    async fn changed(&mut self, changes: &mut (impl Stream<Item = ()> + Unpin)) {
        let leader_changed = async {
            if self.is_renewer.changed().await.is_err() {
                // The sender is gone, so the value is final.
                pending::<()>().await;
            }
        };
        tokio::select! {
            _ = changes.next() => {}
            () = leader_changed => {}
        }
    }
}

fn load(certificates: &Certificates, tls: &Tls, bundle: &watch::Sender<String>, metrics: &Metrics) {
    match serving::reload(tls, &certificates.serving) {
        Ok(()) => report(certificates, metrics),
        Err(error) => tracing::error!(%error, "cannot load the certificate, keeping the previous one"),
    }
    bundle.send_if_modified(|current| {
        let changed = *current != certificates.bundle;
        if changed {
            current.clone_from(&certificates.bundle);
        }
        changed
    });
}

/// Sets the metrics about the serving certificate's validity.
pub fn report(certificates: &Certificates, metrics: &Metrics) {
    metrics.certificate_not_before.set(certificates.not_before());
    metrics.certificate_expiration.set(certificates.expiration());
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::runtime::test_support::client;

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_never_renews_waits_for_changes_of_the_secret() {
        let client = client(|_, _| None);
        let store = CertificateStore::new(client, "adieu-system", "certificates".into(), "adieu".into());
        let mut rotator = CertificateRotator::new(store, watch::channel(false).1);
        timeout(RETRY, rotator.changed(&mut stream::iter([()]))).await.expect("a change");
        assert!(timeout(10 * RETRY, rotator.changed(&mut stream::pending())).await.is_err());
    }
}
