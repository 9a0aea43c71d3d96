//! Events on the workloads that the controller brought to their plan.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Resource as _, ResourceExt as _,
    core::DynamicObject,
    runtime::events::{Event, EventType, Recorder},
};
use serde_json::Value;
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    api::annotations::INJECTED,
    plan::{Convergence, Kind, Standing},
    runtime::{caches::hash_of, workloads::resource},
};

/// The longest note that the events API takes, in bytes.
const NOTE_LIMIT: usize = 1024;

/// How long who ends publishes what is left.
const LAST: Duration = Duration::from_secs(2);

/// What is to be published. Events go out one after the other, so that workloads, which are written several at
/// a time, come first where there are thousands.
pub(super) struct Outbox(mpsc::UnboundedSender<(ObjectReference, Event)>);

/// An outbox, and what publishes from it: until nobody puts anything in any more, or shortly after `shutdown`.
pub(super) fn outbox(
    recorder: Recorder,
    shutdown: CancellationToken,
) -> (Outbox, impl Future<Output = ()> + Send) {
    let (sender, mut events) = mpsc::unbounded_channel();
    let publish = async move {
        while let Some((reference, event)) = events.recv().await {
            // An event is a courtesy: the workload is what counts.
            if let Err(error) = recorder.publish(&event, &reference).await {
                tracing::warn!(kind = reference.kind, name = reference.name, %error, "event not published");
            }
        }
    };
    let work = async move {
        tokio::select! {
            () = publish => {}
            () = async { shutdown.cancelled().await; sleep(LAST).await } => {}
        }
    };
    (Outbox(sender), work)
}

impl Outbox {
    /// Tells what was injected or taken back, and what a person should know.
    pub(super) fn injected(
        &self,
        kind: Kind,
        object: &DynamicObject,
        template: &Value,
        convergence: &Convergence,
    ) {
        let injected = template["metadata"]["annotations"].get(INJECTED).is_some();
        let reason = if injected { "Injected" } else { "Reverted" };
        let note = summary(template, convergence);
        self.publish(kind, object, EventType::Normal, reason, note);
    }

    /// Tells what a policy would do that only observes.
    pub(super) fn would_inject(
        &self,
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
        self.publish(kind, object, EventType::Normal, "WouldInject", note);
    }

    /// Tells why a workload isn't brought to its plan.
    pub(super) fn blocked(&self, kind: Kind, object: &DynamicObject, reason: String) {
        self.publish(kind, object, EventType::Warning, "Blocked", reason);
    }

    /// Tells that no workload rolls out for a policy any more, because one failed.
    pub(super) fn stalled(&self, policy: &ObjectReference, reason: String) {
        self.send(policy, EventType::Warning, "Stalled", reason);
    }

    fn publish(&self, kind: Kind, object: &DynamicObject, type_: EventType, reason: &str, note: String) {
        self.send(&object.object_ref(&resource(kind)), type_, reason, note);
    }

    fn send(&self, reference: &ObjectReference, type_: EventType, reason: &str, mut note: String) {
        note.truncate(note.floor_char_boundary(NOTE_LIMIT));
        let event = Event {
            type_,
            reason: reason.into(),
            note: Some(note),
            action: "Inject".into(),
            secondary: None,
        };
        // Where nobody publishes any more, this is the end.
        drop(self.0.send((reference.clone(), event)));
    }
}

/// What people were warned of, by the workloads' uids, as hashes.
#[derive(Default)]
pub(super) struct Told(Mutex<HashMap<String, u64>>);

impl Told {
    /// Warns of what a person should know of a workload, once until it is something else.
    pub(super) fn tell(
        &self,
        outbox: &Outbox,
        kind: Kind,
        object: &DynamicObject,
        convergence: &Convergence,
    ) {
        if convergence.standing != Standing::Unmanaged && self.is_news(object, &convergence.warnings) {
            for warning in &convergence.warnings {
                outbox.publish(kind, object, EventType::Warning, "Degraded", warning.clone());
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
