//! The certificates, as they are stored in the Secret.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;

use super::x509;
use crate::runtime::serving::{self, KeyPair};

pub(super) const BUNDLE: &str = "ca.crt";
pub(super) const CA_KEY: &str = "ca.key";
pub(super) const CERTIFICATE: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";

/// The CA certificates and the serving certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The trusted CA certificates, PEM: the webhook's caBundle. The first one signs.
    pub bundle: String,
    /// The key of the first CA; empty if another component signs.
    pub(super) key: String,
    /// The serving certificate.
    pub serving: KeyPair,
}

impl Certificates {
    /// These without the CA's key, for the case that the Secret is deleted: the serving certificate stays trusted
    /// until it is replaced.
    pub(super) fn without_key(&self) -> Self {
        Self { key: String::new(), ..self.clone() }
    }

    /// Seconds since 1970 from which the serving certificate is valid; 0 if it can't be read.
    #[must_use]
    pub fn not_before(&self) -> i64 {
        x509::validity(&self.serving.certificate).map_or(0, |(not_before, _)| not_before)
    }

    /// Seconds since 1970 at which the serving certificate expires; 0 if it can't be read.
    #[must_use]
    pub fn expiration(&self) -> i64 {
        x509::validity(&self.serving.certificate).map_or(0, |(_, not_after)| not_after)
    }

    pub(super) fn are_usable(&self) -> bool {
        serving::configure(&self.serving).is_ok() && !x509::split(&self.bundle).is_empty()
    }

    pub(super) fn read(data: &BTreeMap<String, ByteString>) -> Option<Self> {
        let text = |key| String::from_utf8(data.get(key)?.0.clone()).ok();
        let serving = KeyPair { certificate: text(CERTIFICATE)?, key: text(KEY)? };
        Some(Self { bundle: text(BUNDLE)?, key: text(CA_KEY).unwrap_or_default(), serving })
    }

    pub(super) fn write(&self, data: &mut BTreeMap<String, ByteString>) {
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

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn certificates_survive_a_round_trip_through_a_secret() {
        let now = OffsetDateTime::now_utc();
        let certificates = Certificates::renewed(None, "adieu.adieu-system.svc", now).unwrap();
        let mut data = BTreeMap::new();
        assert!(Certificates::read(&data).is_none());
        certificates.write(&mut data);
        assert!(Certificates::read(&data) == Some(certificates));
    }
}
