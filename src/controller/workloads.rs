//! Reconciles workloads: those of each kind are followed by a watch and brought to their plan.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, future::ready};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time},
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Resource as _, ResourceExt as _,
    core::DynamicObject,
    runtime::{
        Config, Controller, Predicate as _, WatchStreamExt as _, controller::Action, predicates, watcher,
    },
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    Context, budgets,
    keys::key,
    scheduling::{Reservation, reference},
    write,
};
use crate::{
    index::{
        cached::CachedWorkload,
        caches::hash_of,
        workloads::{Events, resource},
    },
    plan::{self, Evaluation, Kind, NamespaceContext, OptIn, RolloutTiming, Workload},
    runtime::metrics::{KindLabel, ReconcileLabels, ReconcileResult},
    scheduler::Request,
};

/// How many workloads of a kind are reconciled at a time: more make the API server no faster, and each takes
/// memory until it answers.
const AT_A_TIME: u16 = 16;
/// How long after a PodDisruptionBudget or a mark was refused the next attempt is made.
const REFUSED_WAIT: Duration = Duration::from_mins(1);

/// How long a blocked workload, which is offered no slot, waits before it asks for one again.
const BLOCKED_WAIT: Duration = Duration::from_secs(5);

/// After how long an entry in managedFields is a leftover of an interrupted write: as a rule the same write
/// has given it up, and the watch has yet to say so.
const LEFT_WAIT: Duration = Duration::from_secs(3);

/// Reconciles the workloads of one kind until `shutdown`.
pub(super) async fn control(kind: Kind, events: Events, context: Arc<Context>, shutdown: CancellationToken) {
    let store = context.caches.workloads().of(kind).clone();
    Controller::for_stream_with(changes(events), store, resource(kind))
        .with_config(Config::default().concurrency(AT_A_TIME))
        .reconcile_on(context.index.changed_workloads(kind).stream(Duration::ZERO).map(|key| reference(&key)))
        .reconcile_all_on(context.permissions())
        .reconcile_on(context.scheduling.runnable(kind))
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(
            move |object, context| reconcile_guarded(kind, object, context),
            move |kept, error, context| retry(kind, &kept, error, &context),
            context,
        )
        .for_each(|_| ready(()))
        .await;
}

/// What may change a plan: status alone doesn't, and the scheduler requeues a workload that waits.
fn changes(
    events: impl Stream<Item = Result<CachedWorkload, watcher::Error>>,
) -> impl Stream<Item = Result<CachedWorkload, watcher::Error>> {
    // A controller may let go what it owns.
    let controlled = |kept: &CachedWorkload| {
        let mut owners = kept.meta().owner_references.iter().flatten();
        Some(u64::from(owners.any(|owner| owner.controller == Some(true))))
    };
    let properties = predicates::generation.combine(predicates::annotations).combine(controlled);
    events.predicate_filter(properties, kube::runtime::PredicateConfig::default())
}

/// Reconciles a workload. A panic is a failed attempt.
async fn reconcile_guarded(
    kind: Kind,
    kept: Arc<CachedWorkload>,
    context: Arc<Context>,
) -> Result<Action, write::Error> {
    let reconciled = Box::pin(reconcile(kind, kept.clone(), context.clone()));
    context
        .guarded(reconciled)
        .await
        .unwrap_or_else(|panic| Err(write::Error::new(kind, &kept.object(), panic)))
}

async fn reconcile(
    kind: Kind,
    kept: Arc<CachedWorkload>,
    context: Arc<Context>,
) -> Result<Action, write::Error> {
    if !context.writes() || kept.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let _room = context.trees.room_for(&kept).await;
    let object = kept.object();
    if kept.too_large().is_some() {
        // What is there of it isn't all that there is: nothing of it is written.
        context.unblock(&key(kind, &object));
        return Ok(Action::await_change());
    }
    let action = look_after(kind, &object, &context).await?;
    context.blocked.went_well(&key(kind, &object));
    Ok(action)
}

