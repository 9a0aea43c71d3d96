//! Decides when the certificates are renewed, and in which steps a new CA replaces the previous one.
//!
//! The CA and the serving certificate are renewed when a third of their lifetime is left, and immediately if they are
//! missing or invalid. A new CA is added to the bundle first, and signs the serving certificate only after the API servers
//! had time to load it. The previous CA stays in the bundle until no replica can serve with a certificate that it signed.
//! So no handshake fails, whether certificates expire, are corrupted, or are deleted to force a renewal.

use rcgen::Issuer;
use time::{Duration, OffsetDateTime};

use super::{secret::Certificates, x509};
use crate::runtime::serving::KeyPair;

/// The age at which a CA signs if an older one is trusted: until then the caBundle is written, and the API servers
/// receive it.
const TRUSTED_AFTER: Duration = Duration::seconds(30);
/// The age at which a CA replaces the older ones in the bundle: by then every replica has loaded the new serving
/// certificate.
const OLD_CA_REMOVED_AFTER: Duration = Duration::hours(1);

impl Certificates {
    /// Replaces missing, unreadable and old certificates of `stored` at the time `now`, for a server that is called
    /// by `dns_name`.
    ///
    /// # Errors
    /// If a certificate can't be created.
    pub fn renewed(stored: Option<Self>, dns_name: &str, now: OffsetDateTime) -> Result<Self, rcgen::Error> {
        let (trusted, key, serving) = stored.map_or_else(Default::default, |stored| {
            (x509::split(&stored.bundle), stored.key, Some(stored.serving))
        });
        let mut trusted: Vec<_> = trusted.into_iter().filter(|pem| x509::is_valid(pem, now)).collect();
        let first = trusted.first().filter(|pem| is_fresh(pem, x509::CA_LIFETIME, now));
        let (issuer, key) = if let Some(issuer) = first.and_then(|pem| x509::issuer(pem, &key)) {
            (issuer, key)
        } else {
            let created = x509::create_ca(now)?;
            let key = created.key().serialize_pem();
            trusted.insert(0, created.pem());
            (Issuer::from_ca_cert_pem(&created.pem(), rcgen::KeyPair::from_pem(&key)?)?, key)
        };
        let age = trusted.first().and_then(|pem| x509::age(pem, now)).unwrap_or(Duration::ZERO);
        let signers =
            if age < TRUSTED_AFTER { trusted.as_slice() } else { trusted.get(..1).unwrap_or_default() };
        let is_good = |pair: &KeyPair| {
            is_fresh(&pair.certificate, x509::LIFETIME, now)
                && signers.iter().any(|ca| x509::is_signed_by(pair, dns_name, ca))
        };
        let serving = match serving.filter(is_good) {
            Some(pair) => pair,
            None => x509::create_serving(&issuer, dns_name, now)?,
        };
        if age >= OLD_CA_REMOVED_AFTER {
            trusted.truncate(1);
        }
        Ok(Self { bundle: trusted.concat(), key, serving })
    }

    /// The time until the next step of a CA rotation, an hour at most.
    #[must_use]
    pub fn next_step(&self, now: OffsetDateTime) -> std::time::Duration {
        let trusted = x509::split(&self.bundle);
        let age = trusted.first().and_then(|pem| x509::age(pem, now)).unwrap_or(Duration::ZERO);
        let due =
            [TRUSTED_AFTER, OLD_CA_REMOVED_AFTER].into_iter().find(|due| *due > age).map(|due| due - age);
        let due = due.filter(|_| trusted.len() > 1).unwrap_or(Duration::HOUR);
        due.try_into().unwrap_or_default()
    }
}

