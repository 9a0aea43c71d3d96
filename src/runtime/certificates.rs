//! The webhook's certificates: a certification authority of our own and the serving certificate that it
//! signs, kept in a Secret that every replica reads and the leader renews.
//!
//! A new authority is trusted before anything is signed by it: it comes into the bundle first, and the
//! serving certificate follows once the API servers have had the time to learn of it. The one from before
//! stays in the bundle until no replica can serve with what it signed. So no handshake fails, whether
//! certificates are old, corrupted, or were deleted by someone who wants others.

use std::collections::BTreeMap;

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use x509_parser::pem::Pem;

use super::serving::{self, KeyPair};

const BUNDLE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// How long an authority is valid, and a serving certificate. Each is made anew when a third of its time is
/// left.
const CA_LIFETIME: Duration = Duration::days(3650);
const LIFETIME: Duration = Duration::days(90);
/// Clocks differ; a certificate is valid from a little earlier.
const BACKDATE: Duration = Duration::minutes(5);
/// How old an authority is before it signs, where another is trusted: the caBundle has to be written and the
/// API servers' watches have to bring it.
const TRUSTED_AFTER: Duration = Duration::seconds(30);
/// How old an authority is before the ones from before it leave the bundle: replicas take over a new serving
/// certificate as their watches bring it.
const ALONE_AFTER: Duration = Duration::hours(1);

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

