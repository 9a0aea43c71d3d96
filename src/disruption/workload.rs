//! The workload to disrupt.

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::{DynamicObject, Selector},
};
use serde_json::json;

use super::{error::Error, object_watch};
use crate::{
    api::FIELD_MANAGER,
    index::workloads::resource,
    plan::Kind,
    scheduler::progress::{RolloutState, rollout_state},
};

/// A workload in the cluster.
#[derive(Clone, Debug)]
pub struct TargetWorkload {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The label selector of its pods, as a query parameter.
    pub selector: String,
    api: Api<DynamicObject>,
}

impl TargetWorkload {
    /// Gets the workload, with its object.
    ///
    /// # Errors
    /// It doesn't exist, or the request fails.
    pub async fn find(
        client: &Client,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<(Self, DynamicObject), Error> {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource(kind));
        let found = api.get_opt(name).await.map_err(Error::api(format!("get {kind}/{name}")))?;
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let Some(object) = found else { return Err(Error::NotFound { kind, name, namespace }) };
        let selector: Option<LabelSelector> =
            serde_json::from_value(object.data["spec"]["selector"].clone()).ok();
        let selector = selector.and_then(|selector| Selector::try_from(selector).ok());
        let selector = selector
            .filter(|selector| !selector.selects_all())
            .ok_or_else(|| Error::Impossible(format!("{kind}/{name} has an invalid selector")))?;
        Ok((Self { kind, namespace, name, selector: selector.to_string(), api }, object))
    }

    /// Replaces all its pods, as `kubectl rollout restart` does. Returns the new generation.
    pub(super) async fn restart(&self, now: &str) -> Result<Option<i64>, Error> {
        let annotations = json!({"kubectl.kubernetes.io/restartedAt": now});
        let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let patched = self.api.patch(&self.name, &parameters, &Patch::Merge(patch)).await;
        Ok(patched.map_err(Error::api(format!("restart {self}")))?.metadata.generation)
    }

    pub(super) async fn replicas(&self) -> Result<i32, Error> {
        let scale = self.api.get_scale(&self.name).await;
        let scale = scale.map_err(Error::api(format!("get the scale of {self}")))?;
        Ok(scale.spec.and_then(|spec| spec.replicas).unwrap_or_default())
    }

    pub(super) async fn scale(&self, replicas: i32) -> Result<(), Error> {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let scaled = self.api.patch_scale(&self.name, &PatchParams::default(), &patch).await;
        scaled.map_err(Error::api(format!("scale {self} to {replicas}"))).map(drop)
    }

    /// Waits until its rollout is complete, at this generation or a later one.
    pub(super) async fn complete(&self, generation: Option<i64>) -> Result<(), Error> {
        let mut changes = std::pin::pin!(object_watch::states(self.api.clone(), &self.name));
        while let Some(object) = changes.next().await {
            let Some(object) = object else {
                return Err(Error::Incomplete(format!("{self} was deleted during the disruption")));
            };
            if object.metadata.generation < generation {
                continue;
            }
            match rollout_state(self.kind, &object) {
                RolloutState::Complete => return Ok(()),
                RolloutState::Progressing => {}
                RolloutState::Failed => {
                    return Err(Error::Incomplete(format!(
                        "the rollout of {self} made no progress within its deadline: `kubectl -n {} get pods -l '{}'`",
                        self.namespace, self.selector
                    )));
                }
            }
        }
        Err(Error::Incomplete(format!("the watch of {self} ended")))
    }
}

impl std::fmt::Display for TargetWorkload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::test_support::flaky;

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_rollout_survives_watch_errors() {
        let web = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "generation": 2},
            "spec": {"replicas": 1},
            "status": {"observedGeneration": 2, "updatedReplicas": 1, "replicas": 1, "availableReplicas": 1},
        });
        let api = Api::namespaced_with(flaky(json!([web])), "shop", &resource(Kind::Deployment));
        let (namespace, name, selector) = ("shop".to_owned(), "web".to_owned(), "app=web".to_owned());
        let workload = TargetWorkload { kind: Kind::Deployment, namespace, name, selector, api };
        workload.complete(Some(2)).await.unwrap();
    }
}
