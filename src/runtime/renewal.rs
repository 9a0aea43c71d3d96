//! The certificates over time: who leads renews them, every replica serves with them.

use std::{future::pending, time::Duration};

use futures::{Stream, StreamExt as _};
use time::OffsetDateTime;
use tokio::{sync::watch, time::timeout};

use super::{
    certificates::{Certificates, Error, Keeper},
    metrics::Metrics,
    serving::{self, Tls},
};

/// How long after a failure the certificates are looked at again.
const RETRY: Duration = Duration::from_secs(5);

/// Follows the Secret.
pub struct Renewal {
    keeper: Keeper,
    /// Whether this replica renews.
    renews: watch::Receiver<bool>,
}

impl Renewal {
    /// Renews for as long as `renews`, and reads otherwise.
    #[must_use]
    pub fn new(keeper: Keeper, renews: watch::Receiver<bool>) -> Self {
        Self { keeper, renews }
    }

    /// The first certificates, once there are any.
    pub async fn first(&mut self) -> Certificates {
        let mut changes = self.keeper.changes().boxed();
        loop {
            match self.look(None).await {
                Ok(Some(certificates)) => return certificates,
                Ok(None) => tracing::info!("waiting for the leader to make the certificates"),
                Err(error) => tracing::warn!(%error, "no certificates yet, trying again"),
            }
            drop(timeout(RETRY, self.something(&mut changes)).await);
        }
    }

    /// Renews the certificates in time, and takes over what another replica renewed, for ever. `bundle` is
    /// told whom to trust.
    pub async fn keep(
        mut self,
        mut current: Certificates,
        tls: Tls,
        bundle: watch::Sender<String>,
        metrics: &Metrics,
    ) {
        let mut changes = self.keeper.changes().boxed();
        let mut wait = current.due(OffsetDateTime::now_utc());
        loop {
            // Whether the Secret changed, this replica leads now, or it is time: the same is to be done.
            drop(timeout(wait, self.something(&mut changes)).await);
            wait = match self.look(Some(&current)).await {
                Ok(Some(certificates)) => {
                    adopt(&certificates, &tls, &bundle, metrics);
                    current = certificates;
                    current.due(OffsetDateTime::now_utc())
                }
                // What is in memory serves on until the leader has made others.
                Ok(None) => RETRY,
                Err(error) => {
                    tracing::warn!(%error, "certificates not renewed, trying again");
                    RETRY
                }
            };
        }
    }

    async fn look(&mut self, served: Option<&Certificates>) -> Result<Option<Certificates>, Error> {
        let renews = *self.renews.borrow_and_update();
        if renews { self.keeper.renew(served).await.map(Some) } else { self.keeper.read().await }
    }

    async fn something(&mut self, changes: &mut (impl Stream<Item = ()> + Unpin)) {
        let may_renew = async {
            if self.renews.changed().await.is_err() {
                // Nobody tells any more: that is no news.
                pending::<()>().await;
            }
        };
        tokio::select! {
            _ = changes.next() => {}
            () = may_renew => {}
        }
    }
}

fn adopt(certificates: &Certificates, tls: &Tls, bundle: &watch::Sender<String>, metrics: &Metrics) {
    match serving::reload(tls, &certificates.serving) {
        Ok(()) => tell(certificates, metrics),
        Err(error) => tracing::error!(%error, "certificate not loaded, the last good one stays"),
    }
    bundle.send_if_modified(|current| {
        let changed = *current != certificates.bundle;
        if changed {
            current.clone_from(&certificates.bundle);
        }
        changed
    });
}

/// For how long the webhook serves with them.
pub fn tell(certificates: &Certificates, metrics: &Metrics) {
    metrics.certificate_not_before.set(certificates.not_before());
    metrics.certificate_expiration.set(certificates.expiration());
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::trial::test_support::client;

    #[tokio::test(start_paused = true)]
    async fn who_never_renews_waits_for_changes() {
        let keeper = Keeper::new(client(|_, _| None), "adieu-system", "certificates".into(), "adieu".into());
        let mut renewal = Renewal::new(keeper, watch::channel(false).1);
        timeout(RETRY, renewal.something(&mut stream::iter([()]))).await.expect("a change");
        assert!(timeout(10 * RETRY, renewal.something(&mut stream::pending())).await.is_err());
    }
}
