//! The three kinds of workload.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{APP, fields, instructions, maybe, merge, pods, some_of};

/// An object of `apps/v1` that the API server accepts, apart from its pod template.
pub fn workload() -> BoxedStrategy<Value> {
    let kind = prop_oneof![
        4 => (Just("Deployment"), some_of(deployment(), 3)),
        2 => (Just("StatefulSet"), some_of(stateful_set(), 3)),
        2 => (Just("DaemonSet"), some_of(daemon_set(), 2)),
    ];
    (kind, metadata(), selector(), pods::template())
        .prop_map(|((kind, mut spec), mut metadata, selector, template)| {
            // The name of a StatefulSet is part of the names of its pods, which have no dots.
            if kind == "StatefulSet" && metadata["name"] == "web.with.dots" {
                metadata["name"] = json!("web");
            }
            merge(&mut spec, json!({"selector": selector, "template": template}));
            json!({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec})
        })
        .boxed()
}

fn selector() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({"matchLabels": {"app": APP}}),
        json!({"matchExpressions": [{"key": "app", "operator": "In", "values": [APP, "other"]}]}),
    ])
}

fn metadata() -> BoxedStrategy<Value> {
    let long = "long-".repeat(8) + "name";
    let names = prop::sample::select(vec!["web".to_owned(), "web.with.dots".to_owned(), long]);
    let annotations = prop_oneof![
        1 => maybe(Just(json!({}))),
        4 => instructions().prop_map(|mut instructions| {
            merge(&mut instructions, json!({"team": "shop"}));
            Some(instructions)
        }),
    ];
    let owner = json!([{
        "apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "name": "p",
        "uid": "6a1e7f6e-6f7b-4c4e-9d9a-1c5f6a0d7b11", "controller": true,
    }]);
    let owners = prop_oneof![19 => Just(None), 1 => Just(Some(owner))];
    (names, annotations, owners)
        .prop_map(|(name, annotations, owners)| {
            fields([("name", Some(json!(name))), ("annotations", annotations), ("ownerReferences", owners)])
        })
        .boxed()
}

fn deployment() -> Vec<Value> {
    vec![
        json!({"replicas": 3}),
        json!({"replicas": 0, "paused": true}),
        json!({"replicas": null, "strategy": {}}),
        json!({"strategy": {"type": "Recreate"}}),
        json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}}}),
        json!({"strategy": {"rollingUpdate": null}}),
        json!({"minReadySeconds": 10, "progressDeadlineSeconds": 300}),
        json!({"revisionHistoryLimit": 2}),
    ]
}

fn stateful_set() -> Vec<Value> {
    let claim = json!({
        "metadata": {"name": "store"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    vec![
        json!({"serviceName": "peers"}),
        json!({"replicas": 3, "podManagementPolicy": "OrderedReady"}),
        json!({"podManagementPolicy": "Parallel"}),
        json!({"updateStrategy": {"type": "OnDelete"}}),
        json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}),
        json!({"minReadySeconds": 5, "ordinals": {"start": 1}}),
        json!({"volumeClaimTemplates": [claim]}),
        json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"}}),
    ]
}

fn daemon_set() -> Vec<Value> {
    vec![
        json!({"updateStrategy": {"type": "OnDelete"}}),
        json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}),
        json!({"minReadySeconds": 5}),
        json!({"revisionHistoryLimit": 0}),
    ]
}
