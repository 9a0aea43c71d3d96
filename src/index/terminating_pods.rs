//! Watches of the terminating pods, of the EndpointSlices that withdraw them, and of preStop hooks that failed. Nothing is
//! kept: each event is for one reader, and pods that don't terminate are dropped as soon as that is known.

use std::sync::Arc;

use adieu_observer::TerminatingPod;
use futures::{Stream, StreamExt as _, future::ready};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{
    Client,
    runtime::{WatchStreamExt as _, watcher::Event},
};
use serde::Deserialize;

use super::{
    list_watch::{ListWatch, list_watch},
    object_quota::Quota,
    slim::Watched,
    unusable_objects::{UnusableObjects, UnusableReason},
};
use crate::api::limits;

/// What happens to terminating pods.
#[derive(Debug)]
pub enum PodEvent {
    /// A list of all pods begins.
    ListBegins,
    /// All pods are listed.
    ListEnds,
    /// A pod terminates, or something about it changed.
    Terminating(Box<TerminatingPod>),
    /// The pod with this uid is gone.
    Deleted(String),
}

/// Pods that an EndpointSlice has as terminating and not ready.
#[derive(Clone, Debug)]
pub struct WithdrawnPods {
    /// The namespace and name of the EndpointSlice.
    pub slice: (String, String),
    /// The uids of the pods.
    pub uids: Vec<String>,
    /// Whether this is the present state from a list: the time of the change is not known.
    pub is_listed: bool,
}

/// The terminating pods. `fields` is a field selector.
pub fn terminating_pods(
    client: &Client,
    fields: &str,
    unusable: &UnusableObjects,
) -> impl Stream<Item = PodEvent> + Send + use<> {
    let events = watch::<ObservedPod>(client, "/api/v1/pods", "v1", Some(fields), unusable);
    events.filter_map(|event| {
        ready(match event {
            Event::Init => Some(PodEvent::ListBegins),
            Event::InitDone => Some(PodEvent::ListEnds),
            Event::Apply(pod) | Event::InitApply(pod) => pod.0.map(PodEvent::Terminating),
            Event::Delete(pod) => pod.1.map(PodEvent::Deleted),
        })
    })
}

/// The pods that EndpointSlices withdraw.
pub fn withdrawn_pods(
    client: &Client,
    fields: &str,
    unusable: &UnusableObjects,
) -> impl Stream<Item = WithdrawnPods> + Send + use<> {
    let path = "/apis/discovery.k8s.io/v1/endpointslices";
    let events = watch::<Slice>(client, path, "discovery.k8s.io/v1", Some(fields), unusable);
    events.filter_map(|event| {
        let (slice, is_listed) = match event {
            Event::Apply(slice) => (slice, false),
            Event::InitApply(slice) => (slice, true),
            Event::Init | Event::InitDone | Event::Delete(_) => return ready(None),
        };
        ready(Some(WithdrawnPods { slice: slice.key, uids: slice.withdrawn, is_listed }))
    })
}

/// A preStop hook that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedHook {
    /// The uid of the pod.
    pub uid: String,
    /// The container.
    pub container: String,
    /// When it failed last.
    pub at: Timestamp,
}

/// The preStop hooks that failed, by the Events of the kubelets.
pub fn failed_pre_stops(
    client: &Client,
    unusable: &UnusableObjects,
) -> impl Stream<Item = FailedHook> + Send + use<> {
    let fields = Some("reason=FailedPreStopHook");
    let events = watch::<FailedPreStop>(client, "/api/v1/events", "v1", fields, unusable);
    events.filter_map(|event| {
        ready(match event {
            Event::Apply(failed) | Event::InitApply(failed) => failed.0,
            Event::Init | Event::InitDone | Event::Delete(_) => None,
        })
    })
}

fn watch<K: Watched>(
    client: &Client,
    path: &str,
    api_version: &str,
    fields: Option<&str>,
    unusable: &UnusableObjects,
) -> impl Stream<Item = Event<K>> + Send + use<K> {
    let source = ListWatch {
        client: client.clone(),
        path: path.to_owned(),
        api_version: api_version.to_owned(),
        kind: K::KIND,
        fields: fields.map(ToOwned::to_owned),
        unusable: unusable.clone(),
        // The reader bounds what it keeps.
        quota: Arc::new(Quota::default().for_kind(usize::MAX)),
        reuse: Arc::new(|object| object),
    };
    list_watch(source).default_backoff().filter_map(|event| {
        let event =
            event.inspect_err(|error| tracing::warn!(kind = K::KIND, %error, "watch failed, retrying"));
        ready(event.ok())
    })
}

/// A terminating pod, or the uid of one that is gone.
#[derive(Clone)]
struct ObservedPod(Option<Box<TerminatingPod>>, Option<String>);

impl Watched for ObservedPod {
    const KIND: &'static str = "Pod";
    const FLOOR: usize = 0;
    const IS_CACHED: bool = false;

    fn decode(text: &[u8]) -> Result<Self, UnusableReason> {
        let pod = TerminatingPod::decode(text);
        let pod = pod.map_err(|error| UnusableReason::undecodable("the pod", &error))?;
        Ok(Self(pod.map(Box::new), None))
    }

    fn of_metadata(metadata: ObjectMeta) -> Self {
        Self(None, metadata.uid)
    }

    fn cached_size(&self) -> usize {
        0
    }

    fn is_relevant(&self) -> bool {
        self.0.is_some()
    }
}

/// How many pods of an EndpointSlice are read: the API server allows a thousand endpoints.
const MAX_ENDPOINTS: usize = 1000;

