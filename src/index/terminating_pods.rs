//! Watches of the terminating pods, of their endpoints, and of preStop hooks that failed. Nothing is
//! kept: each event is for one reader, and pods that don't terminate are dropped as soon as that is known.

use std::sync::Arc;

use adieu_observer::{TerminatingEndpoints, TerminatingPod};
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
    unusable_objects::{UnusableObjects, UnusableReason},
    watched::Watched,
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

/// What happens to the endpoints of terminating pods.
#[derive(Debug)]
pub enum EndpointEvent {
    /// A list of all EndpointSlices begins.
    ListBegins,
    /// The present state of an EndpointSlice, from a list: the time of the change is not known.
    Listed(TerminatingEndpoints),
    /// An EndpointSlice changed, or is deleted.
    Changed(TerminatingEndpoints),
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

/// The terminating pods of each EndpointSlice. `fields` is a field selector.
pub fn terminating_endpoints(
    client: &Client,
    fields: &str,
    unusable: &UnusableObjects,
) -> impl Stream<Item = EndpointEvent> + Send + use<> {
    let path = "/apis/discovery.k8s.io/v1/endpointslices";
    let events = watch::<Slice>(client, path, "discovery.k8s.io/v1", Some(fields), unusable);
    events.filter_map(|event| {
        ready(match event {
            Event::Init => Some(EndpointEvent::ListBegins),
            Event::InitDone => None,
            Event::InitApply(slice) => Some(EndpointEvent::Listed(slice.0)),
            Event::Apply(slice) | Event::Delete(slice) => Some(EndpointEvent::Changed(slice.0)),
        })
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
        pages: None,
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

/// The terminating pods of an EndpointSlice.
#[derive(Clone)]
struct Slice(TerminatingEndpoints);

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
        let key = (slice.metadata.namespace.to_owned(), slice.metadata.name.to_owned());
        let mut terminating = TerminatingEndpoints { slice: key, ..TerminatingEndpoints::default() };
        for endpoint in slice.endpoints.into_iter().flatten().take(MAX_ENDPOINTS) {
            let Conditions { ready, terminating: is_terminating } = endpoint.conditions;
            let uid = endpoint.target_ref.and_then(|target| target.uid).map(ToOwned::to_owned);
            if let Some(uid) = uid.filter(|_| is_terminating == Some(true)) {
                if ready == Some(false) {
                    terminating.not_ready.push(uid);
                } else {
                    terminating.ready.insert(uid);
                }
            }
        }
        Ok(Self(terminating))
    }

    /// Of a slice that is deleted.
    fn of_metadata(metadata: ObjectMeta) -> Self {
        let slice = (metadata.namespace.unwrap_or_default(), metadata.name.unwrap_or_default());
        Self(TerminatingEndpoints { slice, ..TerminatingEndpoints::default() })
    }

    fn cached_size(&self) -> usize {
        0
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
    fn an_endpoint_slice_has_terminating_pods_that_are_ready_or_not() {
        let endpoint = |uid: &str, conditions: serde_json::Value| json!({"addresses": ["10.0.0.1"], "conditions": conditions, "targetRef": {"kind": "Pod", "uid": uid}});
        let slice = json!({
            "metadata": {"namespace": "shop", "name": "web-abc"},
            "endpoints": [
                endpoint("ready", json!({"ready": true, "terminating": false})),
                endpoint("starting", json!({"ready": false, "serving": false, "terminating": false})),
                endpoint("draining", json!({"ready": false, "serving": true, "terminating": true})),
                endpoint("published", json!({"ready": true, "terminating": true})),
                endpoint("unknown", json!({"terminating": true})),
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "terminating": true}},
            ],
        });
        let Slice(slice) = Slice::decode(slice.to_string().as_bytes()).unwrap();
        let expected = TerminatingEndpoints {
            slice: ("shop".into(), "web-abc".into()),
            // The API says that an unknown condition is to be read as ready.
            ready: ["published".to_owned(), "unknown".to_owned()].into(),
            not_ready: vec!["draining".into()],
        };
        assert_eq!(slice, expected);
        let empty = json!({"metadata": {"namespace": "shop", "name": "web-abc"}, "endpoints": null});
        let Slice(empty) = Slice::decode(empty.to_string().as_bytes()).unwrap();
        let metadata = ObjectMeta {
            namespace: Some("shop".into()),
            name: Some("web-abc".into()),
            ..ObjectMeta::default()
        };
        assert_eq!(empty, Slice::of_metadata(metadata).0, "a deleted slice has no pods");
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
