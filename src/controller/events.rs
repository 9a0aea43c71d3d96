//! Events on the workloads that the controller brought to their plan.

use std::{
    collections::HashMap,
    slice,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource as _, ResourceExt as _,
    core::DynamicObject,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::Value;
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    api::annotations::INJECTED,
    index::{caches::hash_of, unusable::Reason, workloads::resource},
    plan::{Evaluation, Kind},
};

/// The longest note that the events API takes, in bytes.
const NOTE_LIMIT: usize = 1024;

/// How long who ends publishes what is left.
const LAST: Duration = Duration::from_secs(2);

/// How many events may wait to be published, in all and of one namespace: one in which thousands of objects change
/// all the time leaves room to others. What comes beyond that is left out.
const WAITING: usize = 2000;
const WAITING_OF_NAMESPACE: usize = 400;
/// How many warnings of a workload are published.
const WARNINGS: usize = 8;

/// What is to be published. Events go out one after the other, so that workloads, which are written several at
/// a time, come first where there are thousands.
pub(super) struct Outbox {
    events: mpsc::Sender<(ObjectReference, Event)>,
    waiting: Waiting,
    /// What stays true was said already: notes as hashes, by the workloads' uids and the reason.
    told: Mutex<HashMap<(String, &'static str), u64>>,
}

/// How many events of each namespace wait to be published.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<HashMap<String, usize>>>);

impl Waiting {
    /// Whether there is room for another event on that object.
    fn add(&self, object: &ObjectReference) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(object.namespace.clone().unwrap_or_default()).or_default();
        let has_room = *count < WAITING_OF_NAMESPACE;
        *count += usize::from(has_room);
        has_room
    }

    fn remove(&self, object: &ObjectReference) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let namespace = object.namespace.clone().unwrap_or_default();
        match counts.get_mut(&namespace) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&namespace)),
        }
    }
}