async fn look_after(kind: Kind, object: &DynamicObject, context: &Context) -> Result<Action, write::Error> {
    let namespace = object.namespace().unwrap_or_default();
    if !context.caches.knows_policies_of(&namespace) {
        // The index tells once it is evaluated.
        return Ok(Action::await_change());
    }
    let namespace_context = context.caches.namespace_context(&namespace);
    let workload = Workload::of(kind, object);
    let evaluation = plan::evaluate(&workload, &namespace_context);
    let is_mentioned = evaluation.resolution.opt_in != OptIn::Unmentioned;
    if !is_mentioned && context.caches.unusable().has_policy_of(&namespace) {
        // The policy that manages it may be the one that can't be read: what it has stays.
        let waits = evaluation.template.is_some();
        return Ok(if waits { Action::requeue(REFUSED_WAIT) } else { Action::await_change() });
    }
    context.outbox.degraded(kind, object, &evaluation);
    let action = bring_to_plan(kind, object, context, &evaluation, &namespace_context).await?;
    let kept = budgets::keep(&context.client, &context.caches, kind, object, &evaluation);
    let Some(kept) = context.write(kept).await else { return Ok(Action::await_change()) };
    let kept = kept.map_err(|source| write::Error::new(kind, object, source));
    let refused = kept.as_ref().is_err_and(write::Error::is_refusal);
    context.outbox.budget_refused(kind, object, kept.as_ref().err().filter(|_| refused));
    let looks_again = action != Action::await_change();
    if refused {
        return Ok(Action::requeue(REFUSED_WAIT));
    }
    kept?;
    // From here on the version changes that a write goes by.
    let marks = plan::marks(&workload, &evaluation, &namespace_context);
    // The mark of a workload that waited goes with its template's change.
    let is_written = evaluation.template.is_some()
        && matches!(evaluation.timing, RolloutTiming::Immediate | RolloutTiming::Queued);
    if !marks.is_empty() && !is_written {
        return match context.write(write::mark(&context.client, kind, object, &marks)).await {
            Some(Err(error)) if error.is_refusal() => {
                tracing::warn!(%error, "not marked, so that its next update may pass the webhook by");
                Ok(Action::requeue(REFUSED_WAIT))
            }
            marked => marked.unwrap_or(Ok(())).map(|()| action),
        };
    }
    let left = object.metadata.managed_fields.iter().flatten().next().map(age);
    if left.is_some_and(|age| age >= LEFT_WAIT) {
        let given_up = context.write(write::give_up_leftovers(&context.client, kind, object)).await;
        given_up.unwrap_or(Ok(()))?;
    }
    Ok(if left.is_some() && !looks_again { Action::requeue(LEFT_WAIT) } else { action })
}

/// How long ago an entry of managedFields was written, or will be by a clock that goes wrong.
fn age(entry: &ManagedFieldsEntry) -> Duration {
    let written = entry.time.as_ref().map(|Time(written)| Timestamp::now().duration_since(*written));
    written.map_or(Duration::MAX, SignedDuration::unsigned_abs)
}

/// Writes the template, when it is time.
async fn bring_to_plan(
    kind: Kind,
    object: &DynamicObject,
    context: &Context,
    evaluation: &Evaluation,
    namespace_context: &NamespaceContext,
) -> Result<Action, write::Error> {
    let key = key(kind, object);
    let Some(planned) = &evaluation.template else {
        context.unblock(&key);
        context.blocked.settled(&key, &object.data["spec"]["template"]);
        context.count(kind, ReconcileResult::Unchanged);
        return Ok(Action::await_change());
    };
    match evaluation.timing {
        RolloutTiming::Immediate | RolloutTiming::Queued => {}
        RolloutTiming::DryRun => {
            context.unblock(&key);
            context.outbox.would_inject(kind, object, planned, evaluation);
            context.count(kind, ReconcileResult::Audit);
            return Ok(Action::await_change());
        }
        RolloutTiming::NextUpdate => {
            context.unblock(&key);
            context.count(kind, ReconcileResult::Waiting);
            return Ok(Action::await_change());
        }
    }
    if context.blocked.keeps_coming_back(&key, planned) {
        let reason = "what was injected keeps being changed back, and the webhook isn't asked: \
                      see that the API server reaches it, or opt the workload out where it is kept";
        return Ok(context.refuse(kind, object, reason.into(), ReconcileResult::Reverted));
    }
    let slot = if evaluation.timing == RolloutTiming::Queued {
        let request = Request {
            uid: object.metadata.uid.as_deref(),
            generation: object.metadata.generation.unwrap_or(0),
            plan: hash_of(planned),
        };
        let slot = context.scheduling.reserve(context, &key, request);
        if slot.is_none() {
            context.count(kind, ReconcileResult::Waiting);
            // The others are requeued when they may roll out.
            let blocked = context.blocked.is_blocked(&key);
            return Ok(if blocked { Action::requeue(BLOCKED_WAIT) } else { Action::await_change() });
        }
        slot
    } else {
        None
    };
    let written = match write_template(kind, object, context, planned, slot).await? {
        Ok(written) => written,
        Err(action) => return Ok(action),
    };
    context.while_leading(write::disown(&context.client, kind, &written)).await;
    let left = plan::evaluate(&Workload::of(kind, &written), namespace_context);
    if left.template.is_some() {
        let reason = "another admission webhook or policy undid the write";
        return Ok(context.refuse(kind, object, reason.into(), ReconcileResult::Reverted));
    }
    context.unblock(&key);
    context.blocked.wrote(key, planned, &written.data["spec"]["template"]);
    context.outbox.injected(kind, object, planned, evaluation);
    let (namespace, name) = (object.namespace(), object.name_any());
    tracing::info!(%kind, namespace, name, when = ?evaluation.timing, "brought to its plan");
    context.count(kind, ReconcileResult::Patched);
    Ok(Action::await_change())
}

