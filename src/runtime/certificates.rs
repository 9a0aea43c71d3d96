//! The webhook's certificates: a certification authority of our own and the serving certificate that it
//! signs, kept in a Secret that every replica reads.

use std::collections::BTreeMap;

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::PostParams,
    runtime::{WatchStreamExt as _, watcher},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use x509_parser::pem::Pem;

use super::serving::{self, KeyPair};

const CA_CERTIFICATE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// How long the authority is valid, and the serving certificate. Each is made anew when a third of its
/// time is left.
const CA_LIFETIME: Duration = Duration::days(3650);
const LIFETIME: Duration = Duration::days(90);
/// Clocks differ; a certificate is valid from a little earlier.
const BACKDATE: Duration = Duration::minutes(5);

/// What can go wrong with certificates.
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
    /// A certificate can't be made.
    #[error("making a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// The authority and the serving certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The authority; its certificate is the webhook's caBundle.
    pub authority: KeyPair,
    /// What the webhook serves with.
    pub serving: KeyPair,
}

impl Certificates {
    /// Makes what is missing, unreadable or too old of `kept` at the time `now`, for a server that is
    /// called by `dns_name`.
    ///
    /// # Errors
    /// Where a certificate can't be made.
    pub fn renewed(kept: Option<Self>, dns_name: &str, now: OffsetDateTime) -> Result<Self, Error> {
        let authority = kept.as_ref().map(|kept| kept.authority.clone());
        let authority = authority.filter(|pair| lasts(pair, CA_LIFETIME, now)).and_then(|pair| {
            let key = rcgen::KeyPair::from_pem(&pair.key).ok()?;
            let issuer = Issuer::from_ca_cert_pem(&pair.certificate, key).ok()?;
            Some((pair, issuer))
        });
        if let Some((authority, issuer)) = authority {
            let serving = kept.map(|kept| kept.serving).filter(|pair| lasts(pair, LIFETIME, now));
            let serving = match serving.filter(|pair| serves(pair, dns_name, &authority)) {
                Some(pair) => pair,
                None => make_serving(&issuer, dns_name, now)?,
            };
            return Ok(Self { authority, serving });
        }
        let issuer = make_authority(now)?;
        let authority = KeyPair { certificate: issuer.pem(), key: issuer.key().serialize_pem() };
        Ok(Self { serving: make_serving(&issuer, dns_name, now)?, authority })
    }

    /// Seconds since 1970 at which the serving certificate expires; 0 where it can't be read.
    #[must_use]
    pub fn expiration(&self) -> i64 {
        validity(&self.serving).map_or(0, |(_, not_after)| not_after)
    }

    fn read(data: &BTreeMap<String, ByteString>) -> Option<Self> {
        let text = |key| String::from_utf8(data.get(key)?.0.clone()).ok();
        let pair = |certificate, key| Some(KeyPair { certificate: text(certificate)?, key: text(key)? });
        Some(Self { authority: pair(CA_CERTIFICATE, CA_KEY)?, serving: pair(CERTIFICATE, KEY)? })
    }

    fn write(&self, data: &mut BTreeMap<String, ByteString>) {
        for (key, pem) in [
            (CA_CERTIFICATE, &self.authority.certificate),
            (CA_KEY, &self.authority.key),
            (CERTIFICATE, &self.serving.certificate),
            (KEY, &self.serving.key),
        ] {
            data.insert(key.to_owned(), ByteString(pem.clone().into_bytes()));
        }
    }
}

/// The Secret that holds the certificates.
#[derive(Clone)]
pub struct Keeper {
    api: Api<Secret>,
    secret: String,
    dns_name: String,
}

impl Keeper {
    /// Keeps the certificates for `dns_name` in the Secret `secret`.
    #[must_use]
    pub fn new(client: Client, namespace: &str, secret: String, dns_name: String) -> Self {
        Self { api: Api::namespaced(client, namespace), secret, dns_name }
    }

    /// The certificates as they are kept, renewed where need be. Where another replica renews at the same
    /// time, the first to write wins and the others read.
    ///
    /// # Errors
    /// Where the Secret can't be read or written.
    pub async fn ensure(&self) -> Result<Certificates, Error> {
        loop {
            let failed = |source| Error::Secret { name: self.secret.clone(), source };
            let found = self.api.get_opt(&self.secret).await.map_err(failed)?;
            let mut secret = found.clone().unwrap_or_else(|| Secret {
                metadata: kube::api::ObjectMeta { name: Some(self.secret.clone()), ..Default::default() },
                ..Secret::default()
            });
            let data = secret.data.get_or_insert_default();
            let kept = Certificates::read(data);
            let certificates =
                Certificates::renewed(kept.clone(), &self.dns_name, OffsetDateTime::now_utc())?;
            if kept.as_ref() == Some(&certificates) {
                return Ok(certificates);
            }
            certificates.write(data);
            let parameters = PostParams::default();
            let written = match found {
                // Carries the resourceVersion that was read, and so fails if somebody was faster.
                Some(_) => self.api.replace(&self.secret, &parameters, &secret).await,
                None => self.api.create(&parameters, &secret).await,
            };
            match written {
                Ok(_) => {
                    tracing::info!(secret = self.secret, "certificates made");
                    return Ok(certificates);
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(source) => return Err(failed(source)),
            }
        }
    }

    /// An item whenever the Secret has changed or was deleted.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.secret));
        watcher(self.api.clone(), only)
            .default_backoff()
            .inspect_err(|error| tracing::warn!(%error, "watch of the certificates failed, trying again"))
            .filter_map(async |event| event.ok().map(|_| ()))
    }
}

