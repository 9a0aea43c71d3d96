//! The objects of manifests that affect workloads: policies, Services, the objects that lead requests to them, and
//! Namespaces.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{document::Location, objects::Object};
use adieu_core::{
    api::{self, ClusterGracefulPolicy, GracefulPolicy},
    plan::{self, Completeness, NamespaceContext},
};
use adieu_exposures::{NamespaceExposures, TrafficObject, is_known_exposure};

/// The policies, Services, Namespaces and objects such as Ingresses of all manifests, in any order.
#[derive(Debug, Default)]
pub struct ManifestSet {
    /// The namespace of objects without one.
    default_namespace: String,
    policies: BTreeMap<String, Vec<Arc<GracefulPolicy>>>,
    cluster_policies: Vec<Arc<ClusterGracefulPolicy>>,
    services: BTreeMap<String, Vec<Arc<Service>>>,
    /// The objects that lead requests to Services, by group, kind, namespace and name.
    traffic: BTreeMap<[String; 4], Arc<TrafficObject>>,
    namespaces: HashMap<String, BTreeMap<String, String>>,
    /// The locations of policies, by kind, namespace and name.
    locations: HashMap<(String, String, String), Location>,
}

/// A problem of an object.
#[derive(Debug)]
pub(super) enum ObjectProblem {
    /// The API server would reject the policy.
    Invalid(api::Violation),
    /// The object can't be read and is skipped.
    Unreadable(String),
    /// A drain profile of the policy is about nothing.
    UnknownExposure(String),
    /// The input has the object already, with other values. The last one applies, as with `kubectl apply`.
    Redefined,
}

impl ManifestSet {
    /// A set without objects.
    pub(super) fn new(default_namespace: &str) -> Self {
        Self { default_namespace: default_namespace.into(), ..Self::default() }
    }

    /// The namespace of an object with this one or none.
    #[must_use]
    pub fn namespace<'a>(&'a self, namespace: Option<&'a str>) -> &'a str {
        namespace.unwrap_or(&self.default_namespace)
    }

    /// Adds a policy, a Service, an object that leads requests to one, or a Namespace.
    pub(super) fn add(&mut self, object: &Object<'_>, location: &Location) -> Vec<ObjectProblem> {
        let namespace = self.namespace(object.namespace).to_owned();
        if object.is_policy() {
            return self.add_policy(object, namespace, location);
        }
        let mut redefined = false;
        if object.is("", "v1", "Service") {
            match decoded::<Service>(object.value) {
                Ok(service) => {
                    let services = self.services.entry(namespace).or_default();
                    redefined = put(services, service, |a, b| a.spec == b.spec);
                }
                Err(error) => return vec![ObjectProblem::Unreadable(error)],
            }
        } else if object.is("", "v1", "Namespace")
            && let Some(name) = object.name()
        {
            let labels = plan::string_map(&object.value["metadata"]["labels"]);
            let before = self.namespaces.insert(name.into(), labels.clone());
            redefined = before.is_some_and(|before| before != labels);
        } else if let Some(found) =
            TrafficObject::read(object.group(), object.kind(), &namespace, object.value)
        {
            let name = object.name().unwrap_or_default().to_owned();
            let key = [object.group().to_owned(), object.kind().to_owned(), namespace, name];
            let found = Arc::new(found);
            let before = self.traffic.insert(key, found.clone());
            redefined = before.is_some_and(|before| before != found);
        }
        redefined.then_some(ObjectProblem::Redefined).into_iter().collect()
    }

    fn add_policy(
        &mut self,
        object: &Object<'_>,
        namespace: String,
        location: &Location,
    ) -> Vec<ObjectProblem> {
        let typed = object.typed();
        let violations = api::check_policy(&typed);
        if !violations.is_empty() {
            return violations.into_iter().map(ObjectProblem::Invalid).collect();
        }
        let (cluster, policy) = (object.kind() == "ClusterGracefulPolicy", &api::as_stored(&typed));
        if let Some(name) = object.name() {
            let of = if cluster { String::new() } else { namespace.clone() };
            self.locations.insert((object.kind().into(), of, name.into()), location.clone());
        }
        let mut unknown = vec![];
        let redefined = if cluster {
            decoded::<ClusterGracefulPolicy>(policy).map(|policy| {
                unknown = unknown_exposures(&policy);
                put(&mut self.cluster_policies, policy, |a, b| a.spec == b.spec)
            })
        } else {
            let policies = self.policies.entry(namespace).or_default();
            decoded(policy).map(|policy| put(policies, policy, |a, b| a.spec == b.spec))
        };
        match redefined {
            Ok(redefined) => {
                redefined.then_some(ObjectProblem::Redefined).into_iter().chain(unknown).collect()
            }
            Err(error) => vec![ObjectProblem::Unreadable(error)],
        }
    }

