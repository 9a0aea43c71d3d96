//! Events on the workloads that the controller brought to their plan.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Resource as _, ResourceExt as _,
    core::DynamicObject,
    runtime::events::{Event, EventType, Recorder},
};
use serde_json::Value;

use crate::{
    api::annotations::INJECTED,
    plan::{Convergence, Kind, Standing},
    runtime::{caches::hash_of, workloads::resource},
};

/// The longest note that the events API takes, in bytes.
const NOTE_LIMIT: usize = 1024;

/// Tells what was injected or taken back, and what a person should know.
pub(super) async fn injected(
    recorder: &Recorder,
    kind: Kind,
    object: &DynamicObject,
    template: &Value,
    convergence: &Convergence,
) {
    let injected = template["metadata"]["annotations"].get(INJECTED).is_some();
    let reason = if injected { "Injected" } else { "Reverted" };
    let note = summary(template, convergence);
    publish(recorder, kind, object, EventType::Normal, reason, note).await;
}

/// What people were warned of, by the workloads' uids, as hashes.
#[derive(Default)]
pub(super) struct Told(Mutex<HashMap<String, u64>>);

impl Told {
    /// Warns of what a person should know of a workload, once until it is something else.
    pub(super) async fn tell(
        &self,
        recorder: &Recorder,
        kind: Kind,
        object: &DynamicObject,
        convergence: &Convergence,
    ) {
        if convergence.standing != Standing::Unmanaged && self.is_news(object, &convergence.warnings) {
            for warning in &convergence.warnings {
                publish(recorder, kind, object, EventType::Warning, "Degraded", warning.clone()).await;
            }
        }
    }

    fn is_news(&self, object: &DynamicObject, warnings: &[String]) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = object.uid().unwrap_or_default();
        if warnings.is_empty() {
            told.remove(&uid);
            return false;
        }
        let hash = hash_of(&warnings);
        told.insert(uid, hash) != Some(hash)
    }
}

/// Tells what a policy would do that only observes.
pub(super) async fn would_inject(
    recorder: &Recorder,
    kind: Kind,
    object: &DynamicObject,
    template: &Value,
    convergence: &Convergence,
) {
    let note = format!(
        "nothing is changed, because the policy only observes ({}); it would be: {}",
        convergence.resolution.settings.mode.from,
        summary(template, convergence)
    );
    publish(recorder, kind, object, EventType::Normal, "WouldInject", note).await;
}

/// Tells why a workload isn't brought to its plan.
pub(super) async fn blocked(recorder: &Recorder, kind: Kind, object: &DynamicObject, reason: String) {
    publish(recorder, kind, object, EventType::Warning, "Blocked", reason).await;
}

/// Tells that no workload rolls out for a policy any more, because one failed.
pub(super) async fn stalled(recorder: &Recorder, policy: &ObjectReference, reason: String) {
    send(recorder, policy, EventType::Warning, "Stalled", reason).await;
}

/// What is injected, in a line.
fn summary(template: &Value, convergence: &Convergence) -> String {
    let grace = &template["spec"]["terminationGracePeriodSeconds"];
    if template["metadata"]["annotations"].get(INJECTED).is_none() {
        return format!("what was injected is taken back, grace period {grace} s");
    }
    let settings = &convergence.resolution.settings;
    let [drain, shutdown] = [&settings.drain_seconds, &settings.shutdown_timeout_seconds];
    format!(
        "drain {} s ({}), shutdown timeout {} s ({}), grace period {grace} s",
        drain.value, drain.from, shutdown.value, shutdown.from
    )
}

async fn publish(
    recorder: &Recorder,
    kind: Kind,
    object: &DynamicObject,
    type_: EventType,
    reason: &str,
    note: String,
) {
    send(recorder, &object.object_ref(&resource(kind)), type_, reason, note).await;
}

async fn send(
    recorder: &Recorder,
    reference: &ObjectReference,
    type_: EventType,
    reason: &str,
    mut note: String,
) {
    note.truncate(note.floor_char_boundary(NOTE_LIMIT));
    let event =
        Event { type_, reason: reason.into(), note: Some(note), action: "Inject".into(), secondary: None };
    // An event is a courtesy: the workload is what counts.
    if let Err(error) = recorder.publish(&event, reference).await {
        tracing::warn!(kind = reference.kind, name = reference.name, %error, "event not published");
    }
}
