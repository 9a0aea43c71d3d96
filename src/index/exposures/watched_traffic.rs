//! Traffic objects as they are watched, without the fields that aren't used.

use adieu_exposures::{Kind, TrafficObject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::index::{
    memory_estimate::parsed_size,
    slim::{Metadata, Parts},
    unusable_objects::UnusableReason,
    watched::Watched,
};

/// The maximum size of a spec in memory while it is read, in bytes.
const SPEC_LIMIT: usize = 8 << 20;

/// An object of one of the [`KINDS`](adieu_exposures::KINDS).
#[derive(Clone)]
pub(super) struct WatchedTraffic {
    pub(super) metadata: ObjectMeta,
    /// `None` if the object has no name.
    pub(super) object: Option<TrafficObject>,
}

impl Watched for WatchedTraffic {
    const KIND: &'static str = "TrafficObject";
    const FLOOR: usize = 256 << 10;
    const MAX_IN_NAMESPACE: usize = 2000;
    const USABLE_ONCE_APPLIED: bool = true;

    fn decode(text: &[u8]) -> Result<Self, UnusableReason> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Types {
            api_version: String,
            kind: String,
        }
        let types: Types = serde_json::from_slice(text)
            .map_err(|error| UnusableReason::undecodable("apiVersion and kind", &error))?;
        Self::decode_as(&types.api_version, &types.kind, text)
    }

    /// Its class, annotations that load balancers read, and references to other objects.
    fn decode_as(api_version: &str, kind: &str, text: &[u8]) -> Result<Self, UnusableReason> {
        let parts = Parts::of(text)?;
        let metadata = Metadata::of(parts.metadata)?;
        let spec = parts.spec.map_or("null", RawValue::get);
        let size = parsed_size(spec);
        if size > SPEC_LIMIT {
            return Err(UnusableReason::TooLarge(format!(
                "spec: {} KiB in memory exceed the limit of {} KiB: make it smaller",
                size.div_ceil(1 << 10),
                SPEC_LIMIT >> 10
            )));
        }
        let spec: Value =
            serde_json::from_str(spec).map_err(|error| UnusableReason::undecodable("spec", &error))?;
        let (labels, annotations) = (metadata.labels()?, metadata.annotations()?);
        let metadata = metadata.bare();
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let object = json!({
            "metadata": {"name": metadata.name, "labels": labels, "annotations": annotations},
            "spec": spec,
        });
        let object = TrafficObject::read(group(api_version), kind, namespace, &object);
        Ok(Self { metadata, object })
    }

    fn counted_as(api_version: &str, kind: &'static str) -> &'static str {
        Kind::find(group(api_version), kind).map_or(kind, |kind| kind.resource)
    }

    fn of_metadata(metadata: ObjectMeta) -> Self {
        Self { metadata, object: None }
    }

    fn cached_size(&self) -> usize {
        self.object.as_ref().map_or(0, TrafficObject::size)
    }

    fn is_relevant(&self) -> bool {
        self.object.is_some()
    }
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(object: &Value) -> Result<WatchedTraffic, UnusableReason> {
        WatchedTraffic::decode_as("networking.k8s.io/v1", "Ingress", object.to_string().as_bytes())
    }

    #[test]
    fn only_used_fields_are_kept_and_the_kind_may_be_missing() {
        let metadata = json!({
            "name": "web", "namespace": "shop", "managedFields": [{"manager": "kubectl"}],
            "annotations": {"alb.ingress.kubernetes.io/target-type": "ip", "example.com/notes": "x".repeat(4096)},
        });
        let spec = json!({"ingressClassName": "alb", "defaultBackend": {"service": {"name": "web"}}});
        let object = json!({"metadata": metadata, "spec": spec, "status": {"loadBalancer": {}}});
        let read = decode(&object).unwrap();
        let expected = TrafficObject::read("networking.k8s.io", "Ingress", "shop", &object).unwrap();
        assert_eq!(read.object.as_ref(), Some(&expected));
        assert!(read.cached_size() < 4096, "{}", read.cached_size());
        let mut with_types = object.clone();
        with_types["apiVersion"] = "networking.k8s.io/v1".into();
        with_types["kind"] = "Ingress".into();
        let read = WatchedTraffic::decode(with_types.to_string().as_bytes()).unwrap();
        assert_eq!(read.object, Some(expected));
        assert!(WatchedTraffic::decode(object.to_string().as_bytes()).is_err());
    }

    #[test]
    fn a_spec_that_takes_too_much_memory_is_not_read() {
        let paths = vec![json!({"a": {}}); SPEC_LIMIT / 1000];
        let object = json!({"metadata": {"name": "web"}, "spec": {"rules": paths}});
        let error = decode(&object).err().unwrap().to_string();
        assert!(error.starts_with("spec: ") && error.contains("the limit of 8192 KiB"), "{error}");
        let without_spec = decode(&json!({"metadata": {"name": "web"}})).unwrap();
        assert!(without_spec.is_relevant());
        assert!(!decode(&json!({"metadata": {}})).unwrap().is_relevant());
    }

    #[test]
    fn kinds_of_one_name_are_counted_separately() {
        for (api_version, expected) in [
            ("traefik.io/v1alpha1", "ingressroutes.traefik.io"),
            ("traefik.containo.us/v1alpha1", "ingressroutes.traefik.containo.us"),
            ("example.com/v1", "IngressRoute"),
        ] {
            assert_eq!(WatchedTraffic::counted_as(api_version, "IngressRoute"), expected);
        }
    }
}
