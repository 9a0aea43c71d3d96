//! A mock API server, and targets in it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Method;
use kube::{Client, core::DynamicObject};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    super::{Action, Outcome, Step, Target, opt_out},
    ROLLOUT_LIMITS,
};
use crate::{
    api::annotations::INJECTED,
    plan::{self, Kind, NamespaceContext, Workload, our_labels},
    runtime::test_support::{client_of_bodies, failure, not_found},
};

/// An API server with Deployments. A rollout completes a number of reads after it started.
#[derive(Clone, Default)]
pub(super) struct Server(Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    pub(super) objects: Vec<Value>,
    /// The reads until a rollout completes.
    pub(super) reads: i64,
    /// Workloads whose rollout never completes.
    pub(super) stuck: Vec<&'static str>,
    /// Whether the controller has observed the template before it has a pod.
    pub(super) observes_early: bool,
    /// Workloads whose pods become available and unavailable again and again.
    pub(super) flapping: Vec<&'static str>,
    /// The maximum of concurrent rollouts.
    pub(super) most: usize,
    /// The order in which rollouts started.
    pub(super) begun: Vec<String>,
    /// The errors of writes, by name.
    pub(super) refusals: Vec<(&'static str, u16, &'static str)>,
    pub(super) writes: usize,
    /// Workloads for which requests are not answered.
    pub(super) silent: Vec<&'static str>,
    /// The workloads for which adieu created a `PodDisruptionBudget`.
    pub(super) budgets: Vec<&'static str>,
    /// The error when one is deleted.
    pub(super) budget_error: Option<u16>,
    /// Whether pods have the injection. `None` if they can't be listed.
    pub(super) injected_pods: Option<bool>,
    /// The number of lists of `PodDisruptionBudget`s.
    pub(super) budget_lists: usize,
    /// Whether an entry in managedFields was removed before them.
    pub(super) released_first: bool,
}

fn deployment(name: &str) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": name, "namespace": "shop", "uid": name, "generation": 1, "resourceVersion": "1",
            "annotations": {"team": "shop", "adieu.dev/graceful": "true", "adieu.dev/drain-seconds": "7"},
        },
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "web"}]},
        }},
        "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "observedGeneration": 1},
    });
    let parsed: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let workload = Workload::of(Kind::Deployment, &parsed);
    object["spec"]["template"] = plan::evaluate(&workload, &NamespaceContext::default()).template.unwrap();
    object
}

pub(super) fn target(name: &str) -> Target {
    let object = serde_json::from_value(deployment(name)).unwrap();
    Target::new(Kind::Deployment, &object, Action::Restore)
}

impl Server {
    pub(super) fn new(names: &[&str], reads: i64) -> Self {
        let server = Self::default();
        {
            let mut state = server.state();
            state.objects = names.iter().map(|name| deployment(name)).collect();
            state.reads = reads;
        }
        server
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn object(&self, name: &str) -> Value {
        let state = self.state();
        state.objects.iter().find(|object| object["metadata"]["name"] == name).unwrap().clone()
    }

    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        client_of_bodies(move |method, target, body| server.state().answer(method, target, body))
    }

    pub(super) async fn opt_out(
        &self,
        names: &[&str],
        interrupted: &CancellationToken,
    ) -> Vec<(String, Outcome)> {
        let targets = names.iter().map(|name| target(name)).collect();
        let report = |_: &Target, step: &Step<'_>| {
            if matches!(step, Step::RollsOut) && self.state().stuck.contains(&"until interrupted") {
                interrupted.cancel();
            }
        };
        let done = opt_out(&self.client(), targets, ROLLOUT_LIMITS, interrupted, report).await;
        done.into_iter().map(|(target, outcome)| (target.name, outcome)).collect()
    }
}

impl State {
    /// `None` if there is no answer.
    fn answer(&mut self, method: &Method, target: &str, body: &[u8]) -> Option<(u16, Value)> {
        let name = target.split('?').next().unwrap().rsplit('/').next().unwrap();
        if self.silent.contains(&name) {
            return None;
        }
        Some(match method {
            _ if target.contains("poddisruptionbudgets") => self.budgets(method, name),
            _ if target.contains("/pods?") => self.pods(),
            &Method::PATCH => self.patch(name, body),
            _ => self.get(name),
        })
    }

