//! The grace periods of pods when nodes shut down without a drain.
//!
//! The kubelet's `shutdownGracePeriod` (graceful node shutdown) overrides a longer grace period of a pod
//! (`killPods` in pkg/kubelet/nodeshutdown). It is 0 by default, and the kubelet then terminates no pods.

use jiff::SignedDuration;
use kube::Client;
use serde_json::Value;

/// The `ConfigMap` from which kubeadm configures the kubelets.
const KUBEADM: &str = "/api/v1/namespaces/kube-system/configmaps/kubelet-config";

/// The seconds that the kubelets of a cluster give a pod of priority 0, as kubeadm configures them. `None` if they terminate no
/// pods, in clusters without kubeadm, or if the configuration can't be read.
pub(super) async fn by_kubeadm(client: &Client) -> Option<i64> {
    let request = http::Request::get(KUBEADM).body(vec![]).ok()?;
    let configuration: Value = client.request(request).await.ok()?;
    let kubelet: Value = serde_saphyr::from_str(configuration["data"]["kubelet"].as_str()?).ok()?;
    grace_period(&kubelet)
}

/// The seconds that a kubelet gives a pod of priority 0; `None` if it doesn't terminate pods.
pub(super) fn grace_period(kubelet: &Value) -> Option<i64> {
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
