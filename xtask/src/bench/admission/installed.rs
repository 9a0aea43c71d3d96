//! Webhook configurations and policies, which are removed and created again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, TypeMeta};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::arms::NAMESPACE;
use crate::install::RELEASE;
use crate::interrupt;

/// The limit for a change to take effect: the API server reads policies once a second.
const LIMIT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(50);

/// Ordered by creation: a policy without its binding has no effect.
const KINDS: [&str; 3] =
    ["MutatingWebhookConfiguration", "ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"];

/// Configurations that belong together.
pub struct Installed(Vec<DynamicObject>);

impl Installed {
    /// adieu's, as the chart created them and the operator completed them.
    pub async fn of_adieu(client: &Client) -> Result<Self> {
        let ours = ListParams::default().labels(&format!("app.kubernetes.io/instance={RELEASE}"));
        let mut all = Vec::new();
        for kind in KINDS {
            let found = api(client, kind).list(&ours).await.with_context(|| format!("cannot list {kind}"))?;
            ensure!(!found.items.is_empty(), "adieu has no {kind}");
            all.extend(
                found.items.into_iter().map(|found| DynamicObject { types: Some(types(kind)), ..found }),
            );
        }
        for object in &mut all {
            let metadata = &mut object.metadata;
            (metadata.resource_version, metadata.uid, metadata.managed_fields) = (None, None, None);
            (metadata.creation_timestamp, metadata.generation) = (None, None);
            object.data.as_object_mut().map(|fields| fields.remove("status"));
        }
        Ok(Self(all))
    }

    /// Those in a manifest.
    pub fn read(manifests: &str) -> Result<Self> {
        let mut all: Vec<DynamicObject> = serde_saphyr::from_multiple(manifests)?;
        all.sort_by_key(|object| KINDS.iter().position(|kind| *kind == kind_of(object)));
        Ok(Self(all))
    }

    /// Creates them, and waits until they are in effect.
    pub async fn create(&self, probe: &Probe) -> Result<()> {
        for object in &self.0 {
            let created = api(&probe.client, kind_of(object)).create(&PostParams::default(), object).await;
            created.with_context(|| format!("cannot create {}", object.name_any()))?;
        }
        probe.wait(true).await?;
        self.wait_for_checks(&probe.client).await
    }

    /// Waits until the controller manager has type-checked every policy, which uses CPU time that requests would wait
    /// for.
    async fn wait_for_checks(&self, client: &Client) -> Result<()> {
        let started = Instant::now();
        for policy in self.0.iter().filter(|object| kind_of(object) == "ValidatingAdmissionPolicy") {
            let (api, name) = (api(client, kind_of(policy)), policy.name_any());
            while api.get(&name).await?.data["status"]["typeChecking"].is_null() {
                interrupt::check()?;
                ensure!(started.elapsed() < LIMIT, "waited {} s for the check of {name}", LIMIT.as_secs());
                sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Deletes them, and waits until they have no effect.
    pub async fn delete(&self, probe: &Probe) -> Result<()> {
        for object in &self.0 {
            let (api, name) = (api(&probe.client, kind_of(object)), object.name_any());
            let deleted = api.delete(&name, &DeleteParams::default()).await;
            deleted.with_context(|| format!("cannot delete {name}"))?;
        }
        probe.wait(false).await
    }
}

fn api(client: &Client, kind: &str) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
    Api::all_with(client.clone(), &ApiResource::from_gvk(&gvk))
}

fn kind_of(object: &DynamicObject) -> &str {
    object.types.as_ref().map(|types| types.kind.as_str()).unwrap_or_default()
}

fn types(kind: &str) -> TypeMeta {
    TypeMeta { api_version: "admissionregistration.k8s.io/v1".into(), kind: kind.into() }
}

/// Checks which of them are in effect.
pub struct Probe {
    /// An administrator's client.
    pub client: Client,
    /// A client of the operator's account, which the policies apply to.
    pub operator: Client,
    /// An opted-in Deployment.
    pub annotated: DynamicObject,
    /// The name of an existing one that is not opted in.
    pub unmanaged: String,
}

impl Probe {
    async fn wait(&self, in_effect: bool) -> Result<()> {
        let started = Instant::now();
        loop {
            interrupt::check()?;
            let found = [self.webhook().await?, self.policy().await?];
            if found == [in_effect; 2] {
                return Ok(());
            }
            ensure!(
                started.elapsed() < LIMIT,
                "waited {} s for (webhook, policy) to be in effect: {in_effect}, found {found:?}",
                LIMIT.as_secs()
            );
            sleep(POLL).await;
        }
    }

    /// Whether an opted-in Deployment is injected.
    async fn webhook(&self) -> Result<bool> {
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let created = Self::deployments(&self.client).create(&dry_run, &self.annotated).await?;
        Ok(created.data["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] != 30)
    }

    /// Whether the operator is denied a forbidden change.
    async fn policy(&self) -> Result<bool> {
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        let other: Value = json!([{"op": "add", "path": "/spec/minReadySeconds", "value": 7}]);
        let patch = Patch::Json::<()>(serde_json::from_value(other)?);
        match Self::deployments(&self.operator).patch(&self.unmanaged, &dry_run, &patch).await {
            Ok(_) => Ok(false),
            Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy") => Ok(true),
            Err(error) => Err(error).context("a request as the operator failed"),
        }
    }

    fn deployments(client: &Client) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<k8s_openapi::api::apps::v1::Deployment>(&());
        Api::namespaced_with(client.clone(), NAMESPACE, &resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_read_with_its_bindings_before_its_policies() {
        let floor = Installed::read(include_str!("../../../../benches/manifests/floor.yaml")).unwrap();
        let mut kinds: Vec<_> = floor.0.iter().map(kind_of).collect();
        kinds.dedup();
        assert_eq!(kinds, KINDS);
    }
}