fn make_authority(now: OffsetDateTime) -> Result<CertifiedIssuer<'static, rcgen::KeyPair>, Error> {
    let mut params = params("adieu webhook authority", vec![], now, CA_LIFETIME)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate()?)?)
}

fn make_serving<K: rcgen::SigningKey>(
    issuer: &Issuer<'_, K>,
    dns_name: &str,
    now: OffsetDateTime,
) -> Result<KeyPair, Error> {
    let mut params = params("adieu webhook", vec![dns_name.to_owned()], now, LIFETIME)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = rcgen::KeyPair::generate()?;
    Ok(KeyPair { certificate: params.signed_by(&key, issuer)?.pem(), key: key.serialize_pem() })
}

fn params(
    common_name: &str,
    dns_names: Vec<String>,
    now: OffsetDateTime,
    lifetime: Duration,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(dns_names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = now - BACKDATE;
    params.not_after = now + lifetime;
    Ok(params)
}

/// Whether a third of the certificate's time is left.
fn lasts(pair: &KeyPair, lifetime: Duration, now: OffsetDateTime) -> bool {
    let left = lifetime.whole_seconds() / 3;
    let now = now.unix_timestamp();
    validity(pair).is_some_and(|(not_before, not_after)| not_before <= now && now + left < not_after)
}

/// Whether the certificate is the authority's, for that name, and belongs to its key.
fn serves(pair: &KeyPair, dns_name: &str, authority: &KeyPair) -> bool {
    let key_matches = serving::configure(pair).is_ok();
    let signed = || {
        let [certificate, authority] = [&pair.certificate, &authority.certificate].map(|pem| first_pem(pem));
        let (certificate, authority) = (certificate?, authority?);
        let (certificate, authority) = (certificate.parse_x509().ok()?, authority.parse_x509().ok()?);
        let names = &certificate.subject_alternative_name().ok()??.value.general_names;
        let named = names.contains(&x509_parser::extensions::GeneralName::DNSName(dns_name));
        Some(named && certificate.verify_signature(Some(authority.public_key())).is_ok())
    };
    key_matches && signed().unwrap_or(false)
}

fn validity(pair: &KeyPair) -> Option<(i64, i64)> {
    let pem = first_pem(&pair.certificate)?;
    let validity = pem.parse_x509().ok()?.validity().clone();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn first_pem(pem: &str) -> Option<Pem> {
    Pem::iter_from_buffer(pem.as_bytes()).next()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "adieu.adieu-system.svc";

    fn renewed(kept: Option<Certificates>, days: i64) -> Certificates {
        Certificates::renewed(kept, NAME, OffsetDateTime::now_utc() + Duration::days(days)).unwrap()
    }

    #[test]
    fn good_certificates_stay() {
        let first = renewed(None, 0);
        assert!(serves(&first.serving, NAME, &first.authority));
        assert!(renewed(Some(first.clone()), 59) == first);
    }

    #[test]
    fn an_old_serving_certificate_is_renewed_by_the_same_authority() {
        let first = renewed(None, 0);
        let later = renewed(Some(first.clone()), 61);
        assert!(later.authority == first.authority && later.serving != first.serving);
        assert!(later.expiration() > first.expiration());
    }

    #[test]
    fn an_old_authority_is_replaced_with_what_it_signed() {
        let first = renewed(None, 0);
        let later = renewed(Some(first.clone()), 3650 * 2 / 3 + 1);
        assert!(later.authority != first.authority);
        assert!(serves(&later.serving, NAME, &later.authority));
    }

    #[test]
    fn what_is_corrupted_or_anothers_is_made_again() {
        let good = renewed(None, 0);
        let other = renewed(None, 0);
        let mut key_of_another = good.clone();
        key_of_another.serving.key = other.serving.key.clone();
        let mut signed_by_another = good.clone();
        signed_by_another.serving = other.serving;
        let mut garbage = good.clone();
        garbage.serving.certificate = "nonsense".into();
        for damaged in [key_of_another, signed_by_another, garbage] {
            let mended = renewed(Some(damaged), 0);
            assert!(mended.authority == good.authority && mended.serving != good.serving);
            assert!(serves(&mended.serving, NAME, &mended.authority));
        }
        let mut no_key = good.clone();
        no_key.authority.key = String::new();
        assert!(renewed(Some(no_key), 0).authority != good.authority);

        let elsewhere =
            Certificates::renewed(Some(good.clone()), "b.c.svc", OffsetDateTime::now_utc()).unwrap();
        assert!(elsewhere.serving != good.serving && serves(&elsewhere.serving, "b.c.svc", &good.authority));
    }

    #[test]
    fn a_secret_holds_them_and_an_empty_one_holds_none() {
        let certificates = renewed(None, 0);
        let mut data = BTreeMap::new();
        assert!(Certificates::read(&data).is_none());
        certificates.write(&mut data);
        assert!(Certificates::read(&data) == Some(certificates));
    }
}
