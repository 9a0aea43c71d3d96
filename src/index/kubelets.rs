//! Detects whether all kubelets support the sleep action of hooks.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::{Client, Resource as _};
use serde::Deserialize;
use tokio::{sync::watch, time::sleep};

use super::list_watch::for_each;

/// The first minor version that supports it: beta and enabled by default in 1.30 (KEP-3960).
const SINCE: u32 = 30;
/// Kubelets may be three minor versions older than the API server (Kubernetes version skew policy).
const SKEW: u32 = 3;
/// The interval of checks.
const INTERVAL: Duration = Duration::from_mins(10);
/// The time from a failure to the next attempt.
const RETRY: Duration = Duration::from_secs(10);

/// Sends to `native_sleep` whether all kubelets support it; the value is `None` until that is known. Never returns.
pub async fn follow(client: Client, native_sleep: watch::Sender<Option<bool>>) {
    loop {
        match check(&client).await {
            Ok(known) => {
                native_sleep.send_if_modified(|before| before.replace(known) != Some(known));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the versions of the cluster, retrying");
                sleep(RETRY).await;
                continue;
            }
        }
        sleep(INTERVAL).await;
    }
}

async fn check(client: &Client) -> Result<bool, kube::Error> {
    let server = client.apiserver_version().await?;
    if minor_of(&format!("{}.{}", server.major, server.minor)).is_some_and(|minor| minor >= SINCE + SKEW) {
        return Ok(true);
    }
    let mut all = true;
    for_each(client, &Node::url_path(&(), None), |node| {
        all &= supports_sleep(kubelet_version(node).as_deref());
    })
    .await?;
    Ok(all)
}

/// The fields that are read of a node.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SlimNode {
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    node_info: Info,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Info {
    kubelet_version: Option<String>,
}

fn kubelet_version(node: &[u8]) -> Option<String> {
    serde_json::from_slice::<SlimNode>(node).ok()?.status.node_info.kubelet_version
}

/// Whether a kubelet of this version supports the action; `false` if the version can't be read.
fn supports_sleep(version: Option<&str>) -> bool {
    version.and_then(minor_of).is_some_and(|minor| minor >= SINCE)
}

/// The minor version of `v1.30.2-gke.100` or `1.33+`; versions from 2.0 count as new.
fn minor_of(version: &str) -> Option<u32> {
    let mut numbers = version.trim_start_matches('v').split('.');
    let major: u32 = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?;
    let digits = minor.split(|c: char| !c.is_ascii_digit()).next()?;
    if major > 1 { Some(u32::MAX) } else { digits.parse().ok() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::runtime::test_support::client;

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

    #[tokio::test]
    async fn one_old_kubelet_is_enough() {
        let node =
            |version: &str| json!({"metadata": {}, "status": {"nodeInfo": {"kubeletVersion": version}}});
        let all_support = async |versions: &[&str]| {
            let nodes: Vec<_> = versions.iter().map(|version| node(version)).collect();
            let api_server = client(move |_, target| {
                let list =
                    |after: &str, items: &[Value]| json!({"metadata": {"continue": after}, "items": items});
                Some((
                    200,
                    match target {
                        "/version" => json!({"major": "1", "minor": "32", "gitVersion": "", "gitCommit": "",
                        "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}),
                        page if page.contains("continue=more") => list("", &nodes[1..]),
                        _ => list("more", &nodes[..1]),
                    },
                ))
            });
            check(&api_server).await.unwrap()
        };
        assert!(all_support(&["v1.30.0", "v1.32.4"]).await);
        assert!(!all_support(&["v1.30.0", "v1.29.9"]).await);
        assert!(!all_support(&["v1.30.0", ""]).await);
    }
}
