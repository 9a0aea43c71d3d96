//! Reviews that an API server sent. `recorded_reviews_match_those_of_the_api_server` recorded them, and compares
//! them with those of a cluster.

use serde_json::{Map, Value, json};

use super::tests::patched;
use crate::api::{
    annotations::{GRACEFUL, INJECTED},
    labels,
};

/// A review by its name in tests/reviews.
macro_rules! recorded {
    ($name:literal) => {
        ($name, include_str!(concat!("../../tests/reviews/", $name, ".json")))
    };
}

/// Each review, with the drain and the grace period of the patched object.
const RECORDED: [((&str, &str), Option<i64>, i64); 11] = [
    (recorded!("apply-without-annotation"), None, 30),
    (recorded!("annotate"), Some(10), 45),
    (recorded!("pod-of-a-replica-set"), Some(10), 45),
    (recorded!("apply-over-what-was-injected"), Some(10), 45),
    (recorded!("rollout-undo"), Some(10), 45),
    (recorded!("opt-out"), None, 30),
    (recorded!("dry-run"), Some(10), 45),
    (recorded!("generate-name"), Some(10), 45),
    (recorded!("server-side-apply"), Some(10), 45),
    (recorded!("daemon-set"), Some(10), 45),
    (recorded!("bare-pod"), Some(10), 45),
];

fn reviews() -> impl Iterator<Item = (&'static str, Value, Option<i64>, i64)> {
    let parsed = |text| serde_json::from_str(text).unwrap();
    RECORDED.into_iter().map(move |((name, text), drain, grace)| (name, parsed(text), drain, grace))
}

/// The pod, or the pod template.
fn pod(object: &mut Value) -> &mut Value {
    if object["kind"] == "Pod" { object } else { &mut object["spec"]["template"] }
}

fn remove(holder: &mut Value, key: &str, within: &str) {
    let Some(map) = holder.get_mut(within).and_then(Value::as_object_mut) else { return };
    map.remove(key);
    if map.is_empty() {
        holder.as_object_mut().unwrap().remove(within);
    }
}

/// The object without the fields that adieu may change.
fn without_injection(object: &Value) -> Value {
    let mut object = object.clone();
    remove(&mut object["metadata"], GRACEFUL, "annotations");
    remove(&mut object["metadata"], labels::INJECTED, "labels");
    let pod = pod(&mut object);
    remove(&mut pod["metadata"], INJECTED, "annotations");
    remove(&mut pod["metadata"], labels::INJECTION, "labels");
    remove(pod, "terminationGracePeriodSeconds", "spec");
    for container in pod["spec"]["containers"].as_array_mut().unwrap() {
        remove(container, "preStop", "lifecycle");
        container.as_object_mut().unwrap().remove("readinessProbe");
    }
    object
}

#[tokio::test]
async fn recorded_reviews_are_answered_and_nothing_else_changes() {
    for (name, review, drain, grace) in reviews() {
        let (response, mut patched) = patched(&review).await;
        assert_eq!(response["allowed"], true, "{name}");
        let object = &review["request"]["object"];
        assert_eq!(without_injection(&patched), without_injection(object), "{name}");
        let changes = patched != *object;
        assert_eq!(response.get("patch").is_some(), changes, "{name}");
        let spec = &pod(&mut patched)["spec"];
        let hook = &spec["containers"][0]["lifecycle"]["preStop"];
        assert_eq!(hook["sleep"]["seconds"].as_i64(), drain, "{name}");
        assert_eq!(spec["terminationGracePeriodSeconds"], grace, "{name}");
    }
}

#[tokio::test]
async fn fields_of_a_newer_api_server_survive() {
    const FUTURE: &str = "fieldOfTheFuture";
    /// Maps without a schema, and fields that are compared with the injected ones.
    const CLOSED: [&str; 7] =
        ["annotations", "extra", "labels", "lifecycle", "managedFields", "matchLabels", "readinessProbe"];
    fn everywhere(value: &mut Value, change: &dyn Fn(&mut Map<String, Value>)) {
        match value {
            Value::Object(map) => {
                let open = map.iter_mut().filter(|(key, _)| !CLOSED.contains(&key.as_str()));
                open.for_each(|(_, value)| everywhere(value, change));
                change(map);
            }
            Value::Array(list) => list.iter_mut().for_each(|value| everywhere(value, change)),
            _ => {}
        }
    }
    for (name, review, ..) in reviews() {
        let (_, today) = patched(&review).await;
        let mut newer = review;
        everywhere(&mut newer, &|map| drop(map.insert(FUTURE.to_owned(), json!({"of": [1, null]}))));
        let sent = newer["request"]["object"].clone();
        let (_, mut patched) = patched(&newer).await;
        let count = |object: &Value| object.to_string().matches(FUTURE).count();
        assert!(count(&sent) > 5 && count(&patched) == count(&sent), "{name}: {patched:#}");
        everywhere(&mut patched, &|map| drop(map.remove(FUTURE)));
        assert_eq!(patched, today, "{name}");
    }
}

#[tokio::test]
async fn fields_that_an_api_server_may_omit_are_not_needed() {
    for (name, review, ..) in reviews() {
        let (complete, _) = patched(&review).await;
        for field in ["requestKind", "requestResource", "name", "dryRun", "userInfo"] {
            let mut without = review.clone();
            without["request"].as_object_mut().unwrap().remove(field);
            if field == "userInfo" {
                without["request"][field] = json!({});
            }
            let (response, _) = patched(&without).await;
            assert_eq!(response, complete, "{name} without {field}");
        }
    }
}