    /// Lists the `PodDisruptionBudget`s, or deletes that of a workload.
    fn budgets(&mut self, method: &Method, name: &str) -> (u16, Value) {
        match (method, self.budget_error) {
            (&Method::DELETE, Some(code)) => return (code, failure(code, "etcd has no leader")),
            (&Method::DELETE, None) => self.budgets.retain(|of| *of != name),
            _ => self.budget_lists += 1,
        }
        let budget = |of: &&str| {
            let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": of, "uid": of});
            json!({"metadata": {"name": of, "labels": our_labels(), "ownerReferences": [owner]}})
        };
        (200, json!({"metadata": {}, "items": self.budgets.iter().map(budget).collect::<Vec<_>>()}))
    }

    /// Lists the pods of a workload.
    fn pods(&self) -> (u16, Value) {
        let Some(is_injected) = self.injected_pods else { return (403, failure(403, "pods is forbidden")) };
        let annotations = if is_injected { json!({INJECTED: "{}"}) } else { json!({}) };
        (200, json!({"metadata": {}, "items": [{"metadata": {"annotations": annotations}}]}))
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.objects.iter().position(|object| object["metadata"]["name"] == name)
    }

    fn get(&mut self, name: &str) -> (u16, Value) {
        let Some(index) = self.position(name) else { return (404, not_found()) };
        let is_stuck = self.stuck.contains(&name);
        let object = &mut self.objects[index];
        let left = object["left"].as_i64().unwrap_or(0);
        let is_flapping = self.flapping.contains(&name);
        if left > 0 && is_flapping {
            let available = object["status"]["availableReplicas"].as_i64().unwrap();
            object["status"]["observedGeneration"] = object["metadata"]["generation"].clone();
            object["status"]["availableReplicas"] = json!(1 - available);
            object["status"]["updatedReplicas"] = json!(0);
        } else if left > 0 && !is_stuck {
            object["left"] = json!(left - 1);
            if left == 1 || self.observes_early {
                object["status"]["observedGeneration"] = object["metadata"]["generation"].clone();
            }
            object["status"]["updatedReplicas"] = json!(i32::from(left == 1));
        }
        (200, object.clone())
    }

    fn patch(&mut self, name: &str, body: &[u8]) -> (u16, Value) {
        let Some(index) = self.position(name) else { return (404, not_found()) };
        self.writes += 1;
        if let Some(at) = self.refusals.iter().position(|(refused, ..)| *refused == name) {
            let (_, code, message) = self.refusals[at];
            if code == 409 {
                self.refusals.remove(at);
            }
            return (code, failure(code, message));
        }
        let before = self.objects[index].clone();
        let object = &mut self.objects[index];
        let patch: json_patch::Patch = serde_json::from_slice(body).unwrap();
        let precondition = serde_json::to_value(&patch.0[0]).unwrap();
        assert_eq!(precondition["path"], "/metadata/resourceVersion");
        if precondition["value"] != before["metadata"]["resourceVersion"] {
            return (409, failure(409, "the object has been modified"));
        }
        json_patch::patch(object, &patch).unwrap();
        let version: i64 = before["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        let is_released = object["metadata"]["managedFields"] != before["metadata"]["managedFields"];
        self.released_first |= is_released && self.budget_lists == 0;
        if object["spec"] != before["spec"] {
            object["metadata"]["generation"] = json!(before["metadata"]["generation"].as_i64().unwrap() + 1);
            object["left"] = json!(self.reads);
            // The writer owns the fields.
            object["metadata"]["managedFields"] = json!([{"manager": "adieu", "operation": "Update"}]);
            self.begun.push(name.to_owned());
            let rolling = self.objects.iter().filter(|object| object["left"].as_i64() > Some(0)).count();
            self.most = self.most.max(rolling);
        }
        (200, self.objects[index].clone())
    }
}
