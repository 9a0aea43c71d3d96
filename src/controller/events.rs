//! Publishes Events about workloads and policies.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource as _, ResourceExt as _,
    core::DynamicObject,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::annotations::INJECTED,
    hash::hash_of,
    index::{unusable_objects::UnusableReason, workloads::resource},
    plan::{Evaluation, Kind, RecommendationChange},
    runtime::lock::lock,
};

/// The longest note that the events API accepts, in bytes.
const NOTE_LIMIT: usize = 1024;

/// How long Events are published after the shutdown begins.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How many Events may wait, in total and of one namespace: a namespace with thousands of changes leaves room to
/// others. Further Events are dropped.
const MAX_PENDING_EVENTS: usize = 2000;
const MAX_PENDING_EVENTS_OF_NAMESPACE: usize = 400;
/// How many warnings of a workload are published.
const MAX_WARNINGS: usize = 8;
/// How many Events on one object are published without a pause, and the time after which there may be one more: the
/// limits of client-go (`defaultSpamBurst` and `defaultSpamQPS` of its `EventCorrelator`).
const BURST: u32 = 25;
const INTERVAL: Duration = Duration::from_mins(5);
/// How many objects have a rate. Of more, the one whose bucket is full first loses it: a tenant may create and delete
/// any number of objects.
const MAX_RATES: usize = 10_000;

/// Publishes Events one after the other, so that they don't delay writes to workloads.
pub(super) struct EventPublisher {
    events: mpsc::Sender<(ObjectReference, Event)>,
    waiting: Waiting,
    /// Hashes of the notes that were published last, by the workload's uid and the reason.
    published: Mutex<HashMap<(String, &'static str), u64>>,
    /// By the object's uid, when its token bucket is full again.
    rates: Mutex<HashMap<String, Instant>>,
}

/// How many events of each namespace wait to be published.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<HashMap<String, usize>>>);

impl Waiting {
    /// Reserves room for an Event on an object, if there is any.
    fn add(&self, object: &ObjectReference) -> bool {
        let mut counts = lock(&self.0);
        let count = counts.entry(object.namespace.clone().unwrap_or_default()).or_default();
        let has_room = *count < MAX_PENDING_EVENTS_OF_NAMESPACE;
        *count += usize::from(has_room);
        has_room
    }

    fn remove(&self, object: &ObjectReference) {
        let mut counts = lock(&self.0);
        let namespace = object.namespace.clone().unwrap_or_default();
        match counts.get_mut(&namespace) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&namespace)),
        }
    }
}

/// A publisher, and the future that sends its Events until it is dropped, or shortly after `shutdown`.
pub(super) fn publisher(
    client: Client,
    reporter: Reporter,
    shutdown: CancellationToken,
) -> (EventPublisher, impl Future<Output = ()> + Send) {
    let (sender, mut events) = mpsc::channel::<(ObjectReference, Event)>(MAX_PENDING_EVENTS);
    let waiting = Waiting::default();
    let counts = waiting.clone();
    let publish = async move {
        while let Some((reference, event)) = events.recv().await {
            counts.remove(&reference);
            // A recorder that is kept counts a later Event of the same reason as a repetition, and drops its note.
            let recorder = Recorder::new(client.clone(), reporter.clone());
            if let Err(error) = recorder.publish(&event, &reference).await {
                tracing::warn!(kind = reference.kind, name = reference.name, %error, "cannot publish Event");
            }
        }
    };
    let work = async move {
        tokio::select! {
            () = publish => {}
            () = async { shutdown.cancelled().await; sleep(FLUSH_TIMEOUT).await } => {}
        }
    };
    (EventPublisher { events: sender, waiting, published: Mutex::default(), rates: Mutex::default() }, work)
}

impl EventPublisher {
    /// Reports an injection, or that it is reverted.
    pub(super) fn injected(
        &self,
        kind: Kind,
        object: &DynamicObject,
        template: &Value,
        evaluation: &Evaluation,
    ) {
        let injected = template["metadata"]["annotations"].get(INJECTED).is_some();
        let reason = if injected { "Injected" } else { "Reverted" };
        let note = summary(template, evaluation);
        self.send(&reference(kind, object), EventType::Normal, reason, note);
    }

    /// Reports what a policy in mode `Audit` would inject, once until it changes.
    pub(super) fn would_inject(
        &self,
        kind: Kind,
        object: &DynamicObject,
        template: &Value,
        evaluation: &Evaluation,
    ) {
        let note = format!(
            "nothing is changed, because the policy has mode Audit ({}); with mode Enforce: {}",
            evaluation.resolution.settings.mode.from,
            summary(template, evaluation)
        );
        self.send_once(kind, object, (EventType::Normal, "WouldInject"), [note]);
    }

    /// Reports that a recommendation is applied.
    pub(super) fn recommendation_applied(
        &self,
        kind: Kind,
        object: &DynamicObject,
        change: &RecommendationChange,
    ) {
        let RecommendationChange { before_seconds, after_seconds, policy, evidence, .. } = change;
        let note = format!(
            "the shutdown timeout becomes {after_seconds} s instead of {before_seconds} s, because {policy} applies \
             recommendations; the recommendation is {evidence}"
        );
        self.send(&reference(kind, object), EventType::Normal, "RecommendationApplied", note);
    }

