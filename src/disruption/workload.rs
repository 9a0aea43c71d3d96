//! The workload to disrupt.

use futures::StreamExt as _;
use kube::{
    Api, Client, Resource as _,
    api::{Patch, PatchParams},
    core::{DynamicObject, Selector},
};
use serde_json::json;

use super::{error::Error, object_watch, slim::SlimWorkload};
use crate::{
    api::FIELD_MANAGER,
    index::{
        list::{self, OBJECT_LIMIT},
        workloads::resource,
    },
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
    api: Api<SlimWorkload>,
}

impl TargetWorkload {
    /// Gets the workload, with its object without the pod template.
    ///
    /// # Errors
    /// It doesn't exist, is larger than [`OBJECT_LIMIT`], or the request fails.
    pub async fn find(
        client: &Client,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<(Self, DynamicObject), Error> {
        let resource = resource(kind);
        let path = DynamicObject::url_path(&resource, Some(namespace));
        let decode = |text: Result<&[u8], usize>| match text {
            Ok(text) => serde_json::from_slice::<SlimWorkload>(text).map_err(|error| error.to_string()),
            Err(length) => Err(format!("it has {length} bytes, more than the limit of {OBJECT_LIMIT}")),
        };
        let found = list::get(client, &path, name, decode).await;
        let found = found.map_err(Error::api(format!("get {kind}/{name}")))?;
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let Some(object) = found else { return Err(Error::NotFound { kind, name, namespace }) };
        let object =
            object.map_err(|reason| Error::Impossible(format!("{kind}/{name} cannot be read: {reason}")))?;
        let selector = object.selector().and_then(|selector| Selector::try_from(selector.clone()).ok());
        let selector = selector
            .filter(|selector| !selector.selects_all())
            .ok_or_else(|| Error::Impossible(format!("{kind}/{name} has an invalid selector")))?;
        let api = Api::namespaced_with(client.clone(), &namespace, &resource);
        Ok((Self { kind, namespace, name, selector: selector.to_string(), api }, object.into()))
    }

    /// Replaces all its pods, as `kubectl rollout restart` does. Returns the new generation.
    pub(super) async fn restart(&self, now: &str) -> Result<Option<i64>, Error> {
        let annotations = json!({"kubectl.kubernetes.io/restartedAt": now});
        let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let patched = self.api.patch(&self.name, &parameters, &Patch::Merge(patch)).await;
        Ok(patched.map_err(Error::api(format!("restart {self}")))?.meta().generation)
    }

    /// Sets an annotation of the workload, or removes it.
    pub(super) async fn annotate(&self, key: &str, value: Option<&str>) -> Result<(), Error> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {key: value}}}));
        let patched = self.api.patch(&self.name, &PatchParams::default(), &patch).await;
        patched.map_err(Error::api(format!("change the annotation {key} of {self}"))).map(drop)
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
            if object.meta().generation < generation {
                continue;
            }
            let object = DynamicObject::from(object);
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
    use crate::runtime::test_support::{client, flaky};

    #[tokio::test]
    async fn a_workload_over_the_limit_is_an_error_with_its_size() {
        let client = client(|_, _| {
            let annotations = json!({"a": "x".repeat(OBJECT_LIMIT)});
            Some((200, json!({"metadata": {"name": "web", "annotations": annotations}})))
        });
        let error = TargetWorkload::find(&client, Kind::Deployment, "shop", "web").await.unwrap_err();
        assert!(error.to_string().starts_with("Deployment/web cannot be read: it has 167"), "{error}");
    }

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
