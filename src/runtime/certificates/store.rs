//! The Secret with the certificates.

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use time::OffsetDateTime;

use super::secret::Certificates;

/// Why certificates can't be read or renewed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Secret can't be read or written.
    #[error("Secret {name}: {source}")]
    Secret {
        /// The Secret's name.
        name: String,
        /// The API server's answer.
        source: kube::Error,
    },
    /// A certificate can't be created.
    #[error("cannot create a certificate: {0}")]
    Create(#[from] rcgen::Error),
}

/// Reads and renews the certificates in a Secret.
#[derive(Clone)]
pub struct CertificateStore {
    api: Api<Secret>,
    secret: String,
    dns_name: String,
}

impl CertificateStore {
    /// A store of the certificates for `dns_name` in the Secret `secret`.
    #[must_use]
    pub fn new(client: Client, namespace: &str, secret: String, dns_name: String) -> Self {
        Self { api: Api::namespaced(client, namespace), secret, dns_name }
    }

    /// The certificates in the Secret; `None` if the webhook can't serve with them.
    ///
    /// # Errors
    /// If the Secret can't be read.
    pub async fn read(&self) -> Result<Option<Certificates>, Error> {
        let secret = self.get().await?;
        let stored = secret.and_then(|secret| Certificates::read(&secret.data.unwrap_or_default()));
        Ok(stored.filter(Certificates::are_usable))
    }

    /// The certificates in the Secret, renewed if necessary; `served` are those that the webhook serves with. If
    /// another replica renews at the same time, the first write wins.
    ///
    /// # Errors
    /// If the Secret can't be read or written.
    pub async fn renew(&self, served: Option<&Certificates>) -> Result<Certificates, Error> {
        loop {
            let found = self.get().await?;
            let mut secret = found.clone().unwrap_or_else(|| Secret {
                metadata: ObjectMeta { name: Some(self.secret.clone()), ..ObjectMeta::default() },
                ..Secret::default()
            });
            let data = secret.data.get_or_insert_default();
            let stored = Certificates::read(data);
            let usable = stored.clone().filter(Certificates::are_usable);
            let base = usable.or_else(|| served.map(Certificates::without_key)).or_else(|| stored.clone());
            let certificates = Certificates::renewed(base, &self.dns_name, OffsetDateTime::now_utc())?;
            if stored.as_ref() == Some(&certificates) {
                return Ok(certificates);
            }
            certificates.write(data);
            let parameters = PostParams::default();
            let written = match found {
                // Carries the resourceVersion that was read, so it conflicts with a concurrent write.
                Some(_) => self.api.replace(&self.secret, &parameters, &secret).await,
                None => self.api.create(&parameters, &secret).await,
            };
            match written {
                Ok(_) => {
                    tracing::info!(secret = self.secret, "renewed certificates");
                    return Ok(certificates);
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(source) => return Err(self.secret_error(source)),
            }
        }
    }

    /// An item whenever the Secret is changed or deleted.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.secret));
        watcher(self.api.clone(), only)
            .default_backoff()
            .inspect_err(|error| tracing::warn!(%error, "watch of the certificate Secret failed, retrying"))
            .filter_map(async |event| event.ok().map(|_| ()))
    }

    async fn get(&self) -> Result<Option<Secret>, Error> {
        self.api.get_opt(&self.secret).await.map_err(|source| self.secret_error(source))
    }

    fn secret_error(&self, source: kube::Error) -> Error {
        Error::Secret { name: self.secret.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use http::Method;

    use super::{
        super::{
            secret::{BUNDLE, CA_KEY, CERTIFICATE, KEY},
            x509,
        },
        *,
    };
    use crate::runtime::test_support::client;

    const NAME: &str = "adieu.adieu-system.svc";

    fn is_trusted(certificates: &Certificates) -> bool {
        let cas = x509::split(&certificates.bundle);
        cas.iter().any(|ca| x509::is_signed_by(&certificates.serving, NAME, ca))
    }

    #[tokio::test]
    async fn a_corrupted_secret_is_replaced_and_the_serving_certificate_kept() {
        let served = Certificates::renewed(None, NAME, OffsetDateTime::now_utc()).unwrap();
        let mut data = BTreeMap::new();
        served.write(&mut data);
        for damaged in [&[BUNDLE][..], &[CERTIFICATE], &[KEY], &[BUNDLE, CA_KEY, CERTIFICATE, KEY]] {
            let mut data = data.clone();
            for key in damaged {
                data.insert((*key).to_owned(), k8s_openapi::ByteString(b"\xff nonsense".to_vec()));
            }
            let metadata = ObjectMeta { name: Some("certificates".into()), ..ObjectMeta::default() };
            let secret = Secret { metadata, data: Some(data), ..Secret::default() };
            let secret = serde_json::to_value(secret).unwrap();
            let written = Arc::new(AtomicUsize::new(0));
            let writes = written.clone();
            let client = client(move |method, _| {
                writes.fetch_add(usize::from(*method == Method::PUT), Ordering::Relaxed);
                Some((200, secret.clone()))
            });
            let store = CertificateStore::new(client, "adieu-system", "certificates".into(), NAME.into());
            // A replica that only reads keeps its certificates.
            assert!(store.read().await.unwrap().is_none(), "{damaged:?}");
            let created = store.renew(Some(&served)).await.unwrap();
            assert!(created.serving == served.serving && is_trusted(&created), "{damaged:?}");
            assert!(!created.bundle.starts_with(&served.bundle), "{damaged:?}");
            assert_eq!(written.load(Ordering::Relaxed), 1, "{damaged:?}");
            // A replica that starts gets other certificates.
            let new = store.renew(None).await.unwrap();
            assert!(new.are_usable() && is_trusted(&new), "{damaged:?}");
        }
    }
}
