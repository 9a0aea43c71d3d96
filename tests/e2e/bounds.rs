//! Tests policies and profiles at the bounds of their schema: the API server, the offline check and the decoder agree.

use adieu::api::{ClusterGracefulPolicy, GracefulPolicy, TerminationProfile, check_policy, check_status};
use futures::{StreamExt as _, stream};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    figures::print_line,
    generate::{Boundary, boundaries, largest},
    support::Scene,
};

/// Concurrent requests.
const AT_ONCE: usize = 8;

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_api_server_and_the_offline_check_agree_at_every_bound() {
    let scene = Scene::new().await;
    let cluster_policies: Api<ClusterGracefulPolicy> = Api::all(scene.client.clone());
    // The status is accepted only for an existing object.
    let name = scene.namespace.as_str();
    let holder = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": name}, "spec": {},
    });
    scene.create(&holder).await;
    let holder = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "TerminationProfile", "metadata": {"name": name},
        "spec": {"kind": "Deployment", "name": "web"},
    });
    scene.create(&holder).await;
    // It is cluster-scoped.
    let spec = json!({"namespaceSelector": {"matchLabels": {"adieu-test": "nowhere"}}});
    let holder = ClusterGracefulPolicy::new(name, serde_json::from_value(spec).unwrap());
    cluster_policies.create(&PostParams::default(), &holder).await.unwrap();

    let of_largest = largest().into_iter().map(|policy| {
        let name = format!("the largest {}", policy["kind"]);
        Boundary { name, policy, of_status: false, valid: Some(true) }
    });
    let cases: Vec<_> = boundaries().into_iter().chain(of_largest).collect();
    let (count, scene_ref) = (cases.len(), &scene);
    let judged = stream::iter(cases).map(|case| async move { (judge(scene_ref, &case).await, case.name) });
    let judged: Vec<_> = judged.buffer_unordered(AT_ONCE).collect().await;
    let accepted = judged.iter().filter(|(verdict, _)| *verdict == Ok(true)).count();
    let disagreements: Vec<_> = judged
        .into_iter()
        .filter_map(|(verdict, name)| Some(format!("{name}: {}", verdict.err()?)))
        .collect();
    print_line(&format!("{count} policies and profiles at their bounds: {accepted} accepted"));
    assert!(disagreements.is_empty(), "{}:\n{}", disagreements.len(), disagreements.join("\n"));
    assert!(accepted * 10 >= count && accepted < count);
    cluster_policies.delete(name, &DeleteParams::default()).await.unwrap();
    scene.end().await;
}

/// Whether the API server accepts a policy, profile or status. It is an error if the offline check disagrees, or adieu can't
/// decode an accepted one.
async fn judge(scene: &Scene, case: &Boundary) -> Result<bool, String> {
    type Read = fn(Value) -> Result<(), String>;
    let (plural, read) = match case.policy["kind"].as_str() {
        Some("GracefulPolicy") => ("gracefulpolicies", readable::<GracefulPolicy> as Read),
        Some("TerminationProfile") => ("terminationprofiles", readable::<TerminationProfile> as Read),
        _ => ("clustergracefulpolicies", readable::<ClusterGracefulPolicy> as Read),
    };
    let resource = match plural {
        "clustergracefulpolicies" => format!("/apis/adieu.dev/v1alpha1/{plural}"),
        _ => format!("/apis/adieu.dev/v1alpha1/namespaces/{}/{plural}", scene.namespace),
    };
    let (answer, found) = if case.of_status {
        (write_status(scene, &resource, &case.policy).await, check_status(&case.policy))
    } else {
        let request = http::Request::post(format!("{resource}?{DRY}"));
        (send(scene, request, &case.policy).await, check_policy(&case.policy))
    };
    match answer {
        Ok(stored) if found.is_empty() => read(stored)
            .map_err(|error| format!("accepted, but adieu cannot read it: {error}"))
            .map(|()| true),
        Err(rejection) if !found.is_empty() && matches!(rejection.code, 400 | 422) => Ok(false),
        Ok(_) => Err(format!("the API server accepts it, and the offline check finds {}", found[0])),
        Err(rejection) => Err(format!(
            "the API server answers {}: {}; offline {found:?}",
            rejection.code, rejection.message
        )),
    }
}

/// Like kubectl, denies unknown fields.
const DRY: &str = "dryRun=All&fieldValidation=Strict";

/// Writes the status of the existing object.
async fn write_status(scene: &Scene, resource: &str, policy: &Value) -> Result<Value, kube::core::Status> {
    let of_holder = format!("{resource}/{}", scene.namespace);
    loop {
        let get = http::Request::get(&of_holder).body(vec![]).unwrap();
        let mut holder: Value = scene.client.request(get).await.unwrap();
        holder["status"] = policy["status"].clone();
        let request = http::Request::put(format!("{of_holder}/status?{DRY}"));
        match send(scene, request, &holder).await {
            // The controller has written in between.
            Err(conflict) if conflict.code == 409 => {}
            answer => return answer,
        }
    }
}

async fn send(
    scene: &Scene,
    request: http::request::Builder,
    object: &Value,
) -> Result<Value, kube::core::Status> {
    let body = serde_json::to_vec(object).unwrap();
    let request = request.header("content-type", "application/json").body(body).unwrap();
    match scene.client.request(request).await {
        Ok(answer) => Ok(answer),
        Err(kube::Error::Api(status)) => Err(*status),
        Err(error) => unreachable!("{error}"),
    }
}

fn readable<T: DeserializeOwned>(object: Value) -> Result<(), String> {
    serde_json::from_value::<T>(object).map(drop).map_err(|error| error.to_string())
}