/// An outbox, and what publishes from it: until nobody puts anything in any more, or shortly after `shutdown`.
pub(super) fn outbox(
    client: Client,
    reporter: Reporter,
    shutdown: CancellationToken,
) -> (Outbox, impl Future<Output = ()> + Send) {
    let (sender, mut events) = mpsc::channel::<(ObjectReference, Event)>(WAITING);
    let waiting = Waiting::default();
    let counts = waiting.clone();
    let publish = async move {
        while let Some((reference, event)) = events.recv().await {
            counts.remove(&reference);
            // One that is kept takes a later event of the same reason for a repetition, and drops its note.
            let recorder = Recorder::new(client.clone(), reporter.clone());
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
    (Outbox { events: sender, waiting, told: Mutex::default() }, work)
}

impl Outbox {
    /// Tells what was injected or taken back, and what a person should know.
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
        self.publish(kind, object, EventType::Normal, reason, note);
    }

    /// Warns of what a person should know of a workload, once until it is something else.
    pub(super) fn degraded(&self, kind: Kind, object: &DynamicObject, evaluation: &Evaluation) {
        let warnings = &evaluation.warnings;
        if self.is_news(object, "Degraded", warnings) {
            let others = warnings.len().saturating_sub(WARNINGS);
            let others = (others > 0).then(|| format!("warnings that are not shown: {others}"));
            let mut notes = warnings.iter().take(WARNINGS).cloned().chain(others);
            if !notes.all(|note| self.publish(kind, object, EventType::Warning, "Degraded", note)) {
                self.forget(object, "Degraded");
            }
        }
    }

    /// Tells what a policy in mode `Audit` would do, once until it is something else.
    pub(super) fn would_inject(
        &self,
        kind: Kind,
        object: &DynamicObject,
        template: &Value,
        evaluation: &Evaluation,
    ) {
        let note = format!(
            "nothing is changed, because the policy has the mode Audit ({}); it would be: {}",
            evaluation.resolution.settings.mode.from,
            summary(template, evaluation)
        );
        if self.is_news(object, "WouldInject", slice::from_ref(&note))
            && !self.publish(kind, object, EventType::Normal, "WouldInject", note)
        {
            self.forget(object, "WouldInject");
        }
    }

    /// Tells why a workload isn't brought to its plan.
    pub(super) fn blocked(&self, kind: Kind, object: &DynamicObject, reason: String) {
        self.publish(kind, object, EventType::Warning, "Blocked", reason);
    }

    /// Tells why a workload has no `PodDisruptionBudget`, once until that is something else.
    pub(super) fn budget_refused(&self, kind: Kind, object: &DynamicObject, error: Option<&impl ToString>) {
        let refused = error.map(ToString::to_string);
        let is_news = self.is_news(object, "Blocked", refused.as_slice());
        if let Some(note) = refused.filter(|_| is_news)
            && !self.publish(kind, object, EventType::Warning, "Blocked", note)
        {
            self.forget(object, "Blocked");
        }
    }

    /// Tells that no workload rolls out for a policy any more, because one failed.
    pub(super) fn stalled(&self, policy: &ObjectReference, reason: String) {
        self.send(policy, EventType::Warning, "Stalled", reason);
    }

    /// Warns of an object that can't be used.
    pub(super) fn unusable(&self, object: &ObjectReference, reason: &Reason) {
        let kind = Kind::from_gvk("apps", "v1", object.kind.as_deref().unwrap_or_default());
        let note = match (kind, reason) {
            (Some(_), Reason::TooLarge(_)) => {
                format!("nothing is injected into this workload if it is opted in: {reason}")
            }
            _ => format!("adieu ignores this object: {reason}"),
        };
        self.send(object, EventType::Warning, reason.name(), note);
    }

    /// Keeps nothing of workloads that are gone; by their uids.
    pub(super) fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.told().retain(|(uid, _), _| exists(uid));
    }

    /// Whether that wasn't told the last time.
    pub(super) fn is_news(&self, object: &DynamicObject, reason: &'static str, notes: &[String]) -> bool {
        let mut told = self.told();
        let key = (object.uid().unwrap_or_default(), reason);
        if notes.is_empty() {
            told.remove(&key);
            return false;
        }
        let hash = hash_of(&notes);
        told.insert(key, hash) != Some(hash)
    }

    /// An Event that was left out is published with the next attempt.
    fn forget(&self, object: &DynamicObject, reason: &'static str) {
        self.told().remove(&(object.uid().unwrap_or_default(), reason));
    }

    fn told(&self) -> MutexGuard<'_, HashMap<(String, &'static str), u64>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(
        &self,
        kind: Kind,
        object: &DynamicObject,
        type_: EventType,
        reason: &str,
        note: String,
    ) -> bool {
        self.send(&object.object_ref(&resource(kind)), type_, reason, note)
    }

    /// Whether there was room for it.
    fn send(&self, reference: &ObjectReference, type_: EventType, reason: &str, mut note: String) -> bool {
        note.truncate(note.floor_char_boundary(NOTE_LIMIT));
        let event = Event {
            type_,
            reason: reason.into(),
            note: Some(note),
            action: "Inject".into(),
            secondary: None,
        };
        if !self.waiting.add(reference) {
            tracing::debug!(kind = reference.kind, name = reference.name, "too many events: left out");
            return false;
        }
        // Where nobody publishes any more, this is the end.
        let is_sent = self.events.try_send((reference.clone(), event)).is_ok();
        if !is_sent {
            self.waiting.remove(reference);
        }
        is_sent
    }
}

