//! The nodes that give pods too little time when they shut down without a drain.

use std::time::Duration;

use futures::{StreamExt as _, future::ready, stream};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, ResourceExt, api::ListParams};
use serde_json::Value;
use tokio::time::sleep;

use crate::cli::node_shutdown::grace_period;

/// The maximum number of nodes: those of a cluster are usually alike.
const NODES: u32 = 100;
/// The number of concurrent requests.
const AT_A_TIME: usize = 8;
/// The time limit for all requests.
const LIMIT: Duration = Duration::from_secs(10);

/// The nodes that give a pod of priority 0 less than `seconds`, with their grace periods in seconds. Empty if the nodes or
/// their kubelets' configurations can't be read.
pub(super) async fn shorter_than(client: &Client, seconds: i64) -> Vec<(String, i64)> {
    let nodes: Api<Node> = Api::all(client.clone());
    let Ok(nodes) = nodes.list_metadata(&ListParams::default().limit(NODES)).await else { return vec![] };
    let request_config = async |name: String| {
        let request = http::Request::get(format!("/api/v1/nodes/{name}/proxy/configz")).body(vec![]).ok()?;
        let answer: Value = client.request(request).await.ok()?;
        let grace = grace_period(&answer["kubeletconfig"]).filter(|grace| *grace < seconds)?;
        Some((name, grace))
    };
    let answers = stream::iter(nodes.items.iter().map(ResourceExt::name_any))
        .map(request_config)
        .buffer_unordered(AT_A_TIME);
    let shorter = answers.take_until(sleep(LIMIT)).filter_map(ready);
    let mut shorter: Vec<_> = shorter.collect().await;
    shorter.sort();
    shorter
}
