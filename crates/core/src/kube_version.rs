//! Versions of Kubernetes.

use std::str::FromStr;

/// A version of Kubernetes: major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KubeVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

/// The first version whose kubelets support the native sleep action: beta and enabled by default (KEP-3960).
const NATIVE_SLEEP: KubeVersion = KubeVersion { major: 1, minor: 30 };
/// Kubelets may be three minor versions older than the API server (Kubernetes version skew policy).
const MAX_KUBELET_SKEW: u32 = 3;

impl KubeVersion {
    /// Whether kubelets of this version support the native sleep action.
    #[must_use]
    pub fn has_native_sleep(self) -> bool {
        self >= NATIVE_SLEEP
    }

    /// Whether all kubelets that an API server of this version may have support the native sleep action.
    #[must_use]
    pub fn kubelets_have_native_sleep(self) -> bool {
        self >= KubeVersion { minor: NATIVE_SLEEP.minor + MAX_KUBELET_SKEW, ..NATIVE_SLEEP }
    }
}

/// The text isn't a version of Kubernetes.
#[derive(Debug, thiserror::Error)]
#[error("must be a version of Kubernetes, for example 1.30, v1.30.2 or v1.30.2-gke.1")]
pub struct InvalidVersion;

impl FromStr for KubeVersion {
    type Err = InvalidVersion;

    /// `1.30` or `1.30.2`, with an optional `v` before it and a distribution's suffix.
    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(['-', '+']).unwrap_or(text.len());
        let numbers: Option<Vec<u32>> = text[..end]
            .split('.')
            .map(|number| number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok()).flatten())
            .collect();
        match numbers.as_deref() {
            Some([major, minor] | [major, minor, _]) if *major > 0 => {
                Ok(Self { major: *major, minor: *minor })
            }
            _ => Err(InvalidVersion),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_users_and_distributions_are_parsed() {
        for (text, major, minor) in [
            ("1.30", 1, 30),
            ("v1.30", 1, 30),
            ("1.30.2", 1, 30),
            ("v1.30.2-gke.1587003", 1, 30),
            ("v1.29.15+k3s1", 1, 29),
            ("1.33+", 1, 33),
            ("2.1", 2, 1),
        ] {
            assert_eq!(text.parse::<KubeVersion>().unwrap(), KubeVersion { major, minor }, "{text}");
        }
        for text in ["", "1", "v1", "1.x", "1.+3", "latest", "0.30", "1.30.2.1", "1.30 ", "vv1.30", "1..2"] {
            assert!(text.parse::<KubeVersion>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_native_sleep_needs_a_kubelet_of_1_30_and_an_api_server_of_1_33_guarantees_it() {
        for (text, kubelet, api_server) in [
            ("1.29", false, false),
            ("1.30", true, false),
            ("1.32", true, false),
            ("1.33", true, true),
            ("2.0", true, true),
        ] {
            let version: KubeVersion = text.parse().unwrap();
            assert_eq!(
                (version.has_native_sleep(), version.kubelets_have_native_sleep()),
                (kubelet, api_server),
                "{text}"
            );
        }
    }
}
