//! Detects whether all kubelets support the sleep action of hooks.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::{Client, Resource as _};
use serde::Deserialize;
use tokio::{sync::watch, time::sleep};

use super::list::{Selectors, for_each};
use crate::kube_version::KubeVersion;

/// The interval of checks.
const CHECK_INTERVAL: Duration = Duration::from_mins(10);
/// The time from a failure to the next attempt.
const RETRY_DELAY: Duration = Duration::from_secs(10);

/// Sends to `native_sleep` whether all kubelets support it; the value is `None` until that is known. Never returns.
pub async fn follow(client: Client, native_sleep: watch::Sender<Option<bool>>) {
    loop {
        match check(&client).await {
            Ok(known) => {
                native_sleep.send_if_modified(|before| before.replace(known) != Some(known));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the versions of the cluster, retrying");
                sleep(RETRY_DELAY).await;
                continue;
            }
        }
        sleep(CHECK_INTERVAL).await;
    }
}

async fn check(client: &Client) -> Result<bool, kube::Error> {
    let server = client.apiserver_version().await?;
    if version(&format!("{}.{}", server.major, server.minor))
        .is_some_and(KubeVersion::kubelets_have_native_sleep)
    {
        return Ok(true);
    }
    let mut all = true;
    for_each(client, &Node::url_path(&(), None), Selectors::default(), |node| {
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
    version.and_then(self::version).is_some_and(KubeVersion::has_native_sleep)
}

fn version(text: &str) -> Option<KubeVersion> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::runtime::test_support::client;

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