/// Writes the template, and settles the slot by what came of that. The object as it was written, or what to do
/// if it wasn't.
async fn write_template(
    kind: Kind,
    object: &DynamicObject,
    context: &Context,
    planned: &Value,
    slot: Option<Reservation<'_>>,
) -> Result<Result<DynamicObject, Action>, write::Error> {
    // What may be written may have changed since it was decided.
    let written = context.write(write::template(&context.client, kind, object, planned)).await;
    match (&written, slot) {
        (Some(Ok(written)), Some(slot)) => slot.commit(written),
        // Its slot is kept until the watch tells.
        (Some(Err(error)), slot) if error.is_open() => drop(slot),
        (_, Some(slot)) => slot.release(),
        (_, None) => {}
    }
    let key = key(kind, object);
    let is_always_late = || context.blocked.is_blocked(&key) || context.blocked.conflicted(key.clone());
    match written {
        None => Ok(Err(Action::await_change())),
        Some(Err(error)) if !error.is_open() && error.is_refusal() => {
            Ok(Err(context.refuse(kind, object, error.to_string(), ReconcileResult::ApiError)))
        }
        Some(Err(error)) if error.is_conflict() && is_always_late() => {
            let reason = "another client writes it all the time: see which, by kubectl get -o yaml \
                          --show-managed-fields";
            Ok(Err(context.refuse(kind, object, reason.into(), ReconcileResult::ApiError)))
        }
        Some(written) => written.map(Ok),
    }
}

fn retry(kind: Kind, kept: &CachedWorkload, error: &write::Error, context: &Context) -> Action {
    // Of a conflict, somebody else's write, the watch tells as a rule.
    let conflicts = error.is_conflict();
    if !conflicts {
        tracing::warn!(%kind, %error, "not brought to its plan, trying again");
    }
    context.count(kind, if conflicts { ReconcileResult::Conflict } else { ReconcileResult::ApiError });
    Action::requeue(context.blocked.failed(key(kind, &kept.named())))
}

impl Context {
    /// Notes why a workload can't be written, and tries again later.
    fn refuse(&self, kind: Kind, object: &DynamicObject, reason: String, result: ReconcileResult) -> Action {
        self.count(kind, result);
        let (namespace, name) = (object.namespace(), object.name_any());
        tracing::warn!(%kind, namespace, name, reason, "not brought to its plan, trying again");
        Action::requeue(self.block(kind, object, reason))
    }