/// Whether the certificate needs no renewal: it is valid, and a third of its lifetime is left.
fn is_fresh(certificate: &str, lifetime: Duration, now: OffsetDateTime) -> bool {
    x509::is_valid(certificate, now + lifetime / 3) && x509::is_valid(certificate, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "adieu.adieu-system.svc";

    fn renewed(kept: Option<Certificates>, after: Duration) -> Certificates {
        Certificates::renewed(kept, NAME, OffsetDateTime::now_utc() + after).unwrap()
    }

    fn first(certificates: &Certificates) -> String {
        x509::split(&certificates.bundle).remove(0)
    }

    fn trusts(certificates: &Certificates, serving: &KeyPair) -> bool {
        x509::split(&certificates.bundle).iter().any(|ca| x509::is_signed_by(serving, NAME, ca))
    }

    #[test]
    fn fresh_certificates_are_kept() {
        let created = renewed(None, Duration::ZERO);
        assert!(trusts(&created, &created.serving));
        for days in [0, 1, 59] {
            assert!(renewed(Some(created.clone()), Duration::days(days)) == created, "after {days} days");
        }
    }

    #[test]
    fn an_old_serving_certificate_is_renewed_by_the_same_ca() {
        let created = renewed(None, Duration::ZERO);
        let later = renewed(Some(created.clone()), Duration::days(61));
        assert!(later.bundle == created.bundle && later.serving != created.serving);
        assert!(later.not_before() > created.not_before() && later.expiration() > created.expiration());
        assert_eq!(
            created.expiration() - created.not_before(),
            (x509::LIFETIME + x509::BACKDATE).whole_seconds()
        );
    }

    #[test]
    fn a_new_ca_is_trusted_before_it_signs_and_the_old_one_after() {
        let created = renewed(None, Duration::ZERO);
        let old = Duration::days(3650 * 2 / 3 + 1);
        // The serving certificate was renewed in the meantime.
        let before = renewed(Some(created), old - Duration::days(40));
        let announced = renewed(Some(before.clone()), old);
        assert_eq!(x509::split(&announced.bundle).len(), 2);
        assert!(announced.serving == before.serving && first(&announced) != first(&before));
        let due = announced.next_step(OffsetDateTime::now_utc() + old);
        assert!(due <= TRUSTED_AFTER.unsigned_abs() && due > TRUSTED_AFTER.unsigned_abs() / 2, "{due:?}");

        let signed = renewed(Some(announced.clone()), old + TRUSTED_AFTER + Duration::SECOND);
        assert!(signed.serving != announced.serving && signed.bundle == announced.bundle);
        for served in [&before, &announced, &signed] {
            assert!(trusts(&announced, &served.serving) && trusts(&signed, &served.serving));
        }
        let alone = renewed(Some(signed.clone()), old + OLD_CA_REMOVED_AFTER + Duration::SECOND);
        assert!(alone.serving == signed.serving && alone.bundle == first(&signed));
    }

    #[test]
    fn a_lost_secret_is_restored_and_the_serving_certificate_stays_trusted() {
        let served = renewed(None, Duration::ZERO);
        let created = renewed(Some(served.without_key()), Duration::days(1));
        assert!(created.serving == served.serving && first(&created) != first(&served));
        let later = renewed(Some(created.clone()), Duration::days(1) + TRUSTED_AFTER + Duration::SECOND);
        assert!(later.serving != served.serving && trusts(&created, &later.serving));
    }

    #[test]
    fn corrupted_and_mismatched_certificates_are_replaced() {
        let good = renewed(None, Duration::ZERO);
        let other = renewed(None, Duration::ZERO);
        let mut key_of_another = good.clone();
        key_of_another.serving.key = other.serving.key.clone();
        let mut signed_by_another = good.clone();
        signed_by_another.serving = other.serving;
        let mut garbage = good.clone();
        garbage.serving.certificate = "nonsense".into();
        for damaged in [key_of_another, signed_by_another, garbage] {
            let renewed_again = renewed(Some(damaged), Duration::ZERO);
            assert!(renewed_again.bundle == good.bundle && renewed_again.serving != good.serving);
            assert!(trusts(&renewed_again, &renewed_again.serving));
        }
        for key in [String::new(), "nonsense".into(), other.key] {
            let renewed_again = renewed(Some(Certificates { key, ..good.clone() }), Duration::ZERO);
            assert!(first(&renewed_again) != first(&good) && trusts(&renewed_again, &renewed_again.serving));
        }
        let nonsense =
            renewed(Some(Certificates { bundle: "nonsense".into(), ..good.clone() }), Duration::ZERO);
        assert!(trusts(&nonsense, &nonsense.serving));

        let elsewhere =
            Certificates::renewed(Some(good.clone()), "b.c.svc", OffsetDateTime::now_utc()).unwrap();
        assert!(
            elsewhere.serving != good.serving
                && x509::is_signed_by(&elsewhere.serving, "b.c.svc", &good.bundle)
        );
    }
}
