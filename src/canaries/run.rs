//! The canaries of one run.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, LogParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::Value;

use super::{
    address::{self, Target},
    objects,
    pacing::Pacing,
    way::{Exposed, Way},
};
use crate::{
    calibration::{LoggedArrival, Stream},
    disruption::{Error, Image, Owner},
};

/// The limit of a canary's log in bytes: more than the limit of its lines.
const LOG_BYTES: i64 = 16 << 20;

/// Canaries, and everything that leads to them. Call [`Canaries::remove`] in any case; if that fails, the deadline of the
/// Job that owns them ends them.
pub struct Canaries {
    client: Client,
    owner: Owner,
    image: Image,
    pacing: Pacing,
    limit: Duration,
    created: AtomicU32,
}

impl Canaries {
    /// Creates the Job that owns everything, with `limit` as its deadline. A canary serves after its deletion for as long as
    /// it is observed.
    ///
    /// # Errors
    /// The request fails.
    pub async fn start(
        client: &Client,
        namespace: &str,
        image: &Image,
        pacing: Pacing,
        limit: Duration,
    ) -> Result<Self, Error> {
        let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
        let job = serde_json::from_value(objects::deadline(image, limit)).map_err(invalid)?;
        let job = jobs.create(&PostParams::default(), &job).await;
        let job = job.map_err(Error::api("create the Job that owns the canaries"))?;
        let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
        Ok(Self {
            client: client.clone(),
            owner: Owner { namespace: namespace.to_owned(), name, uid },
            image: image.clone(),
            pacing,
            limit,
            created: AtomicU32::new(0),
        })
    }

    /// The Job that owns everything.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The label selector of the canaries.
    #[must_use]
    pub fn selector(&self) -> String {
        format!("{}={}", objects::RUN, self.owner.name)
    }

    /// Creates a canary.
    ///
    /// # Errors
    /// The request fails.
    pub async fn add(&self) -> Result<(), Error> {
        let number = self.created.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", self.owner.name);
        let pod = objects::pod(&self.owner, &name, &self.image, self.pacing, self.limit);
        self.create(&pod).await.map(drop)
    }

    /// Creates what leads to the canaries, and waits until it has addresses. A way with a URL needs none.
    ///
    /// # Errors
    /// A request fails, or an object gets no address.
    pub async fn expose(
        &self,
        ways: &[(Way, Option<String>)],
        exposed: &Exposed,
    ) -> Result<Vec<Target>, Error> {
        let backend = objects::service(&self.owner, &self.owner.name, "ClusterIP");
        let backend = self.create(&backend).await?;
        let mut created = Vec::new();
        for (index, (way, url)) in ways.iter().enumerate() {
            let host = url.as_deref().and_then(address::host_name);
            let mut first = None;
            for object in objects::of_way(&self.owner, (index, way), host.as_deref(), exposed) {
                let made = self.create(&object).await?;
                first.get_or_insert((object, made));
            }
            created.push(first);
        }
        let mut targets = Vec::new();
        for ((way, url), first) in ways.iter().zip(&created) {
            let exposure = way.exposure(&self.owner.namespace, first.as_ref().map(|(object, _)| object));
            let url = if let Some(url) = url {
                url.trim_end_matches('/').to_owned()
            } else {
                let made = first.as_ref().map_or(&backend, |(_, made)| made);
                self.url(way, made, exposed).await?
            };
            targets.push(Target { way: way.clone(), exposure, url });
        }
        Ok(targets)
    }

    /// The URL of a stream of requests to a target.
    #[must_use]
    pub fn stream_url(&self, target: &Target, stream: Stream) -> String {
        format!("{}{}{}", target.url, objects::path(&self.owner), stream.path())
    }