    fn count(&self, kind: Kind, result: ReconcileResult) {
        let labels = ReconcileLabels { kind: KindLabel(kind.as_str()), result };
        self.metrics.reconciles.get_or_create(&labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::{FutureExt as _, future::join_all, stream};
    use http::Method;
    use k8s_openapi::api::core::v1::ObjectReference;
    use serde_json::json;
    use tokio::{sync::watch, time::timeout};

    use super::*;
    use crate::{
        api::annotations::{ACCEPTED, PENDING},
        controller::test_support::commanded,
        disruption::test_support::{client, client_of_bodies, failure},
        index::{caches::Caches, unusable::Reason},
        runtime::{FIELD_MANAGER, client::LIMIT},
    };

    const DEPLOYMENT: Kind = Kind::Deployment;

    /// A Deployment whose rollout is complete.
    fn deployment(name: &str) -> DynamicObject {
        let counts =
            json!({"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "observedGeneration": 1});
        serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "shop", "uid": name, "generation": 1, "resourceVersion": "7"},
            "spec": {"replicas": 1, "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "web"}], "terminationGracePeriodSeconds": 30},
            }},
            "status": counts,
        }))
        .unwrap()
    }

    /// Who is as it shall be.
    fn opted_out() -> DynamicObject {
        let mut object = deployment("a");
        object.metadata.annotations = Some([("adieu.dev/graceful".into(), "false".into())].into());
        object
    }

    /// These, and a policy for all of them.
    fn caches(names: &[&str]) -> Caches {
        following(&json!({"maxConcurrent": 2}), names)
    }

    fn following(rollout: &Value, names: &[&str]) -> Caches {
        let policy = json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
            "metadata": {"name": "all", "namespace": "shop", "generation": 1},
            "spec": {"selector": {}, "rollout": rollout},
        });
        let workloads = names.iter().map(|name| (DEPLOYMENT, deployment(name))).collect();
        Caches::fixed(vec![serde_json::from_value(policy).unwrap()], vec![], workloads)
    }

    type Asked = Arc<Mutex<Vec<String>>>;

    /// A reconciler's context, with an API server that answers so, and what it was asked for.
    fn with(
        names: &[&str],
        answer: impl Fn(&Method) -> Option<(u16, Value)> + Send + 'static,
    ) -> (Arc<Context>, [watch::Sender<bool>; 2], Asked) {
        let asked = Asked::default();
        let requests = asked.clone();
        let client = client(move |method, target| {
            let name = target.split('?').next().and_then(|path| path.rsplit('/').next());
            requests.lock().unwrap().push(format!("{method} {}", name.unwrap_or_default()));
            answer(method)
        });
        let (context, senders) = commanded(client, caches(names), 10);
        (Arc::new(context), senders, asked)
    }

    async fn reconciled(context: &Arc<Context>, object: DynamicObject) -> Result<Action, write::Error> {
        reconcile(DEPLOYMENT, Arc::new(object.into()), context.clone()).await
    }

    #[tokio::test]
    async fn who_is_let_go_by_its_owner_is_looked_at() {
        let owned = |by: &[&str]| {
            let owners = by.iter().map(|uid| {
                json!({"apiVersion": "example/v1", "kind": "App", "name": "a", "uid": uid, "controller": true})
            });
            let mut object = deployment("a");
            object.metadata.owner_references =
                serde_json::from_value(owners.collect::<Vec<_>>().into()).unwrap();
            object
        };
        let mut later = owned(&[]);
        later.data["status"]["replicas"] = json!(3);
        let events = [owned(&["1"]), owned(&["1"]), owned(&[]), later].map(|object| Ok(object.into()));
        assert_eq!(changes(stream::iter(events)).count().await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_is_not_answered_keeps_nobody_from_his_turn() {
        let (context, _senders, asked) = with(&["a", "b"], |_| None);
        let both = ["a", "b"].map(|name| reconciled(&context, deployment(name)).boxed());
        let outcomes = timeout(3 * LIMIT, join_all(both)).await.expect("an end");
        for outcome in outcomes {
            let error = outcome.unwrap_err();
            assert!(error.to_string().contains("didn't answer within"), "{error}");
            assert!(!error.is_conflict() && !error.is_refusal());
        }
        assert_eq!(*asked.lock().unwrap(), ["PATCH a", "PATCH b"]);
    }

    #[tokio::test]
    async fn a_workload_that_is_not_written_gives_its_slot_back() {
        let (context, senders, asked) =
            with(&["a"], |_| Some((409, failure(409, "the object has been modified"))));
        let object = deployment("a");
        let around = context.caches.namespace_context("shop");
        let evaluation = plan::evaluate(&Workload::of(DEPLOYMENT, &object), &around);
        let plan = hash_of(&evaluation.template.unwrap());
        let request = Request { uid: object.metadata.uid.as_deref(), generation: 1, plan };
        let reserve = || context.scheduling.reserve(&context, &key(DEPLOYMENT, &object), request);
        assert!(reconciled(&context, object.clone()).await.unwrap_err().is_conflict());
        let slot = reserve().unwrap();
        assert!(reserve().is_none());
        slot.release();
        // Paused, it is not even asked for.
        senders[1].send_replace(true);
        assert_eq!(reconciled(&context, object.clone()).await.unwrap(), Action::await_change());
        assert_eq!(*asked.lock().unwrap(), ["PATCH a"]);
        assert!(reserve().is_some());
    }

    #[tokio::test]
    async fn what_was_left_and_cannot_be_given_up_keeps_nobody_from_its_plan() {
        let written = {
            let (object, around) = (deployment("a"), caches(&["a"]).namespace_context("shop"));
            let template = plan::evaluate(&Workload::of(DEPLOYMENT, &object), &around).template;
            let mut written = serde_json::to_value(object).unwrap();
            written["spec"]["template"] = template.unwrap();
            written
        };
        let (context, _senders, asked) = with(&["a"], move |method| match *method {
            Method::PATCH => Some((200, written.clone())),
            _ => Some((403, failure(403, "forbidden"))),
        });
        let mut object = deployment("a");
        let left = json!([{"manager": FIELD_MANAGER, "operation": "Update", "time": "2026-01-01T00:00:00Z"}]);
        object.metadata.managed_fields = serde_json::from_value(left).unwrap();
        let error = reconciled(&context, object).await.unwrap_err();
        assert!(error.is_refusal(), "{error}");
        assert_eq!(*asked.lock().unwrap(), ["PATCH a", "GET a"]);
    }

    #[tokio::test]
    async fn who_is_in_a_namespace_that_is_not_known_yet_is_left_and_holds_up_nobody() {
        let policy = json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy", "metadata": {"name": "all"},
            "spec": {
                "selector": {}, "rollout": {"maxConcurrent": 1},
                "namespaceSelector": {"matchExpressions": [
                    {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["bank"]},
                ]},
            },
        });
        let (mut excluded, included) = (deployment("a"), deployment("b"));
        excluded.metadata.namespace = Some("bank".into());
        let shop = json!({"metadata": {"name": "shop", "labels": {"kubernetes.io/metadata.name": "shop"}}});
        let workloads = [&excluded, &included].map(|object| (DEPLOYMENT, object.clone()));
        let caches = Caches::fixed(vec![], vec![], workloads.into())
            .with_cluster_policies(vec![serde_json::from_value(policy).unwrap()])
            .with_namespaces(vec![serde_json::from_value(shop).unwrap()]);
        let asked = Asked::default();
        let requests = asked.clone();
        let client = client(move |method, target| {
            requests.lock().unwrap().push(format!("{method} {target}"));
            Some((409, failure(409, "the object has been modified")))
        });
        let (context, _senders) = commanded(client, caches, 10);
        let context = Arc::new(context);
        // Of its own accord it wouldn't wait for a turn, but have what the policy says.
        excluded.metadata.annotations = Some([("adieu.dev/graceful".into(), "true".into())].into());
        assert_eq!(reconciled(&context, excluded).await.unwrap(), Action::await_change());
        assert!(asked.lock().unwrap().is_empty());
        assert!(reconciled(&context, included).await.unwrap_err().is_conflict());
    }

    #[tokio::test]
    async fn who_waits_for_the_next_update_is_marked_once() {
        let object = |annotations: &[&str]| {
            let mut object = deployment("a");
            let annotations = annotations.iter().map(|key| ((*key).to_owned(), "true".to_owned()));
            object.metadata.annotations = Some(annotations.collect());
            object
        };
        let labelled = |label: &str| {
            let labels = json!({"adieu.dev/injection": label});
            let namespace = json!({"metadata": {"name": "shop", "labels": labels}});
            let namespaces = vec![serde_json::from_value(namespace).unwrap()];
            following(&json!({"mode": "NextUpdate"}), &["a"]).with_namespaces(namespaces)
        };
        let waiting = || labelled("disabled");
        let nobody = || Caches::fixed(vec![], vec![], vec![]);
        for (caches, annotations, written) in [
            (waiting(), &[][..], true),
            (waiting(), &[PENDING], false),
            // It meets the webhook anyway.
            (waiting(), &["adieu.dev/drain-seconds"], false),
            (labelled("enabled"), &[], false),
            // Nobody manages it any more.
            (nobody(), &[PENDING], true),
            (nobody(), &[], false),
        ] {
            let asked = Asked::default();
            let requests = asked.clone();
            let client = client(move |method, _| {
                requests.lock().unwrap().push(method.to_string());
                Some((200, serde_json::to_value(deployment("a")).unwrap()))
            });
            let (context, _senders) = commanded(client, caches, 1);
            reconciled(&Arc::new(context), object(annotations)).await.unwrap();
            assert_eq!(*asked.lock().unwrap() == ["PATCH"], written, "{annotations:?}");
        }
    }

    #[tokio::test]
    async fn an_unmanaged_workload_keeps_what_it_has_while_a_policy_can_not_be_read() {
        for (readable, annotation, written) in
            [(true, None, true), (false, None, false), (false, Some("false"), true)]
        {
            let asked = Asked::default();
            let requests = asked.clone();
            let client = client(move |method, _| {
                requests.lock().unwrap().push(method.to_string());
                Some((200, serde_json::to_value(deployment("a")).unwrap()))
            });
            let (context, _senders) = commanded(client, Caches::fixed(vec![], vec![], vec![]), 1);
            let annotated = |value: &str| Some([("adieu.dev/graceful".into(), value.into())].into());
            let mut injected = deployment("a");
            injected.metadata.annotations = annotated("true");
            let namespace_context = context.caches.namespace_context("shop");
            let evaluation = plan::evaluate(&Workload::of(DEPLOYMENT, &injected), &namespace_context);
            injected.data["spec"]["template"] = evaluation.template.unwrap();
            injected.metadata.annotations = annotation.and_then(annotated);
            if !readable {
                let policy = ObjectReference { namespace: Some("shop".into()), ..ObjectReference::default() };
                let unusable = context.caches.unusable();
                unusable.add("GracefulPolicy", policy, Reason::Undecodable("spec".into()));
            }
            reconciled(&Arc::new(context), injected).await.unwrap();
            assert_eq!(!asked.lock().unwrap().is_empty(), written);
        }
    }

    #[tokio::test]
    async fn a_stub_of_a_workload_is_never_written() {
        let (context, _senders, asked) = with(&["a"], |_| None);
        let mut large = deployment("a");
        large.data["spec"]["template"]["spec"]["containers"][0]["env"] =
            vec![json!({"name": "A"}); 10_000].into();
        let stub = CachedWorkload::from(large).stub("too large");
        assert!(stub.too_large().is_some());
        assert_eq!(reconcile(DEPLOYMENT, Arc::new(stub), context).await.unwrap(), Action::await_change());
        assert!(asked.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_was_accepted_is_written_on_the_workload_once() {
        let probing = |mode: &str| {
            let policy = json!({
                "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
                "metadata": {"name": "all", "namespace": "shop"},
                "spec": {"selector": {}, "readinessProbe": {"mode": mode}},
            });
            let policies = vec![serde_json::from_value(policy).unwrap()];
            Caches::fixed(policies, vec![], vec![(DEPLOYMENT, deployment("a"))])
        };
        let mut object = deployment("a");
        let before = probing("Never").namespace_context("shop");
        object.data["spec"]["template"] =
            plan::evaluate(&Workload::of(DEPLOYMENT, &object), &before).template.unwrap();
        let written: Arc<Mutex<Vec<Value>>> = Arc::default();
        for (mode, expected) in [("Never", 0), ("Auto", 1), ("Auto", 1)] {
            let (bodies, answer) = (written.clone(), serde_json::to_value(&object).unwrap());
            let client = client_of_bodies(move |_, _, body| {
                bodies.lock().unwrap().push(serde_json::from_slice(body).unwrap());
                Some((200, answer.clone()))
            });
            let (context, _senders) = commanded(client, probing(mode), 1);
            reconciled(&Arc::new(context), object.clone()).await.unwrap();
            let written = written.lock().unwrap();
            assert_eq!(written.len(), expected, "{mode}: {written:?}");
            if let Some(patch) = written.last() {
                assert_eq!(patch["metadata"]["resourceVersion"], "7");
                let annotations = serde_json::from_value(patch["metadata"]["annotations"].clone()).unwrap();
                object.metadata.annotations = annotations;
            }
        }
        assert!(object.metadata.annotations.unwrap().contains_key(ACCEPTED));
    }

    #[tokio::test]
    async fn who_is_not_to_be_written_any_more_is_not_blocked() {
        for spec in [
            json!({"selector": {}, "mode": "Audit"}),
            json!({"selector": {}, "rollout": {"mode": "NextUpdate"}}),
        ] {
            let policy = json!({
                "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
                "metadata": {"name": "all", "namespace": "shop"}, "spec": spec,
            });
            let policies = vec![serde_json::from_value(policy).unwrap()];
            let caches = Caches::fixed(policies, vec![], vec![(DEPLOYMENT, deployment("a"))]);
            let answer = serde_json::to_value(deployment("a")).unwrap();
            let (context, _senders) = commanded(client(move |_, _| Some((200, answer.clone()))), caches, 1);
            let key = key(DEPLOYMENT, &deployment("a"));
            let _ = context.blocked.note(key.clone(), "refused".into());
            let context = Arc::new(context);
            reconciled(&context, deployment("a")).await.unwrap();
            assert!(!context.blocked.is_blocked(&key), "{spec}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_blocked_workload_that_finds_no_room_asks_again() {
        let names = ["a", "b"];
        let caches = following(&json!({"maxConcurrent": 1}), &names);
        let (context, _senders) = commanded(client(|_, _| None), caches, 10);
        let b = deployment("b");
        let around = context.caches.namespace_context("shop");
        let plan = hash_of(&plan::evaluate(&Workload::of(DEPLOYMENT, &b), &around).template.unwrap());
        let _ = context.block(DEPLOYMENT, &deployment("a"), "refused".into());
        let request = Request { uid: b.metadata.uid.as_deref(), generation: 1, plan };
        let turn = context.scheduling.reserve(&context, &key(DEPLOYMENT, &b), request).unwrap();
        let mut written = b.clone();
        written.metadata.generation = Some(2);
        turn.commit(&written);
        let context = Arc::new(context);
        assert_eq!(reconciled(&context, deployment("a")).await.unwrap(), Action::requeue(BLOCKED_WAIT));
    }

    #[tokio::test]
    async fn who_fails_again_and_again_is_tried_ever_more_rarely_until_it_goes_well() {
        let (context, _senders, _) = with(&[], |_| None);
        let source = || kube::Error::Service("the network is away".into());
        let fail = || {
            let object = deployment("a");
            let error = write::Error::new(DEPLOYMENT, &object, source());
            retry(DEPLOYMENT, &object.into(), &error, &context)
        };
        for _ in 0..10 {
            fail();
        }
        let key = key(DEPLOYMENT, &deployment("a"));
        assert!(context.blocked.failed(key.clone()) >= Duration::from_secs(20), "with jitter, of 30 s");
        assert!(!context.blocked.is_blocked(&key), "the network is away for all");
        reconciled(&context, opted_out()).await.unwrap();
        assert!(context.blocked.failed(key) < Duration::from_secs(2));
    }

    #[tokio::test]
    async fn who_is_written_by_somebody_else_all_the_time_is_blocked_until_it_goes_well() {
        let conflict = |_: &Method| Some((409, failure(409, "the object has been modified")));
        let (context, _senders, _) = with(&["a"], conflict);
        let key = key(DEPLOYMENT, &deployment("a"));
        let mut attempts = 0;
        while let Err(error) = reconciled(&context, deployment("a")).await {
            retry(DEPLOYMENT, &deployment("a").into(), &error, &context);
            assert!(!context.blocked.is_blocked(&key));
            attempts += 1;
        }
        assert!(attempts > 5, "{attempts}");
        assert!(context.blocked.reason(&key).unwrap().contains("all the time"));
        let again = reconciled(&context, deployment("a")).await;
        assert_eq!(again.unwrap(), Action::requeue(Duration::from_secs(20)), "more and more rarely");
        reconciled(&context, opted_out()).await.unwrap();
        assert!(!context.blocked.is_blocked(&key));
    }
}