    /// Publishes a warning about a workload.
    pub(super) fn warn(&self, kind: Kind, object: &DynamicObject, reason: &str, note: String) {
        self.send(&reference(kind, object), EventType::Warning, reason, note);
    }

    /// Publishes the warnings about a workload for this reason, once until they change.
    pub(super) fn warn_once(
        &self,
        kind: Kind,
        object: &DynamicObject,
        reason: &'static str,
        warnings: impl IntoIterator<Item = String>,
    ) {
        self.send_once(kind, object, (EventType::Warning, reason), warnings);
    }

    /// Publishes notes, once until they change.
    fn send_once(
        &self,
        kind: Kind,
        object: &DynamicObject,
        (type_, reason): (EventType, &'static str),
        notes: impl IntoIterator<Item = String>,
    ) {
        let notes: Vec<_> = notes.into_iter().collect();
        if self.should_publish(object, reason, &notes) {
            let others = notes.len().saturating_sub(MAX_WARNINGS);
            let others = (others > 0).then(|| format!("{others} more warnings are not shown"));
            let reference = reference(kind, object);
            let mut shown = notes.into_iter().take(MAX_WARNINGS).chain(others);
            if !shown.all(|note| self.send(&reference, type_, reason, note)) {
                // The next attempt publishes it.
                lock(&self.published).remove(&(object.uid().unwrap_or_default(), reason));
            }
        }
    }

    /// Reports that failed rollouts stop a policy.
    pub(super) fn stalled(&self, policy: &ObjectReference, reason: String) {
        self.send(policy, EventType::Warning, "Stalled", reason);
    }

    /// Reports an object that can't be used.
    pub(super) fn unusable(&self, object: &ObjectReference, reason: &UnusableReason) {
        let kind = Kind::from_gvk("apps", "v1", object.kind.as_deref().unwrap_or_default());
        let note = match (kind, reason) {
            (Some(_), UnusableReason::TooLarge(_)) => {
                format!("adieu cannot inject this workload: {reason}")
            }
            _ => format!("adieu ignores this object: {reason}"),
        };
        self.send(object, EventType::Warning, reason.name(), note);
    }

    /// Drops workloads that were deleted, by their uids.
    pub(super) fn retain(&self, exists: impl Fn(&str) -> bool) {
        lock(&self.published).retain(|(uid, _), _| exists(uid));
        let now = Instant::now();
        lock(&self.rates).retain(|_, settled| *settled > now);
    }

    /// Whether another Event on this object may be published now.
    fn is_within_rate(&self, reference: &ObjectReference) -> bool {
        let Some(uid) = reference.uid.clone() else { return true };
        let mut rates = lock(&self.rates);
        if rates.len() >= MAX_RATES && !rates.contains_key(&uid) {
            let first = rates.iter().min_by_key(|(_, settled)| **settled).map(|(uid, _)| uid.clone());
            if let Some(first) = first {
                rates.remove(&first);
            }
        }
        let now = Instant::now();
        let settled = rates.entry(uid).or_insert(now);
        let next = (*settled).max(now) + INTERVAL;
        let is_within = next <= now + INTERVAL * BURST;
        if is_within {
            *settled = next;
        }
        is_within
    }

    /// Whether these notes differ from those that were published last.
    pub(super) fn should_publish(
        &self,
        object: &DynamicObject,
        reason: &'static str,
        notes: &[String],
    ) -> bool {
        let mut published = lock(&self.published);
        let key = (object.uid().unwrap_or_default(), reason);
        if notes.is_empty() {
            published.remove(&key);
            return false;
        }
        let hash = hash_of(&notes);
        published.insert(key, hash) != Some(hash)
    }

    /// Queues an Event. Whether there was room for it.
    fn send(&self, reference: &ObjectReference, type_: EventType, reason: &str, mut note: String) -> bool {
        note.truncate(note.floor_char_boundary(NOTE_LIMIT));
        let event = Event {
            type_,
            reason: reason.into(),
            note: Some(note),
            action: "Inject".into(),
            secondary: None,
        };
        if !self.is_within_rate(reference) || !self.waiting.add(reference) {
            tracing::debug!(kind = reference.kind, name = reference.name, "too many Events, dropping one");
            return false;
        }
        // After the shutdown nothing is published.
        let is_sent = self.events.try_send((reference.clone(), event)).is_ok();
        if !is_sent {
            self.waiting.remove(reference);
        }
        is_sent
    }
}

/// The reference to a workload.
fn reference(kind: Kind, object: &DynamicObject) -> ObjectReference {
    object.object_ref(&resource(kind))
}

/// A line about the injection.
fn summary(template: &Value, evaluation: &Evaluation) -> String {
    let grace = &template["spec"]["terminationGracePeriodSeconds"];
    if template["metadata"]["annotations"].get(INJECTED).is_none() {
        return format!("the injection is reverted, grace period {grace} s");
    }
    let settings = &evaluation.resolution.settings;
    let [drain, shutdown] = [&settings.drain_seconds, &settings.shutdown_timeout_seconds];
    format!(
        "drain {} s ({}), shutdown timeout {} s ({}), grace period {grace} s",
        drain.value, drain.from, shutdown.value, shutdown.from
    )
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