/// The pods that an EndpointSlice withdraws.
#[derive(Clone, Default)]
struct Slice {
    key: (String, String),
    withdrawn: Vec<String>,
}

impl Watched for Slice {
    const KIND: &'static str = "EndpointSlice";
    const FLOOR: usize = 0;
    const IS_CACHED: bool = false;

    fn decode(text: &[u8]) -> Result<Self, UnusableReason> {
        #[derive(Deserialize)]
        struct EndpointSlice<'a> {
            metadata: Metadata<'a>,
            #[serde(borrow, default)]
            endpoints: Option<Vec<Endpoint<'a>>>,
        }
        #[derive(Deserialize)]
        struct Metadata<'a> {
            #[serde(default)]
            namespace: &'a str,
            name: &'a str,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Endpoint<'a> {
            #[serde(default)]
            conditions: Conditions,
            #[serde(borrow)]
            target_ref: Option<Target<'a>>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Conditions {
            ready: Option<bool>,
            terminating: Option<bool>,
        }
        #[derive(Deserialize)]
        struct Target<'a> {
            uid: Option<&'a str>,
        }
        let slice: EndpointSlice<'_> = serde_json::from_slice(text)
            .map_err(|error| UnusableReason::undecodable("the EndpointSlice", &error))?;
        let endpoints = slice.endpoints.into_iter().flatten();
        let withdrawn = endpoints.filter_map(|endpoint| {
            let Conditions { ready, terminating } = endpoint.conditions;
            let is_withdrawn = ready == Some(false) && terminating == Some(true);
            endpoint.target_ref.filter(|_| is_withdrawn)?.uid.map(ToOwned::to_owned)
        });
        let key = (slice.metadata.namespace.to_owned(), slice.metadata.name.to_owned());
        Ok(Self { key, withdrawn: withdrawn.take(MAX_ENDPOINTS).collect() })
    }

    fn of_metadata(_: ObjectMeta) -> Self {
        Self::default()
    }

    fn cached_size(&self) -> usize {
        0
    }

    fn is_relevant(&self) -> bool {
        !self.withdrawn.is_empty()
    }
}

/// An Event about a preStop hook that failed.
#[derive(Clone)]
struct FailedPreStop(Option<FailedHook>);

impl Watched for FailedPreStop {
    const KIND: &'static str = "Event";
    const FLOOR: usize = 0;
    const IS_CACHED: bool = false;

    fn decode(text: &[u8]) -> Result<Self, UnusableReason> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct About {
            involved_object: Involved,
            last_timestamp: Option<Time>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Involved {
            uid: Option<String>,
            /// For example `spec.containers{app}`.
            field_path: Option<String>,
        }
        let event: About =
            serde_json::from_slice(text).map_err(|error| UnusableReason::undecodable("the Event", &error))?;
        let Involved { uid, field_path } = event.involved_object;
        let container =
            field_path.and_then(|path| Some(path.split_once('{')?.1.strip_suffix('}')?.to_owned()));
        let container = container.filter(|name| name.len() <= limits::CONTAINER_NAME_LENGTH);
        let failed = uid.zip(container).zip(event.last_timestamp);
        Ok(Self(failed.map(|((uid, container), Time(at))| FailedHook { uid, container, at })))
    }

    fn of_metadata(_: ObjectMeta) -> Self {
        Self(None)
    }

    fn cached_size(&self) -> usize {
        0
    }

    fn is_relevant(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_endpoint_slice_withdraws_pods_that_terminate_and_are_not_ready() {
        let endpoint = |uid: &str, conditions: serde_json::Value| json!({"addresses": ["10.0.0.1"], "conditions": conditions, "targetRef": {"kind": "Pod", "uid": uid}});
        let slice = json!({
            "metadata": {"namespace": "shop", "name": "web-abc"},
            "endpoints": [
                endpoint("ready", json!({"ready": true, "terminating": false})),
                endpoint("starting", json!({"ready": false, "serving": false, "terminating": false})),
                endpoint("draining", json!({"ready": false, "serving": true, "terminating": true})),
                endpoint("published", json!({"ready": true, "terminating": true})),
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "terminating": true}},
            ],
        });
        let slice = Slice::decode(slice.to_string().as_bytes()).unwrap();
        assert_eq!((slice.withdrawn.as_slice(), slice.is_relevant()), (&["draining".to_owned()][..], true));
        assert_eq!(slice.key, ("shop".into(), "web-abc".into()));
        let empty = Slice::decode(br#"{"metadata": {"name": "a"}, "endpoints": null}"#).unwrap();
        assert!(!empty.is_relevant());
    }

    #[test]
    fn an_event_names_the_pod_whose_hook_failed() {
        let involved = json!({"kind": "Pod", "uid": "uid-1", "fieldPath": "spec.containers{app}"});
        let event = json!({
            "reason": "FailedPreStopHook", "involvedObject": involved, "lastTimestamp": "2026-01-31T12:00:00Z",
        });
        let failed = FailedPreStop::decode(event.to_string().as_bytes()).unwrap().0.unwrap();
        assert_eq!((failed.uid.as_str(), failed.container.as_str()), ("uid-1", "app"));
        assert_eq!(failed.at.to_string(), "2026-01-31T12:00:00Z");
        let without = FailedPreStop::decode(br#"{"involvedObject": {"uid": "uid-1"}}"#).unwrap();
        assert!(!without.is_relevant());
        assert!(FailedPreStop::decode(b"{}").is_err());
    }
}