    /// Where an object is reached.
    async fn url(&self, way: &Way, object: &DynamicObject, exposed: &Exposed) -> Result<String, Error> {
        let spec = &object.data["spec"];
        Ok(match way {
            Way::ClusterIp => address::url(spec["clusterIP"].as_str().unwrap_or_default(), 80),
            Way::NodePort => {
                let port = spec["ports"][0]["nodePort"].as_u64().and_then(|port| u16::try_from(port).ok());
                address::url(&address::of_node(&self.client).await?, port.unwrap_or_default())
            }
            Way::LoadBalancer { .. } | Way::Ingress { .. } | Way::Gateway { .. } => {
                let api_version = object.types.as_ref().map_or("", |types| types.api_version.as_str());
                let api = self.api(api_version, way.kinds()[0]);
                let port = if matches!(way, Way::Gateway { .. }) { exposed.gateway_port } else { 80 };
                address::url(&address::awaited(api, &object.name_any(), way).await?, port)
            }
        })
    }

    /// Deletes a canary, which continues to serve until its observation is over.
    ///
    /// # Errors
    /// The request fails.
    pub async fn delete(&self, pod: &str) -> Result<(), Error> {
        let deleted = self.pods().delete(pod, &DeleteParams::default()).await;
        deleted.map_err(Error::api(format!("delete the pod {pod}"))).map(drop)
    }

    /// Ends a canary, if it still exists. If it was deleted before, the kubelet ignores the shorter grace period
    /// (kubernetes#83916).
    ///
    /// # Errors
    /// The request fails.
    pub async fn kill(&self, pod: &str) -> Result<(), Error> {
        let soon = DeleteParams { grace_period_seconds: Some(1), ..DeleteParams::default() };
        match self.pods().delete(pod, &soon).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            outcome => outcome.map_err(Error::api(format!("delete the pod {pod}"))).map(drop),
        }
    }

    /// The arrivals in the log of a canary.
    ///
    /// # Errors
    /// The request fails.
    pub async fn log(&self, pod: &str) -> Result<Vec<LoggedArrival>, Error> {
        let limited = LogParams { limit_bytes: Some(LOG_BYTES), ..LogParams::default() };
        let log = self.pods().logs(pod, &limited).await;
        let log = log.map_err(Error::api(format!("read the log of the pod {pod}")))?;
        Ok(log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Ends the canaries, and removes the Job, and with it everything that it owns.
    ///
    /// # Errors
    /// A request fails. The error has the command to do it manually.
    pub async fn remove(&self) -> Result<(), Error> {
        let removed = self.remove_all().await;
        removed.map_err(|error| {
            let Owner { namespace, name, .. } = &self.owner;
            Error::Incomplete(format!(
                "not everything is removed ({}): kubectl -n {namespace} delete job {name}; otherwise its deadline of \
                 {} s removes it",
                error.with_cause(),
                self.limit.as_secs()
            ))
        })
    }

    async fn remove_all(&self) -> Result<(), Error> {
        // Before the garbage collector deletes them, which leaves them their grace period.
        let killed = self.kill_all().await;
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), &self.owner.namespace);
        let name = &self.owner.name;
        match jobs.delete(name, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            outcome => drop(outcome.map_err(Error::api(format!("delete the Job {name}")))?),
        }
        killed
    }

    async fn kill_all(&self) -> Result<(), Error> {
        let selected = ListParams::default().labels(&self.selector());
        let pods = self.pods().list(&selected).await.map_err(Error::api("list the canaries"))?;
        for pod in pods.items {
            self.kill(&pod.name_any()).await?;
        }
        Ok(())
    }

    async fn create(&self, object: &Value) -> Result<DynamicObject, Error> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let [api_version, kind, name] =
            [&object["apiVersion"], &object["kind"], &object["metadata"]["name"]].map(text);
        let object = serde_json::from_value(object.clone()).map_err(invalid)?;
        let created = self.api(&api_version, &kind).create(&PostParams::default(), &object).await;
        created.map_err(Error::api(format!("create the {kind} {name}")))
    }

    fn api(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.client.clone(), &self.owner.namespace, &resource)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.owner.namespace)
    }
}

fn invalid(error: serde_json::Error) -> Error {
    Error::Impossible(format!("an object is invalid: {error}"))
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
