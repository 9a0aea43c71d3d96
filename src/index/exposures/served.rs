//! The kinds of traffic objects that the API server serves.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use adieu_exposures::{KINDS, Kind};
use futures::StreamExt as _;
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Client, Discovery, Error, Resource as _,
    discovery::{ApiCapabilities, ApiResource, verbs},
    runtime::{WatchStreamExt as _, watcher::Event},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::index::{
    change_set::ChangeSet,
    list_watch::{ListWatch, list_watch, status_code},
    object_quota::Quota,
    slim::identity,
    unusable_objects::{UnusableObjects, UnusableReason},
    watched::Watched,
};

/// How long after the change of a CRD the kinds are discovered again: the API server serves a new one a little later.
const DELAYS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(15), Duration::from_mins(1)];
/// The time from a failed discovery to the next.
const RETRY_DELAY: [Duration; 1] = [Duration::from_secs(10)];
/// The time after which a kind is listed again that may not be listed.
pub(super) const DENIED_RETRY: Duration = Duration::from_mins(10);

/// The time after which a kind is listed again that may not be listed for the first time: an API server that starts may not
/// know all permissions yet.
pub(super) const FIRST_DENIED_RETRY: Duration = Duration::from_secs(15);

/// The most stable version of each kind that is served, by its [resource](Kind::resource).
pub(super) type Served = BTreeMap<&'static str, ApiResource>;

/// Why kinds are discovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// All CRDs have been listed, or can't be listed.
    Listed,
    /// A kind was added, changed or removed.
    Changed,
}

/// The most stable version of a kind with this verb.
#[must_use]
pub fn served(discovery: &Discovery, kind: &Kind, verb: &str) -> Option<(ApiResource, ApiCapabilities)> {
    let resources = discovery.get(kind.group)?.resources_by_stability();
    resources
        .into_iter()
        .find(|(resource, capabilities)| resource.kind == kind.kind && capabilities.supports_operation(verb))
}

/// Sends which of these kinds are served, after each of these causes. Never returns.
pub(super) async fn follow_served(
    client: &Client,
    kinds: &[&'static Kind],
    causes: &ChangeSet<Cause>,
    served: &watch::Sender<Option<Served>>,
) {
    let mut delays: &[Duration] = &[];
    loop {
        let causes = match delays.split_first() {
            None => causes.take().await,
            Some((delay, rest)) => {
                delays = rest;
                timeout(*delay, causes.take()).await.unwrap_or_default()
            }
        };
        if causes.contains(&Cause::Changed) {
            delays = &DELAYS;
        }
        match discover(client, kinds).await {
            Ok(found) => {
                let is_gone = |before: &Served| before.keys().any(|kind| !found.contains_key(kind));
                if delays.is_empty() && served.borrow().as_ref().is_some_and(is_gone) {
                    // An API server that starts serves some kinds later than others.
                    delays = &DELAYS;
                }
                served.send_if_modified(|before| {
                    let is_change = before.as_ref() != Some(&found);
                    *before = Some(found);
                    is_change
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot discover the kinds of routes and Ingresses, retrying");
                if delays.is_empty() {
                    delays = &RETRY_DELAY;
                }
            }
        }
    }
}

async fn discover(client: &Client, kinds: &[&'static Kind]) -> Result<Served, Error> {
    let groups: Vec<_> = kinds.iter().map(|kind| kind.group).collect();
    let discovery = Discovery::new(client.clone()).filter(&groups).run().await?;
    let version = |kind: &&'static Kind| Some((kind.resource, served(&discovery, kind, verbs::WATCH)?.0));
    Ok(kinds.iter().filter_map(version).collect())
}

/// Watches the CRDs of the kinds. Never returns.
pub(super) async fn follow_crds(client: &Client, unusable: &UnusableObjects, causes: &ChangeSet<Cause>) {
    let source = ListWatch {
        client: client.clone(),
        path: CustomResourceDefinition::url_path(&(), None),
        api_version: CustomResourceDefinition::api_version(&()).into_owned(),
        kind: ServedCrd::KIND,
        fields: None,
        unusable: unusable.clone(),
        quota: Arc::new(Quota::default().for_kind(usize::MAX)),
        reuse: Arc::new(|crd| crd),
        pages: None,
    };
    loop {
        let mut events = pin!(list_watch(source.clone()).default_backoff());
        let mut is_first = true;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(ServedCrd(true)) | Event::Delete(ServedCrd(true))) => {
                    causes.add(Cause::Changed);
                }
                Ok(Event::InitDone) => causes.add(Cause::Listed),
                Ok(_) => {}
                Err(error) => {
                    let is_denied = status_code(&error) == Some(403);
                    if is_first || is_denied {
                        causes.add(Cause::Listed);
                    }
                    is_first = false;
                    tracing::warn!(kind = ServedCrd::KIND, %error, "watch failed, retrying");
                    if is_denied {
                        sleep(DENIED_RETRY).await;
                        break;
                    }
                }
            }
        }
    }
}

/// Whether a CRD is of one of the [`KINDS`].
#[derive(Clone)]
struct ServedCrd(bool);

impl Watched for ServedCrd {
    const KIND: &'static str = "CustomResourceDefinition";
    const FLOOR: usize = 0;
    const IS_CACHED: bool = false;
    const IS_METADATA: bool = true;

    fn decode(text: &[u8]) -> Result<Self, UnusableReason> {
        Ok(Self::of_metadata(identity(text)))
    }

    fn of_metadata(metadata: ObjectMeta) -> Self {
        let name = metadata.name.unwrap_or_default();
        Self(KINDS.iter().any(|kind| kind.resource == name))
    }

    fn cached_size(&self) -> usize {
        0
    }

    fn is_relevant(&self) -> bool {
        self.0
    }
}

#[cfg(test)]
#[path = "served_tests.rs"]
mod tests;
