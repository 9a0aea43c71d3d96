//! Finds out whether a workload still has injected pods.

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::LabelSelector};
use kube::{
    Client, Resource as _, ResourceExt as _,
    core::{DynamicObject, Selector},
};
use serde::{Deserialize, de::IgnoredAny};

use crate::index::list::{Selectors, for_each};

/// Pods that have ended may be kept for a long time.
const NOT_ENDED: &str = "status.phase!=Failed,status.phase!=Succeeded";

/// Whether a pod of `workload` has the injection. If its selector or a pod can't be read, it counts as injected.
///
/// # Errors
/// If the API server denies it or can't be reached.
pub(super) async fn has_injected_pods(
    client: &Client,
    workload: &DynamicObject,
) -> Result<bool, kube::Error> {
    let selector: Option<LabelSelector> =
        serde_json::from_value(workload.data["spec"]["selector"].clone()).ok();
    let selector = selector.and_then(|selector| Selector::try_from(selector).ok());
    let Some(selector) = selector.filter(|selector| !selector.selects_all()) else { return Ok(true) };
    let path = Pod::url_path(&(), workload.namespace().as_deref());
    let labels = selector.to_string();
    let selectors = Selectors { fields: Some(NOT_ENDED), labels: Some(&labels), ..Selectors::default() };
    let mut has_injected = false;
    for_each(client, &path, selectors, |text| has_injected |= is_injected(text)).await?;
    Ok(has_injected)
}

#[derive(Deserialize)]
struct SlimPod {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "adieu.dev/injected")]
    injected: Option<IgnoredAny>,
}

fn is_injected(pod: &[u8]) -> bool {
    serde_json::from_slice::<SlimPod>(pod).map_or(true, |pod| {
        pod.metadata.annotations.is_some_and(|annotations| annotations.injected.is_some())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::annotations::INJECTED;

    #[test]
    fn a_pod_counts_as_injected_by_its_record_or_if_it_can_not_be_read() {
        for (metadata, expected) in [
            (json!({"annotations": {INJECTED: "{}", "team": "shop"}}), true),
            (json!({"annotations": {"team": "shop"}}), false),
            (json!({"annotations": null}), false),
            (json!({}), false),
            (json!([]), true),
        ] {
            let pod = json!({"metadata": metadata, "spec": {}}).to_string();
            assert_eq!(is_injected(pod.as_bytes()), expected, "{pod}");
        }
    }
}