/// The authorities and the serving certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The certificates of the authorities that are trusted, PEM: the webhook's caBundle. The first is the
    /// one that signs from now on.
    pub bundle: String,
    /// The key of the first; empty where somebody else signs.
    key: String,
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
        let (trusted, key, serving) = kept
            .map_or_else(Default::default, |kept| (authorities(&kept.bundle), kept.key, Some(kept.serving)));
        let mut trusted: Vec<_> = trusted.into_iter().filter(|pem| is_valid(pem, now)).collect();
        let first = trusted.first().filter(|pem| lasts(pem, CA_LIFETIME, now));
        let signs = first.and_then(|pem| issuer(pem, &key));
        let (issuer, key) = if let Some(issuer) = signs {
            (issuer, key)
        } else {
            let made = make_authority(now)?;
            let key = made.key().serialize_pem();
            trusted.insert(0, made.pem());
            (Issuer::from_ca_cert_pem(&made.pem(), rcgen::KeyPair::from_pem(&key)?)?, key)
        };
        let age = trusted.first().and_then(|pem| age(pem, now)).unwrap_or(Duration::ZERO);
        let signer =
            if age < TRUSTED_AFTER { trusted.as_slice() } else { trusted.get(..1).unwrap_or_default() };
        let good = |pair: &KeyPair| {
            lasts(&pair.certificate, LIFETIME, now)
                && signer.iter().any(|authority| serves(pair, dns_name, authority))
        };
        let serving = match serving.filter(good) {
            Some(pair) => pair,
            None => make_serving(&issuer, dns_name, now)?,
        };
        if age >= ALONE_AFTER {
            trusted.truncate(1);
        }
        Ok(Self { bundle: trusted.concat(), key, serving })
    }

    /// How long it is until something is due that age alone brings about; an hour where it is longer.
    #[must_use]
    pub fn due(&self, now: OffsetDateTime) -> std::time::Duration {
        let trusted = authorities(&self.bundle);
        let age = trusted.first().and_then(|pem| age(pem, now)).unwrap_or(Duration::ZERO);
        let due = [TRUSTED_AFTER, ALONE_AFTER].into_iter().find(|due| *due > age).map(|due| due - age);
        let due = due.filter(|_| trusted.len() > 1).unwrap_or(Duration::HOUR);
        due.try_into().unwrap_or_default()
    }

    /// These without the key of the authority, for the case that the Secret is gone: what is served with stays
    /// trusted until others take its place.
    #[must_use]
    pub fn to_be_replaced(&self) -> Self {
        Self { key: String::new(), ..self.clone() }
    }

    /// Seconds since 1970 from which the serving certificate is valid; 0 where it can't be read.
    #[must_use]
    pub fn not_before(&self) -> i64 {
        validity(&self.serving.certificate).map_or(0, |(not_before, _)| not_before)
    }

    /// Seconds since 1970 at which the serving certificate expires; 0 where it can't be read.
    #[must_use]
    pub fn expiration(&self) -> i64 {
        validity(&self.serving.certificate).map_or(0, |(_, not_after)| not_after)
    }

    fn can_be_served_with(&self) -> bool {
        serving::configure(&self.serving).is_ok() && !authorities(&self.bundle).is_empty()
    }

    fn read(data: &BTreeMap<String, ByteString>) -> Option<Self> {
        let text = |key| String::from_utf8(data.get(key)?.0.clone()).ok();
        let serving = KeyPair { certificate: text(CERTIFICATE)?, key: text(KEY)? };
        Some(Self { bundle: text(BUNDLE)?, key: text(CA_KEY).unwrap_or_default(), serving })
    }

    fn write(&self, data: &mut BTreeMap<String, ByteString>) {
        for (key, pem) in [
            (BUNDLE, &self.bundle),
            (CA_KEY, &self.key),
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

    /// The certificates as they are kept; `None` where none can be served with.
    ///
    /// # Errors
    /// Where the Secret can't be read.
    pub async fn read(&self) -> Result<Option<Certificates>, Error> {
        let secret = self.get().await?;
        let kept = secret.and_then(|secret| Certificates::read(&secret.data.unwrap_or_default()));
        Ok(kept.filter(Certificates::can_be_served_with))
    }

    /// The certificates as they are kept, renewed where need be; `served` is what is being served with. Where
    /// another replica renews at the same time, the first to write wins.
    ///
    /// # Errors
    /// Where the Secret can't be read or written.
    pub async fn renew(&self, served: Option<&Certificates>) -> Result<Certificates, Error> {
        loop {
            let found = self.get().await?;
            let mut secret = found.clone().unwrap_or_else(|| Secret {
                metadata: ObjectMeta { name: Some(self.secret.clone()), ..ObjectMeta::default() },
                ..Secret::default()
            });
            let data = secret.data.get_or_insert_default();
            let kept = Certificates::read(data);
            let sound = kept.clone().filter(Certificates::can_be_served_with);
            let known = sound.or_else(|| served.map(Certificates::to_be_replaced)).or_else(|| kept.clone());
            let certificates = Certificates::renewed(known, &self.dns_name, OffsetDateTime::now_utc())?;
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
                Err(source) => return Err(self.failed(source)),
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

    async fn get(&self) -> Result<Option<Secret>, Error> {
        self.api.get_opt(&self.secret).await.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: kube::Error) -> Error {
        Error::Secret { name: self.secret.clone(), source }
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
fn lasts(certificate: &str, lifetime: Duration, now: OffsetDateTime) -> bool {
    is_valid(certificate, now + lifetime / 3) && is_valid(certificate, now)
}

fn is_valid(certificate: &str, now: OffsetDateTime) -> bool {
    let now = now.unix_timestamp();
    validity(certificate).is_some_and(|(not_before, not_after)| not_before <= now && now < not_after)
}

/// How long ago it was made.
fn age(certificate: &str, now: OffsetDateTime) -> Option<Duration> {
    let (not_before, _) = validity(certificate)?;
    Some(Duration::seconds(now.unix_timestamp() - not_before) - BACKDATE)
}

/// What signs for the authority; `None` where the key isn't its own.
fn issuer(certificate: &str, key: &str) -> Option<Issuer<'static, rcgen::KeyPair>> {
    let pair = KeyPair { certificate: certificate.to_owned(), key: key.to_owned() };
    serving::configure(&pair).ok()?;
    Issuer::from_ca_cert_pem(certificate, rcgen::KeyPair::from_pem(key).ok()?).ok()
}

/// Whether the certificate is the authority's, for that name, and belongs to its key.
fn serves(pair: &KeyPair, dns_name: &str, authority: &str) -> bool {
    let key_matches = serving::configure(pair).is_ok();
    let signed = || {
        let (certificate, authority) = (first_pem(&pair.certificate)?, first_pem(authority)?);
        let (certificate, authority) = (certificate.parse_x509().ok()?, authority.parse_x509().ok()?);
        let names = &certificate.subject_alternative_name().ok()??.value.general_names;
        let named = names.contains(&x509_parser::extensions::GeneralName::DNSName(dns_name));
        Some(named && certificate.verify_signature(Some(authority.public_key())).is_ok())
    };
    key_matches && signed().unwrap_or(false)
}

fn validity(certificate: &str) -> Option<(i64, i64)> {
    let pem = first_pem(certificate)?;
    let validity = pem.parse_x509().ok()?.validity().clone();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn first_pem(pem: &str) -> Option<Pem> {
    Pem::iter_from_buffer(pem.as_bytes()).next()?.ok()
}

/// The certificates of a bundle, one by one.
fn authorities(bundle: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----\n";
    bundle.split_inclusive(END).filter(|pem| pem.ends_with(END)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use http::Method;

    use super::*;
    use crate::trial::test_support::client;

    const NAME: &str = "adieu.adieu-system.svc";

    fn renewed(kept: Option<Certificates>, after: Duration) -> Certificates {
        Certificates::renewed(kept, NAME, OffsetDateTime::now_utc() + after).unwrap()
    }

    fn first(certificates: &Certificates) -> String {
        authorities(&certificates.bundle).remove(0)
    }

    /// Every replica, whichever of these it has by now, is trusted by an API server with any of these.
    fn trusts(certificates: &Certificates, serving: &KeyPair) -> bool {
        authorities(&certificates.bundle).iter().any(|authority| serves(serving, NAME, authority))
    }

    #[test]
    fn good_certificates_stay() {
        let made = renewed(None, Duration::ZERO);
        assert!(trusts(&made, &made.serving));
        for days in [0, 1, 59] {
            assert!(renewed(Some(made.clone()), Duration::days(days)) == made, "after {days} days");
        }
    }

    #[test]
    fn an_old_serving_certificate_is_renewed_by_the_same_authority() {
        let made = renewed(None, Duration::ZERO);
        let later = renewed(Some(made.clone()), Duration::days(61));
        assert!(later.bundle == made.bundle && later.serving != made.serving);
        assert!(later.not_before() > made.not_before() && later.expiration() > made.expiration());
        assert_eq!(made.expiration() - made.not_before(), (LIFETIME + BACKDATE).whole_seconds());
    }

    #[test]
    fn a_new_authority_is_trusted_before_it_signs_and_the_old_one_after() {
        let made = renewed(None, Duration::ZERO);
        let old = Duration::days(3650 * 2 / 3 + 1);
        // Its serving certificate was renewed in the meantime.
        let before = renewed(Some(made), old - Duration::days(40));
        let announced = renewed(Some(before.clone()), old);
        assert_eq!(authorities(&announced.bundle).len(), 2);
        assert!(announced.serving == before.serving && first(&announced) != first(&before));
        let due = announced.due(OffsetDateTime::now_utc() + old);
        assert!(due <= TRUSTED_AFTER.unsigned_abs() && due > TRUSTED_AFTER.unsigned_abs() / 2, "{due:?}");

        let signed = renewed(Some(announced.clone()), old + TRUSTED_AFTER + Duration::SECOND);
        assert!(signed.serving != announced.serving && signed.bundle == announced.bundle);
        for served in [&before, &announced, &signed] {
            assert!(trusts(&announced, &served.serving) && trusts(&signed, &served.serving));
        }
        let alone = renewed(Some(signed.clone()), old + ALONE_AFTER + Duration::SECOND);
        assert!(alone.serving == signed.serving && alone.bundle == first(&signed));
    }

    #[test]
    fn what_is_lost_is_made_again_and_what_is_served_with_stays_trusted() {
        let served = renewed(None, Duration::ZERO);
        let made = renewed(Some(served.to_be_replaced()), Duration::days(1));
        assert!(made.serving == served.serving && first(&made) != first(&served));
        let later = renewed(Some(made.clone()), Duration::days(1) + TRUSTED_AFTER + Duration::SECOND);
        assert!(later.serving != served.serving && trusts(&made, &later.serving));
    }

    #[test]
    fn what_is_corrupted_or_anothers_is_made_again() {
        let good = renewed(None, Duration::ZERO);
        let other = renewed(None, Duration::ZERO);
        let mut key_of_another = good.clone();
        key_of_another.serving.key = other.serving.key.clone();
        let mut signed_by_another = good.clone();
        signed_by_another.serving = other.serving;
        let mut garbage = good.clone();
        garbage.serving.certificate = "nonsense".into();
        for damaged in [key_of_another, signed_by_another, garbage] {
            let mended = renewed(Some(damaged), Duration::ZERO);
            assert!(mended.bundle == good.bundle && mended.serving != good.serving);
            assert!(trusts(&mended, &mended.serving));
        }
        for key in [String::new(), "nonsense".into(), other.key] {
            let mended = renewed(Some(Certificates { key, ..good.clone() }), Duration::ZERO);
            assert!(first(&mended) != first(&good) && trusts(&mended, &mended.serving));
        }
        let nonsense =
            renewed(Some(Certificates { bundle: "nonsense".into(), ..good.clone() }), Duration::ZERO);
        assert!(trusts(&nonsense, &nonsense.serving));

        let elsewhere =
            Certificates::renewed(Some(good.clone()), "b.c.svc", OffsetDateTime::now_utc()).unwrap();
        assert!(elsewhere.serving != good.serving && serves(&elsewhere.serving, "b.c.svc", &good.bundle));
    }

    #[test]
    fn a_secret_holds_them_and_an_empty_one_holds_none() {
        let certificates = renewed(None, Duration::ZERO);
        let mut data = BTreeMap::new();
        assert!(Certificates::read(&data).is_none());
        certificates.write(&mut data);
        assert!(Certificates::read(&data) == Some(certificates));
    }

    #[tokio::test]
    async fn a_secret_of_garbage_is_made_again_and_what_is_served_stays() {
        let served = renewed(None, Duration::ZERO);
        let mut data = BTreeMap::new();
        served.write(&mut data);
        for damaged in [&[BUNDLE][..], &[CERTIFICATE], &[KEY], &[BUNDLE, CA_KEY, CERTIFICATE, KEY]] {
            let mut data = data.clone();
            for key in damaged {
                data.insert((*key).to_owned(), ByteString(b"\xff nonsense".to_vec()));
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
            let keeper = Keeper::new(client, "adieu-system", "certificates".into(), NAME.into());
            // Who doesn't renew goes on with what it has.
            assert!(keeper.read().await.unwrap().is_none(), "{damaged:?}");
            let made = keeper.renew(Some(&served)).await.unwrap();
            assert!(made.serving == served.serving && trusts(&made, &served.serving), "{damaged:?}");
            assert_ne!(first(&made), first(&served), "{damaged:?}");
            assert_eq!(written.load(Ordering::Relaxed), 1, "{damaged:?}");
            // One that starts serves with others.
            let anew = keeper.renew(None).await.unwrap();
            assert!(anew.can_be_served_with() && trusts(&anew, &anew.serving), "{damaged:?}");
        }
    }
}
