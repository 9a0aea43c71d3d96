//! Creates and checks X.509 certificates in PEM.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use x509_parser::pem::Pem;

use crate::runtime::serving::{self, KeyPair};

/// The validity of a CA, and of a serving certificate.
pub(super) const CA_LIFETIME: Duration = Duration::days(3650);
pub(super) const LIFETIME: Duration = Duration::days(90);
/// Certificates are valid from a little earlier, because clocks differ.
pub(super) const BACKDATE: Duration = Duration::minutes(5);

pub(super) fn create_ca(
    now: OffsetDateTime,
) -> Result<CertifiedIssuer<'static, rcgen::KeyPair>, rcgen::Error> {
    let mut params = params("adieu webhook CA", vec![], now, CA_LIFETIME)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate()?)
}

pub(super) fn create_serving<K: rcgen::SigningKey>(
    issuer: &Issuer<'_, K>,
    dns_name: &str,
    now: OffsetDateTime,
) -> Result<KeyPair, rcgen::Error> {
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
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(dns_names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = now - BACKDATE;
    params.not_after = now + lifetime;
    Ok(params)
}

pub(super) fn is_valid(certificate: &str, now: OffsetDateTime) -> bool {
    let now = now.unix_timestamp();
    validity(certificate).is_some_and(|(not_before, not_after)| not_before <= now && now < not_after)
}

/// The time since the certificate was issued.
pub(super) fn age(certificate: &str, now: OffsetDateTime) -> Option<Duration> {
    let (not_before, _) = validity(certificate)?;
    Some(Duration::seconds(now.unix_timestamp() - not_before) - BACKDATE)
}

/// An issuer for the CA; `None` if the key is that of another certificate.
pub(super) fn issuer(certificate: &str, key: &str) -> Option<Issuer<'static, rcgen::KeyPair>> {
    let pair = KeyPair { certificate: certificate.to_owned(), key: key.to_owned() };
    serving::configure(&pair).ok()?;
    Issuer::from_ca_cert_pem(certificate, rcgen::KeyPair::from_pem(key).ok()?).ok()
}

/// Whether the CA signed the certificate, for that name, and the key is the certificate's.
pub(super) fn is_signed_by(pair: &KeyPair, dns_name: &str, ca: &str) -> bool {
    let key_matches = serving::configure(pair).is_ok();
    let signed = || {
        let (certificate, ca) = (first_pem(&pair.certificate)?, first_pem(ca)?);
        let (certificate, ca) = (certificate.parse_x509().ok()?, ca.parse_x509().ok()?);
        let names = &certificate.subject_alternative_name().ok()??.value.general_names;
        let named = names.contains(&x509_parser::extensions::GeneralName::DNSName(dns_name));
        Some(named && certificate.verify_signature(Some(ca.public_key())).is_ok())
    };
    key_matches && signed().unwrap_or(false)
}

/// `notBefore` and `notAfter`, in seconds since 1970.
pub(super) fn validity(certificate: &str) -> Option<(i64, i64)> {
    let pem = first_pem(certificate)?;
    let validity = pem.parse_x509().ok()?.validity().clone();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn first_pem(pem: &str) -> Option<Pem> {
    Pem::iter_from_buffer(pem.as_bytes()).next()?.ok()
}

/// The certificates of a bundle.
pub(super) fn split(bundle: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----\n";
    bundle.split_inclusive(END).filter(|pem| pem.ends_with(END)).map(str::to_owned).collect()
}