/// What is injected, in a line.
fn summary(template: &Value, evaluation: &Evaluation) -> String {
    let grace = &template["spec"]["terminationGracePeriodSeconds"];
    if template["metadata"]["annotations"].get(INJECTED).is_none() {
        return format!("what was injected is taken back, grace period {grace} s");
    }
    let settings = &evaluation.resolution.settings;
    let [drain, shutdown] = [&settings.drain_seconds, &settings.shutdown_timeout_seconds];
    format!(
        "drain {} s ({}), shutdown timeout {} s ({}), grace period {grace} s",
        drain.value, drain.from, shutdown.value, shutdown.from
    )
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use http::{Request, Response};
    use http_body_util::BodyExt as _;
    use kube::client::Body;
    use tokio::time::{Instant, timeout};
    use tower::service_fn;

    use super::*;

    fn reporter() -> Reporter {
        Reporter { controller: "adieu".into(), instance: None }
    }

    #[tokio::test]
    async fn what_is_in_the_outbox_goes_out_in_its_order_before_it_ends() {
        let sent: Arc<Mutex<Vec<Value>>> = Arc::default();
        let events = sent.clone();
        let server = service_fn(move |request: Request<Body>| {
            let events = events.clone();
            async move {
                let event = request.into_body().collect().await.unwrap().to_bytes();
                events.lock().unwrap().push(serde_json::from_slice(&event).unwrap());
                Ok::<_, Infallible>(Response::new(Body::from(event)))
            }
        });
        let (outbox, publishing) =
            outbox(Client::new(server, "default"), reporter(), CancellationToken::new());
        let policy = ObjectReference { name: Some("all".into()), ..ObjectReference::default() };
        for note in ["first", "second"] {
            outbox.stalled(&policy, note.into());
        }
        drop(outbox);
        publishing.await;
        let sent = sent.lock().unwrap();
        let notes: Vec<_> = sent.iter().map(|event| event["note"].as_str().unwrap()).collect();
        assert_eq!(notes, ["first", "second"]);
    }

    #[tokio::test]
    async fn one_namespace_leaves_room_for_the_events_of_others() {
        let server = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
        let (outbox, _publishing) =
            outbox(Client::new(server, "default"), reporter(), CancellationToken::new());
        let policy =
            |namespace: &str| ObjectReference { namespace: Some(namespace.into()), ..Default::default() };
        for _ in 0..2 * WAITING {
            outbox.stalled(&policy("greedy"), "a reason".into());
        }
        assert_eq!(WAITING - outbox.events.capacity(), WAITING_OF_NAMESPACE);
        outbox.stalled(&policy("shop"), "a reason".into());
        assert_eq!(WAITING - outbox.events.capacity(), WAITING_OF_NAMESPACE + 1);
        for number in 0..WAITING {
            outbox.stalled(&policy(&number.to_string()), "a reason".into());
        }
        assert_eq!(outbox.events.capacity(), 0);
        let counts = outbox.waiting.0.lock().unwrap();
        assert_eq!(counts.values().sum::<usize>(), WAITING);
    }

    #[tokio::test]
    async fn of_a_thousand_warnings_a_few_are_published() {
        let server = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
        let (outbox, _publishing) =
            outbox(Client::new(server, "default"), reporter(), CancellationToken::new());
        let annotations: serde_json::Map<_, _> =
            (0..1000).map(|n| (format!("adieu.dev/{n}"), "".into())).collect();
        let containers: Vec<_> = (0..1000)
            .map(|n| serde_json::json!({"name": n.to_string(), "lifecycle": {"preStop": {"exec": {"command": ["x"]}}}}))
            .collect();
        let object = serde_json::json!({
            "metadata": {"name": "web", "uid": "1", "annotations": annotations},
            "spec": {"template": {"spec": {"containers": containers}}},
        });
        let mut object: DynamicObject = serde_json::from_value(object).unwrap();
        object.annotations_mut().insert("adieu.dev/graceful".into(), "true".into());
        let workload = crate::plan::Workload::of(Kind::Deployment, &object);
        let evaluation = crate::plan::evaluate(&workload, &crate::plan::NamespaceContext::default());
        assert!(evaluation.warnings.len() > 1000);
        outbox.degraded(Kind::Deployment, &object, &evaluation);
        assert_eq!(WAITING - outbox.events.capacity(), WARNINGS + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_does_not_answer_holds_up_nobody_who_ends() {
        let server = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
        let shutdown = CancellationToken::new();
        let (outbox, publishing) = outbox(Client::new(server, "default"), reporter(), shutdown.clone());
        outbox.stalled(&ObjectReference::default(), "a reason".into());
        shutdown.cancel();
        let ended = Instant::now();
        timeout(2 * LAST, publishing).await.expect("an end");
        assert_eq!(ended.elapsed(), LAST);
    }

    #[tokio::test]
    async fn what_stays_true_is_told_once() {
        let server = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
        let (outbox, _) = outbox(Client::new(server, "default"), reporter(), CancellationToken::new());
        let metadata = serde_json::json!({"metadata": {"name": "web", "uid": "1"}});
        let object = serde_json::from_value(metadata).unwrap();
        let is_news = |reason, notes: &[&str]| {
            outbox.is_news(&object, reason, &notes.iter().map(|note| (*note).into()).collect::<Vec<_>>())
        };
        assert!(is_news("Degraded", &["a", "b"]) && !is_news("Degraded", &["a", "b"]));
        assert!(is_news("WouldInject", &["a", "b"]) && !is_news("Degraded", &["a", "b"]), "of each reason");
        assert!(is_news("Degraded", &["b"]) && !is_news("Degraded", &[]) && is_news("Degraded", &["b"]));
    }
}
