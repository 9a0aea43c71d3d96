//! Edits of injected templates.

use adieu_core::api::labels::{ENABLED, INJECTION};
use proptest::{prelude::*, sample::Index};
use serde_json::{Map, Value, json};

use crate::{
    generate::list_mut,
    templates::{GRACE_PERIOD, SPREAD, put},
};

/// An order for lists of any length.
#[derive(Clone, Debug)]
pub struct Order(Vec<Index>);

pub fn order() -> impl Strategy<Value = Order> {
    prop::collection::vec(any::<Index>(), 4).prop_map(Order)
}

impl Order {
    pub fn shuffle<T>(&self, list: &mut [T]) {
        for (position, other) in self.0.iter().enumerate().take(list.len()) {
            let other = position + other.index(list.len() - position);
            list.swap(position, other);
        }
    }
}

/// A handler that the API server accepts.
pub fn handler() -> impl Strategy<Value = Map<String, Value>> {
    let handlers = [
        json!({"exec": {"command": ["sh", "-c", "sleep 20"]}}),
        json!({"exec": {"command": ["/drain"]}}),
        json!({"httpGet": {"path": "/quit", "port": 1}}),
        json!({"sleep": {"seconds": 4}}),
    ];
    prop::sample::select(handlers.to_vec()).prop_map(|handler| handler.as_object().cloned().unwrap())
}

/// An edit of an injected template.
#[derive(Clone, Debug)]
pub struct Edit {
    /// The index of the container.
    pub container: Index,
    pub change: Change,
}

#[derive(Clone, Debug)]
pub enum Change {
    /// A field of the pod spec.
    Pod(&'static str, Option<Value>),
    /// A field of a container.
    Container(&'static [&'static str], Option<Value>),
    /// A new container.
    Add(Value),
    /// The removal of a container.
    Remove,
    /// An annotation.
    Annotation(Option<Value>),
    /// The label that routes pods to the webhook.
    Label(Option<Value>),
}

pub fn edit() -> impl Strategy<Value = Edit> {
    let some = |value: Value| Just(Some(value));
    let change = prop_oneof![
        (1..400i64).prop_map(|seconds| Change::Pod(GRACE_PERIOD, Some(json!(seconds)))),
        Just(Change::Pod(GRACE_PERIOD, None)),
        Just(Change::Pod(SPREAD, None)),
        Just(Change::Pod(
            SPREAD,
            Some(json!([{"maxSkew": 3, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]))
        )),
        Just(Change::Pod("hostNetwork", Some(json!(true)))),
        handler().prop_map(|handler| Change::Container(&["lifecycle", "preStop"], Some(handler.into()))),
        Just(Change::Container(&["lifecycle", "preStop"], None)),
        Just(Change::Container(&["lifecycle"], None)),
        Just(Change::Container(&["lifecycle", "postStart"], Some(json!({"exec": {"command": ["true"]}})))),
        some(json!({"tcpSocket": {"port": 7}}))
            .prop_map(|probe| Change::Container(&["readinessProbe"], probe)),
        Just(Change::Container(&["readinessProbe"], None)),
        Just(Change::Container(&["image"], Some(json!("registry.example/web:2")))),
        Just(Change::Container(&["ports"], Some(json!([{"containerPort": 7}])))),
        Just(Change::Add(json!({"name": "late", "image": "late"}))),
        Just(Change::Remove),
        Just(Change::Annotation(Some(json!("now")))),
        Just(Change::Annotation(None)),
        Just(Change::Label(Some(json!("disabled")))),
        Just(Change::Label(Some(json!(ENABLED)))),
        Just(Change::Label(None)),
    ];
    (any::<Index>(), change).prop_map(|(container, change)| Edit { container, change })
}

impl Edit {
    pub fn apply_to(&self, template: &mut Value) {
        if let Change::Annotation(value) = &self.change {
            return put(template, &["metadata", "annotations", "checksum/config"], value.as_ref());
        }
        if let Change::Label(value) = &self.change {
            return put(template, &["metadata", "labels", INJECTION], value.as_ref());
        }
        if let Change::Pod(field, value) = &self.change {
            return put(template, &["spec", field], value.as_ref());
        }
        let Some(containers) = list_mut(template, "containers") else { return };
        if containers.is_empty() {
            return;
        }
        let index = self.container.index(containers.len());
        match &self.change {
            Change::Container(path, value) => put(&mut containers[index], path, value.as_ref()),
            Change::Add(container) => containers.push(container.clone()),
            Change::Remove => drop(containers.remove(index)),
            Change::Pod(..) | Change::Annotation(_) | Change::Label(_) => {}
        }
    }
}
