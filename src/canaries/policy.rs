//! Writes drain profiles to a policy.

use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject},
};
use serde_json::json;

use crate::{
    api::{ClusterGracefulPolicy, DrainProfile},
    calibration::merge_profiles,
    disruption::Error,
};

/// The field manager. Another one than that of the operator, which doesn't own what is written here.
const MANAGER: &str = "adieu-calibrate";

/// Writes the profiles of these exposures to a `ClusterGracefulPolicy`, and keeps those of others. It is created if it
/// doesn't exist: without a selector it opts in no workload.
///
/// # Errors
/// A request fails, for example because another field manager owns the profiles.
pub async fn apply(client: &Client, policy: &str, measured: Vec<DrainProfile>) -> Result<(), Error> {
    let resource = ApiResource::erase::<ClusterGracefulPolicy>(&());
    let policies: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let found = policies.get_opt(policy).await;
    let found = found.map_err(Error::api(format!("get the ClusterGracefulPolicy {policy}")))?;
    let present = found.map(|found| found.data["spec"]["drainProfiles"].clone()).unwrap_or_default();
    let unreadable = |error: serde_json::Error| {
        let field = format!("spec.drainProfiles of the ClusterGracefulPolicy {policy}");
        Error::Impossible(format!("{field} cannot be read: {error}"))
    };
    let present: Option<Vec<DrainProfile>> = serde_json::from_value(present).map_err(unreadable)?;
    let profiles = merge_profiles(present.unwrap_or_default(), measured);
    let patch = json!({
        "apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": policy},
        "spec": {"drainProfiles": profiles},
    });
    match policies.patch(policy, &PatchParams::apply(MANAGER), &Patch::Apply(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Err(Error::Impossible(format!(
            "another field manager owns spec.drainProfiles of the ClusterGracefulPolicy {policy}: use --policy with \
             another name, or copy the profiles from -o json ({})",
            status.message
        ))),
        Err(error) => Err(Error::api(format!("apply the ClusterGracefulPolicy {policy}"))(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::Method;
    use serde_json::Value;

    use super::*;
    use crate::runtime::test_support::{client_of_bodies, failure};

    fn profile(exposure: &str, seconds: i64) -> DrainProfile {
        DrainProfile { exposure: exposure.to_owned(), seconds, source: None, measured: None }
    }

    #[tokio::test]
    async fn profiles_of_other_exposures_are_kept() {
        let applied = Arc::new(Mutex::new(None));
        let seen = applied.clone();
        let client = client_of_bodies(move |method, target, body| {
            let path = "/apis/adieu.dev/v1alpha1/clustergracefulpolicies/calibrated";
            assert!(target.contains(path), "{target}");
            let present = json!([profile("cluster-ip", 10), profile("node-port", 9)]);
            let policy = json!({"metadata": {"name": "calibrated"}, "spec": {"drainProfiles": present}});
            if *method == Method::PATCH {
                assert!(target.contains("fieldManager=adieu-calibrate") && !target.contains("force=true"));
                *seen.lock().unwrap() = Some(serde_json::from_slice::<Value>(body).unwrap());
            }
            Some((200, policy))
        });
        let measured = vec![profile("node-port", 2), profile("IngressClass/nginx", 3)];
        apply(&client, "calibrated", measured).await.unwrap();
        let applied = applied.lock().unwrap().take().unwrap();
        let expected = json!([
            {"exposure": "cluster-ip", "seconds": 10},
            {"exposure": "node-port", "seconds": 2},
            {"exposure": "IngressClass/nginx", "seconds": 3},
        ]);
        assert_eq!(applied["spec"], json!({"drainProfiles": expected}));
        assert_eq!(applied["kind"], "ClusterGracefulPolicy");
    }

    #[tokio::test]
    async fn a_conflict_names_a_way_out() {
        let client = client_of_bodies(|method, _, _| {
            Some(if *method == Method::PATCH {
                (409, failure(409, "conflict with \"kubectl\""))
            } else {
                (200, json!({"metadata": {"name": "calibrated"}, "spec": {}}))
            })
        });
        let measured = vec![profile("node-port", 2)];
        let error = apply(&client, "calibrated", measured).await.unwrap_err().to_string();
        assert!(error.contains("use --policy") && error.contains("kubectl"), "{error}");
    }
}
