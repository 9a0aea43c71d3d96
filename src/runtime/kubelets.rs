//! Whether every kubelet knows the native sleep action.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, api::ListParams};
use tokio::{sync::watch, time::sleep};

/// The minor version from which kubelets have it: beta and on by default in 1.30 (KEP-3960).
const SINCE: u32 = 30;
/// Kubelets may be three minor versions older than the API server (Kubernetes version skew policy).
const SKEW: u32 = 3;
/// Between two looks at the nodes of an older cluster.
const INTERVAL: Duration = Duration::from_mins(10);
/// How long after a failure the next attempt is made.
const RETRY: Duration = Duration::from_secs(10);

/// Keeps `native_sleep` true to the cluster. It stays `None` until that is known.
pub async fn follow(client: Client, native_sleep: watch::Sender<Option<bool>>) {
    loop {
        match look(&client).await {
            Ok(known) => drop(native_sleep.send_replace(Some(known))),
            Err(error) => {
                tracing::warn!(%error, "versions of the cluster not read, trying again");
                sleep(RETRY).await;
                continue;
            }
        }
        sleep(INTERVAL).await;
    }
}

async fn look(client: &Client) -> Result<bool, kube::Error> {
    let server = client.apiserver_version().await?;
    if minor_of(&format!("{}.{}", server.major, server.minor)).is_some_and(|minor| minor >= SINCE + SKEW) {
        return Ok(true);
    }
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let versions = nodes.items.iter().map(|node| {
        node.status
            .as_ref()
            .and_then(|status| status.node_info.as_ref())
            .map_or("", |info| &info.kubelet_version)
    });
    Ok(all_since(versions))
}

/// Whether all of these kubelet versions have the action. One that can't be read may not.
fn all_since<'a>(mut versions: impl Iterator<Item = &'a str>) -> bool {
    versions.all(|version| minor_of(version).is_some_and(|minor| minor >= SINCE))
}

/// The minor version of `v1.30.2-gke.100`, `1.33+`; anything from 2.0 on counts as new.
fn minor_of(version: &str) -> Option<u32> {
    let mut numbers = version.trim_start_matches('v').split('.');
    let major: u32 = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?;
    let digits = minor.split(|c: char| !c.is_ascii_digit()).next()?;
    if major > 1 { Some(u32::MAX) } else { digits.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        for (version, minor) in [
            ("v1.30.2-gke.1587003", Some(30)),
            ("v1.29.15+k3s1", Some(29)),
            ("1.33+", Some(33)),
            ("2.1", Some(u32::MAX)),
            ("", None),
            ("v1", None),
        ] {
            assert_eq!(minor_of(version), minor, "{version}");
        }
    }

    #[test]
    fn one_old_kubelet_is_enough() {
        assert!(all_since(["v1.30.0", "v1.32.4"].into_iter()));
        assert!(!all_since(["v1.30.0", "v1.29.9"].into_iter()));
        assert!(!all_since(["v1.30.0", ""].into_iter()));
    }
}
