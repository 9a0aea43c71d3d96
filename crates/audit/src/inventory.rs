//! The objects of manifests, or of a cluster, that an audit reads.

use std::{collections::BTreeMap, sync::Arc};

use adieu_core::{
    owners::controller_of_value,
    plan::{EffectivePods, Kind, NamespaceContext, Workload, effective_pods, string_map},
};
use adieu_exposures::TrafficObject;
use k8s_openapi::api::core::v1::Service;
use kube::core::DynamicObject;
use serde::Deserialize as _;
use serde_json::Value;

/// All objects, in any order.
#[derive(Debug, Default)]
pub struct Inventory {
    /// The namespace of objects without one.
    default_namespace: String,
    /// By kind, namespace and name.
    workloads: BTreeMap<[String; 3], AuditedWorkload>,
    namespaces: BTreeMap<String, NamespaceObjects>,
    /// Ingresses and other objects that lead requests to Services, perhaps of another namespace.
    pub(crate) traffic: Vec<Arc<TrafficObject>>,
}

/// The objects of one namespace beside its workloads, by name.
#[derive(Debug, Default)]
pub(crate) struct NamespaceObjects {
    pub(crate) services: BTreeMap<String, Arc<Service>>,
    pub(crate) budgets: BTreeMap<String, Value>,
    pub(crate) autoscalers: BTreeMap<String, Value>,
}

/// A workload, with its pods as adieu injects them.
#[derive(Debug)]
pub(crate) struct AuditedWorkload {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The caller's number of the object.
    pub(crate) origin: usize,
    pub(crate) object: Value,
    /// Its kind, if adieu can inject it.
    injectable: Option<Kind>,
    /// The path of the pod template.
    pub(crate) template_path: &'static str,
    pub(crate) template: Value,
    /// The time after SIGTERM that adieu allows, in seconds; `None` if the workload isn't opted in.
    pub(crate) shutdown_timeout_seconds: Option<i64>,
}

impl AuditedWorkload {
    pub(crate) fn annotations(&self) -> BTreeMap<String, String> {
        string_map(&self.object["metadata"]["annotations"])
    }
}

impl Inventory {
    /// An empty inventory, with the namespace of objects without one.
    #[must_use]
    pub fn new(default_namespace: &str) -> Self {
        Self { default_namespace: default_namespace.into(), ..Self::default() }
    }

    /// Adds an object of any kind, with a number by which the caller finds it again. Kinds that no rule reads are skipped,
    /// and so are the Jobs of a CronJob.
    ///
    /// # Errors
    /// If a Service can't be decoded.
    pub fn add(
        &mut self,
        origin: usize,
        api_version: &str,
        kind: &str,
        object: &Value,
    ) -> Result<(), serde_json::Error> {
        let namespace = object["metadata"]["namespace"].as_str().filter(|text| !text.is_empty());
        let namespace = namespace.unwrap_or(&self.default_namespace).to_owned();
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        // Of several definitions the last one applies, as with kubectl apply.
        if let Some(workload) = AuditedWorkload::of(group, kind, &namespace, object) {
            let key = [kind, &workload.namespace, &workload.name].map(str::to_owned);
            self.workloads.insert(key, AuditedWorkload { origin, ..workload });
            return Ok(());
        }
        let traffic = TrafficObject::read(group, kind, &namespace, object);
        let objects = self.namespaces.entry(namespace).or_default();
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        match (group, kind) {
            ("", "Service") => drop(objects.services.insert(name, Arc::new(Service::deserialize(object)?))),
            ("policy", "PodDisruptionBudget") => drop(objects.budgets.insert(name, object.clone())),
            ("autoscaling", "HorizontalPodAutoscaler") => {
                drop(objects.autoscalers.insert(name, object.clone()));
            }
            _ => self.traffic.extend(traffic.map(Arc::new)),
        }
        Ok(())
    }

    /// Adds objects that lead requests to Services.
    pub fn add_traffic(&mut self, objects: impl IntoIterator<Item = Arc<TrafficObject>>) {
        self.traffic.extend(objects);
    }

    /// Injects the opted-in workloads, so that they are audited as their pods run with adieu.
    pub fn inject(&mut self, mut context: impl FnMut(&str) -> NamespaceContext) {
        for workload in self.workloads.values_mut() {
            let Some(kind) = workload.injectable else { continue };
            let Ok(object) = DynamicObject::deserialize(&workload.object) else { continue };
            let EffectivePods { template, settings } =
                effective_pods(&Workload::of(kind, &object), &context(&workload.namespace));
            workload.template = template;
            workload.shutdown_timeout_seconds =
                settings.map(|settings| settings.shutdown_timeout_seconds.value);
        }
    }

    pub(crate) fn workloads(&self) -> impl Iterator<Item = &AuditedWorkload> {
        self.workloads.values()
    }

    pub(crate) fn namespace(&self, namespace: &str) -> Option<&NamespaceObjects> {
        self.namespaces.get(namespace)
    }
}

impl AuditedWorkload {
    fn of(group: &str, kind: &str, namespace: &str, object: &Value) -> Option<Self> {
        let injectable = match (group, kind) {
            ("apps", "Deployment") => Some(Kind::Deployment),
            ("apps", "StatefulSet") => Some(Kind::StatefulSet),
            ("apps", "DaemonSet") => Some(Kind::DaemonSet),
            // A CronJob's Job is the CronJob's finding.
            ("batch", "Job") if controller_of_value(&object["metadata"]).is_none() => None,
            ("batch", "CronJob") => None,
            _ => return None,
        };
        let (template_path, template) = if kind == "CronJob" {
            ("spec.jobTemplate.spec.template", &object["spec"]["jobTemplate"]["spec"]["template"])
        } else {
            ("spec.template", &object["spec"]["template"])
        };
        let name = object["metadata"]["name"].as_str();
        let name = name.or_else(|| object["metadata"]["generateName"].as_str()).unwrap_or_default();
        Some(Self {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
            origin: 0,
            object: object.clone(),
            injectable,
            template_path,
            template: template.clone(),
            shutdown_timeout_seconds: None,
        })
    }
}
