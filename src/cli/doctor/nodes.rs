//! The grace periods of pods when nodes shut down without a drain.
//!
//! The kubelet's `shutdownGracePeriod` (graceful node shutdown) overrides a longer grace period of a pod
//! (`killPods` in pkg/kubelet/nodeshutdown). It is 0 by default, and the kubelet then terminates no pods.

use std::time::Duration;

use futures::{StreamExt as _, future::ready, stream};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, ResourceExt, api::ListParams};
use serde_json::Value;
use tokio::time::sleep;

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

/// The seconds that a kubelet gives a pod of priority 0; `None` if it doesn't terminate pods.
fn grace_period(kubelet: &Value) -> Option<i64> {
    let seconds = |field: &str| {
        let duration = kubelet[field].as_str()?.parse::<SignedDuration>().ok()?;
        Some(duration.as_secs())
    };
    let by_priority = kubelet["shutdownGracePeriodByPodPriority"].as_array().into_iter().flatten();
    let mut by_priority: Vec<_> = by_priority
        .filter_map(|period| {
            Some((period["priority"].as_i64()?, period["shutdownGracePeriodSeconds"].as_i64()?))
        })
        .collect();
    by_priority.sort_unstable();
    // The highest priority up to the pod's, or else the lowest (`groupByPriority`).
    let of_priority = by_priority.iter().rfind(|(priority, _)| *priority <= 0).or(by_priority.first());
    if let Some((_, seconds)) = of_priority {
        return Some(*seconds);
    }
    let all = seconds("shutdownGracePeriod").filter(|seconds| *seconds > 0)?;
    Some(all - seconds("shutdownGracePeriodCriticalPods").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn critical_pods_and_priorities_reduce_the_grace_period() {
        let periods = |periods: &[(i64, i64)]| {
            let period = |(priority, seconds): &(i64, i64)| json!({"priority": priority, "shutdownGracePeriodSeconds": seconds});
            json!({
                "shutdownGracePeriod": "0s",
                "shutdownGracePeriodByPodPriority": periods.iter().map(period).collect::<Vec<_>>(),
            })
        };
        for (config, expected) in [
            (json!({}), None),
            (json!({"shutdownGracePeriod": "0s", "shutdownGracePeriodCriticalPods": "0s"}), None),
            (json!({"shutdownGracePeriod": "25s", "shutdownGracePeriodCriticalPods": "0s"}), Some(25)),
            (json!({"shutdownGracePeriod": "1m30s", "shutdownGracePeriodCriticalPods": "15s"}), Some(75)),
            (periods(&[(100_000, 10), (0, 60), (1000, 30)]), Some(60)),
            (periods(&[(100_000, 10), (1000, 30)]), Some(30)),
        ] {
            assert_eq!(grace_period(&config), expected, "{config}");
        }
    }
}