    /// The policies, each with its namespace.
    pub(super) fn policies(&self) -> impl Iterator<Item = (&str, &GracefulPolicy)> {
        self.policies.iter().flat_map(|(namespace, of)| of.iter().map(|policy| (&**namespace, &**policy)))
    }

    pub(super) fn policies_in(&self, namespace: &str) -> &[Arc<GracefulPolicy>] {
        self.policies.get(namespace).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn policies_of(&mut self, namespace: &str) -> &mut [Arc<GracefulPolicy>] {
        self.policies.get_mut(namespace).map(Vec::as_mut_slice).unwrap_or_default()
    }

    pub(super) fn cluster_policies(&self) -> &[Arc<ClusterGracefulPolicy>] {
        &self.cluster_policies
    }

    pub(super) fn cluster_policies_mut(&mut self) -> &mut [Arc<ClusterGracefulPolicy>] {
        &mut self.cluster_policies
    }

    pub(super) fn services_in(&self, namespace: &str) -> &[Arc<Service>] {
        self.services.get(namespace).map(Vec::as_slice).unwrap_or_default()
    }

    /// The labels of a namespace, as far as they are known.
    pub(super) fn labels(&self, namespace: &str) -> BTreeMap<String, String> {
        // The API server sets this label on every namespace.
        let mut labels = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), namespace.to_owned())]);
        labels.extend(self.namespaces.get(namespace).cloned().unwrap_or_default());
        labels
    }

    /// The location of a policy; `None` if it has no name.
    pub(super) fn location(&self, kind: &str, namespace: &str, name: &str) -> Option<&Location> {
        self.locations.get(&(kind.to_owned(), namespace.to_owned(), name.to_owned()))
    }

    /// The context of a namespace.
    #[must_use]
    pub fn namespace_context(&self, namespace: &str, native_sleep: bool) -> NamespaceContext {
        let (applying, _) = self.cluster_policies_by_namespace(namespace);
        let context = NamespaceContext {
            policies: self.policies_in(namespace).to_vec(),
            cluster_policies: applying,
            services: self.services_in(namespace).to_vec(),
            native_sleep,
            ..NamespaceContext::default()
        };
        NamespaceExposures::added_to(context, namespace, self.traffic_objects(), Completeness::Complete)
    }

    /// The objects that lead requests to Services, in all namespaces.
    #[must_use]
    pub fn traffic_objects(&self) -> Arc<[Arc<TrafficObject>]> {
        self.traffic.values().cloned().collect()
    }

    /// The names of cluster policies that may or may not apply to a namespace whose labels are not in the input.
    #[must_use]
    pub fn undecided(&self, namespace: &str) -> Vec<String> {
        if self.namespaces.contains_key(namespace) {
            return vec![];
        }
        let (_, others) = self.cluster_policies_by_namespace(namespace);
        others.iter().map(|policy| policy.name_any()).collect()
    }

    /// The cluster policies that apply to a namespace, and the others.
    pub(super) fn cluster_policies_by_namespace(
        &self,
        namespace: &str,
    ) -> (Vec<Arc<ClusterGracefulPolicy>>, Vec<Arc<ClusterGracefulPolicy>>) {
        let labels = self.labels(namespace);
        self.cluster_policies.iter().cloned().partition(|policy| {
            let selector = policy.spec.namespace_selector.as_ref();
            selector.is_none_or(|selector| plan::matches(selector, &labels))
        })
    }
}

/// The drain profiles of a policy that are about no built-in profile and no class.
fn unknown_exposures(policy: &ClusterGracefulPolicy) -> Vec<ObjectProblem> {
    let profiles = policy.spec.drain_profiles.iter().flatten();
    let unknown = profiles.filter(|profile| !is_known_exposure(&profile.exposure));
    unknown.map(|profile| ObjectProblem::UnknownExposure(profile.exposure.clone())).collect()
}

/// Adds an object, or replaces the one with its name. Returns whether that one was different.
fn put<T: kube::Resource>(objects: &mut Vec<Arc<T>>, new: Arc<T>, same: fn(&T, &T) -> bool) -> bool {
    let name = new.meta().name.as_ref();
    if let Some(old) = objects.iter_mut().find(|old| name.is_some() && old.meta().name.as_ref() == name) {
        let redefined = !same(old, &new);
        *old = new;
        return redefined;
    }
    objects.push(new);
    false
}

fn decoded<T: DeserializeOwned>(value: &Value) -> Result<Arc<T>, String> {
    T::deserialize(value).map(Arc::new).map_err(|error| error.to_string())
}
