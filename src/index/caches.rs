//! What the API server holds and every decision needs: policies and Services, followed by watches, with
//! nothing kept that isn't used.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    future::pending,
    hash::{DefaultHasher, Hash, Hasher as _},
    mem::replace,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Service},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    Client, Resource, ResourceExt as _,
    core::DynamicObject,
    runtime::{
        WatchStreamExt as _,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    changes::{Changes, Dirty},
    kubelets,
    list_watch::{Source, list_watch},
    namespaced::{Namespaced, NamespacedWriter, namespaced},
    quota::Shares,
    slim::Watched,
    unusable::UnusableObjects,
    workloads::{Workloads, soon},
};
use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy, labels::is_enabled},
    plan::{self, Kind, NamespaceContext},
    runtime::FIELD_MANAGER,
};

/// How long after a kind was found missing it is looked for again.
const MISSING_WAIT: Duration = Duration::from_secs(5);

/// What every decision needs to know of the cluster.
#[derive(Clone, Debug)]
pub struct Caches {
    policies: Namespaced<GracefulPolicy>,
    cluster_policies: Namespaced<ClusterGracefulPolicy>,
    services: Namespaced<Service>,
    namespaces: Namespaced<Namespace>,
    budgets: Namespaced<PodDisruptionBudget>,
    workloads: Workloads,
    native_sleep: watch::Receiver<Option<bool>>,
    policies_changed: watch::Receiver<()>,
    budgets_changed: Changes<Option<String>>,
    synced: watch::Receiver<bool>,
    missing: Missing,
    unusable: UnusableObjects,
}

/// How many kinds the API server doesn't know any more.
#[derive(Clone, Debug, Default)]
struct Missing(Arc<watch::Sender<usize>>);

impl Caches {
    /// The caches, and the task that keeps them; it never ends. `workloads` are kept by who polls their
    /// watches. Objects that can't be used are in `unusable`.
    pub fn follow(
        client: &Client,
        workloads: Workloads,
        unusable: &UnusableObjects,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (policies, policy_writer) = namespaced();
        let (cluster_policies, cluster_policy_writer) = namespaced();
        let (services, service_writer) = namespaced();
        let (namespaces, namespace_writer) = namespaced();
        let (budgets, budget_writer) = namespaced();
        let (native_sleep, native_sleep_known) = watch::channel(None);
        let (changed, policies_changed) = watch::channel(());
        let (filled, synced) = watch::channel(false);
        let caches = Self {
            policies,
            cluster_policies,
            services,
            namespaces,
            budgets,
            workloads,
            native_sleep: native_sleep_known,
            policies_changed,
            budgets_changed: Changes::default(),
            synced,
            missing: Missing::default(),
            unusable: unusable.clone(),
        };
        let missing = || caches.missing.clone();
        let dirty = caches.dirty();
        // Both a new policy and a namespace's new label can alter settings.
        let of_namespace = || {
            let (changed, dirty) = (changed.clone(), dirty.clone());
            move |namespace: Option<&str>| {
                changed.send_replace(());
                namespace.map_or_else(|| dirty.all(), |namespace| dirty.namespace(namespace));
            }
        };
        let of_cluster = {
            let (changed, dirty) = (changed.clone(), dirty.clone());
            move |_: Option<&str>| {
                changed.send_replace(());
                dirty.all();
            }
        };
        let of_service = {
            let dirty = dirty.clone();
            move |namespace: Option<&str>| {
                namespace.map_or_else(|| dirty.all(), |namespace| dirty.namespace(namespace));
            }
        };
        let from = (client, unusable);
        let stores = (
            follow(from, policy_writer, spec, missing(), of_namespace()),
            follow(from, cluster_policy_writer, spec, missing(), of_cluster),
            follow(from, service_writer, service_spec, missing(), of_service),
            follow(from, namespace_writer, labels, missing(), of_namespace()),
            follow(from, budget_writer, decisive_spec(caches.budgets.clone()), missing(), {
                let changed = caches.budgets_changed.clone();
                move |namespace: Option<&str>| changed.add(namespace.map(Into::into))
            }),
        );
        let kubelets = kubelets::follow(client.clone(), native_sleep);
        let mut native_sleep = caches.native_sleep.clone();
        let native_sleep_changed = async move {
            while native_sleep.changed().await.is_ok() {
                dirty.all();
            }
        };
        let mut waiting = caches.clone();
        let fill = async move {
            if waiting.filled().await {
                filled.send_replace(true);
            }
            // Keeps the sender for as long as the caches are kept.
            pending::<()>().await;
        };
        let task = async {
            tokio::join!(stores.0, stores.1, stores.2, stores.3, stores.4);
        };
        let task = async {
            tokio::join!(task, kubelets, native_sleep_changed, fill);
        };
        (caches, task)
    }

    /// Caches with fixed content, for tests of what reads them.
    #[must_use]
    pub fn fixed(
        policies: Vec<GracefulPolicy>,
        services: Vec<Service>,
        workloads: Vec<(Kind, DynamicObject)>,
    ) -> Self {
        Self {
            policies: fixed(policies),
            cluster_policies: fixed(vec![]),
            services: fixed(services),
            namespaces: fixed(vec![]),
            budgets: fixed(vec![]),
            workloads: Workloads::fixed(workloads),
            native_sleep: watch::channel(Some(true)).1,
            policies_changed: watch::channel(()).1,
            budgets_changed: Changes::default(),
            synced: watch::channel(true).1,
            missing: Missing::default(),
            unusable: UnusableObjects::default(),
        }
    }

    /// The same with these cluster policies.
    #[must_use]
    pub fn with_cluster_policies(self, policies: Vec<ClusterGracefulPolicy>) -> Self {
        Self { cluster_policies: fixed(policies), ..self }
    }

    /// The same with these namespaces.
    #[must_use]
    pub fn with_namespaces(self, namespaces: Vec<Namespace>) -> Self {
        Self { namespaces: fixed(namespaces), ..self }
    }

    /// What has to be evaluated anew.
    #[must_use]
    pub fn dirty(&self) -> Dirty {
        self.workloads.dirty().clone()
    }

    /// The workloads of the cluster.
    #[must_use]
    pub fn workloads(&self) -> &Workloads {
        &self.workloads
    }

    /// Returns when everything but the workloads has been filled for the first time.
    ///
    /// # Errors
    /// Where the task that keeps the caches is gone.
    pub async fn synced(&self) -> Result<(), watch::error::RecvError> {
        self.synced.clone().wait_for(|synced| *synced).await.map(drop)
    }

    /// Whether everything but the workloads has been filled, or is within `limit`.
    pub async fn synced_within(&self, limit: Duration) -> bool {
        *self.synced.borrow() || timeout(limit, self.synced()).await.is_ok_and(|synced| synced.is_ok())
    }

    /// Whether the API server still serves the kinds that were filled in. With a CRD all its policies go, which is
    /// nobody's wish for every workload.
    #[must_use]
    pub fn is_served(&self) -> bool {
        *self.missing.0.borrow() == 0
    }

    /// An item whenever a kind ceases to be served, or is served again.
    pub fn served_changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        changes(self.missing.0.subscribe())
    }

    /// The same without having been filled, which nobody does any more.
    #[must_use]
    pub fn unfilled(self) -> Self {
        Self { synced: watch::channel(false).1, workloads: self.workloads.unfilled(), ..self }
    }

    /// The same of an API server that doesn't serve a kind of policy.
    #[cfg(test)]
    pub(crate) fn unserved(self) -> Self {
        Self { missing: Missing(Arc::new(watch::Sender::new(1))), ..self }
    }

    /// The same with watches that may yet bring something, for as long as the senders are kept.
    #[cfg(test)]
    pub(crate) fn with_watches(self) -> (Self, [watch::Sender<()>; 2]) {
        let (of_policies, policies_changed) = watch::channel(());
        let (of_workloads, changed) = watch::channel(());
        let workloads = self.workloads.with_changes(changed);
        (Self { workloads, policies_changed, ..self }, [of_policies, of_workloads])
    }

    /// A store wakes only the last of those who wait for it, so this is called once.
    async fn filled(&mut self) -> bool {
        self.policies.wait_until_ready().await.is_ok()
            && self.cluster_policies.wait_until_ready().await.is_ok()
            && self.services.wait_until_ready().await.is_ok()
            && self.namespaces.wait_until_ready().await.is_ok()
            && self.budgets.wait_until_ready().await.is_ok()
            && self.native_sleep.wait_for(Option::is_some).await.is_ok()
    }

    /// Whether it is known which cluster policies hold in a namespace. Before the watch has brought it, one that
    /// selects by labels may or may not.
    #[must_use]
    pub fn knows_policies_of(&self, namespace: &str) -> bool {
        self.namespaces.get(&ObjectRef::new(namespace)).is_some()
            || self.cluster_policies.find(selects_by_labels).is_none()
    }

    /// The same, of a namespace that may have been created a moment ago: its first workloads come faster than the
    /// watch at times. Waits for `limit` at most.
    pub async fn learns_policies_of(&self, namespace: &str, limit: Duration) -> bool {
        let changed = self.policies_changed.clone();
        soon(changed, limit, || self.knows_policies_of(namespace).then_some(())).await.is_some()
    }

    /// What surrounds the workloads of a namespace.
    #[must_use]
    pub fn namespace_context(&self, namespace: &str) -> NamespaceContext {
        let labels = self.namespaces.get(&ObjectRef::new(namespace)).map(|found| found.labels().clone());
        // One that the watch has yet to bring gets the benefit of the doubt.
        let all_pods = labels.as_ref().is_none_or(is_enabled);
        let labels = labels.unwrap_or_default();
        NamespaceContext {
            policies: self.policies.inside(namespace),
            cluster_policies: self.cluster_policies.state_filter(|policy| {
                let selector = policy.spec.namespace_selector.as_ref();
                selector.is_none_or(|selector| plan::matches(selector, &labels))
            }),
            services: self.services.inside(namespace),
            native_sleep: self.native_sleep.borrow().unwrap_or(true),
            all_pods,
        }
    }

    /// What surrounds workloads in whatever namespace: the cluster policies that hold for all of them.
    #[must_use]
    pub fn surroundings_everywhere(&self) -> NamespaceContext {
        let cluster_policies = self.cluster_policies.state_filter(|policy| !selects_by_labels(policy));
        NamespaceContext { cluster_policies, ..NamespaceContext::default() }
    }

    /// The `PodDisruptionBudgets` of a namespace.
    #[must_use]
    pub fn budgets(&self, namespace: &str) -> Vec<Arc<PodDisruptionBudget>> {
        self.budgets.inside(namespace)
    }

    /// The namespaces in which a `PodDisruptionBudget` changed, except those that adieu writes and that select no pod
    /// of another one; `None` stands for all. For one consumer.
    #[must_use]
    pub fn changed_budgets(&self) -> Changes<Option<String>> {
        self.budgets_changed.clone()
    }

    /// An item for every change that can alter settings, once the caches have it: of a policy, or of a
    /// namespace's labels.
    pub fn policy_changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        changes(self.policies_changed.clone())
    }

    /// The objects that can't be used.
    #[must_use]
    pub fn unusable(&self) -> &UnusableObjects {
        &self.unusable
    }

    /// The policies of all namespaces.
    #[must_use]
    pub fn policies(&self) -> &Namespaced<GracefulPolicy> {
        &self.policies
    }

    /// The policies of the cluster.
    #[must_use]
    pub fn cluster_policies(&self) -> &Store<ClusterGracefulPolicy> {
        &self.cluster_policies
    }
}

/// An empty selector selects every namespace.
fn selects_by_labels(policy: &ClusterGracefulPolicy) -> bool {
    policy.spec.namespace_selector.as_ref().is_some_and(|selector| *selector != LabelSelector::default())
}

/// An item for every value that is seen; values that come together count once.
pub fn changes<T: Send + Sync + 'static>(receiver: watch::Receiver<T>) -> impl Stream<Item = ()> + Send {
    stream::unfold(receiver, |mut receiver| async {
        receiver.changed().await.ok()?;
        Some(((), receiver))
    })
}

fn follow<K>(
    (client, unusable): (&Client, &UnusableObjects),
    mut writer: NamespacedWriter<K>,
    decisive: impl Fn(&K) -> Option<u64> + Send + 'static,
    missing: Missing,
    changed: impl Fn(Option<&str>) + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static
where
    K: Watched + Resource<DynamicType = ()> + Debug,
{
    let source = Source {
        client: client.clone(),
        path: K::url_path(&(), None),
        api_version: K::api_version(&()).into_owned(),
        kind: K::KIND,
        fields: None,
        unusable: unusable.clone(),
        shares: Arc::new(Shares::new(K::LIMITS)),
        keep: Arc::new(|object| object),
    };
    async move {
        let mut seen = Seen::default();
        let mut is_missing = false;
        loop {
            let events = list_watch(source.clone()).default_backoff();
            let mut events = pin!(events);
            while let Some(event) = events.next().await {
                let event = match event {
                    Ok(event) => event,
                    Err(error) => {
                        tracing::warn!(kind = %K::kind(&()), %error, "watch failed, trying again");
                        if !is_unknown(&error) {
                            continue;
                        }
                        if !replace(&mut is_missing, true) {
                            missing.0.send_modify(|missing| *missing += 1);
                        }
                        // One that goes on where it was would not tell that the kind is there again.
                        sleep(MISSING_WAIT).await;
                        break;
                    }
                };
                writer.apply(&event);
                let is_known = !matches!(event, watcher::Event::Init | watcher::Event::InitApply(_));
                if is_known && replace(&mut is_missing, false) {
                    missing.0.send_modify(|missing| *missing -= 1);
                }
                if seen.changes(&event, &decisive) {
                    changed(concerned(&event));
                }
            }
        }
    }
}

/// The namespace that an event is about: that of the object, or a namespace itself. `None` where it is about all.
fn concerned<K: Resource<DynamicType = ()>>(event: &watcher::Event<K>) -> Option<&str> {
    let (watcher::Event::Apply(object) | watcher::Event::Delete(object)) = event else { return None };
    let metadata = object.meta();
    metadata.namespace.as_deref().or_else(|| metadata.name.as_deref().filter(|_| K::kind(&()) == "Namespace"))
}

/// Whether the API server doesn't know the kind (any more).
fn is_unknown(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error)
    | watcher::Error::WatchStartFailed(error)
    | watcher::Error::WatchFailed(error)) = error
    else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The labels of what adieu makes beside workloads.
#[must_use]
pub fn our_labels() -> BTreeMap<String, String> {
    [(MANAGED_BY.to_owned(), FIELD_MANAGER.to_owned())].into()
}

/// Whether adieu made it.
#[must_use]
pub fn is_our_budget(budget: &PodDisruptionBudget) -> bool {
    budget.labels().get(MANAGED_BY).is_some_and(|manager| manager == FIELD_MANAGER)
}

/// What decides of every object, as it was last seen: status and the like come often and change nothing.
#[derive(Default)]
struct Seen(HashMap<String, u64>);

impl Seen {
    /// Whether the event brings something new of what decides.
    fn changes<K: Resource>(
        &mut self,
        event: &watcher::Event<K>,
        decisive: &impl Fn(&K) -> Option<u64>,
    ) -> bool {
        let uid = |object: &K| object.meta().uid.clone().unwrap_or_default();
        match event {
            watcher::Event::Apply(object) => {
                decisive(object).is_some_and(|now| self.0.insert(uid(object), now) != Some(now))
            }
            watcher::Event::Delete(object) => {
                self.0.remove(&uid(object));
                true
            }
            watcher::Event::Init => {
                self.0.clear();
                false
            }
            watcher::Event::InitApply(object) => {
                decisive(object).map(|now| self.0.insert(uid(object), now));
                false
            }
            watcher::Event::InitDone => true,
        }
    }
}

/// The generation, which the API server raises with every change of the spec.
fn spec<K: Resource>(object: &K) -> Option<u64> {
    object.meta().generation.map(|generation| hash_of(&generation))
}

/// Of a Service, which has no generation.
fn service_spec(service: &Service) -> Option<u64> {
    serde_json::to_string(&service.spec).ok().map(|spec| hash_of(&spec))
}

/// Of a `PodDisruptionBudget` that isn't adieu's, or may select pods that another one selects, which may have been
/// created while adieu's was being written. The others that adieu writes change no decision.
fn decisive_spec(budgets: Namespaced<PodDisruptionBudget>) -> impl Fn(&PodDisruptionBudget) -> Option<u64> {
    move |budget| {
        let meets = |other: &Arc<PodDisruptionBudget>| {
            other.metadata.name != budget.metadata.name && may_meet(budget, other)
        };
        let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
        spec(budget).filter(|_| !is_our_budget(budget) || budgets.inside(namespace).iter().any(meets))
    }
}

/// Whether two budgets may be for the same pods: no label has to have two values.
fn may_meet(one: &PodDisruptionBudget, other: &PodDisruptionBudget) -> bool {
    let (Some(one), Some(other)) = (selected(one), selected(other)) else { return true };
    one.iter().all(|(key, value)| other.get(key).is_none_or(|other| other == value))
}

fn selected(budget: &PodDisruptionBudget) -> Option<&BTreeMap<String, String>> {
    budget.spec.as_ref()?.selector.as_ref()?.match_labels.as_ref()
}

/// Of a namespace, which always has some.
fn labels(namespace: &Namespace) -> Option<u64> {
    namespace.metadata.labels.as_ref().map(hash_of)
}

/// A hash that is the same in every process of one build of adieu: `DefaultHasher` starts from fixed keys, and JSON
/// objects are hashed in the order of their keys. Another version may compute another.
pub(crate) fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn fixed<K>(objects: Vec<K>) -> Namespaced<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (store, mut writer) = namespaced();
    writer.apply(&watcher::Event::Init);
    for object in objects {
        writer.apply(&watcher::Event::InitApply(object));
    }
    writer.apply(&watcher::Event::InitDone);
    // Readers keep the content when the writer goes.
    drop(writer);
    store
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::workloads::LAG, *};
    use crate::{api::labels::INJECTION, trial::test_support::client};

    fn budget(name: &str, manager: &str, labels: &Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "shop", "uid": name, "generation": 1,
                "labels": {MANAGED_BY: manager},
            },
            "spec": {"selector": {"matchLabels": labels}},
        }))
        .unwrap()
    }

    fn namespace(name: &str, labels: &Value) -> Namespace {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap()
    }

    fn policy(name: &str, spec: &Value) -> ClusterGracefulPolicy {
        serde_json::from_value(json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy", "metadata": {"name": name},
            "spec": spec,
        }))
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_that_can_not_be_decoded_keeps_no_replica_from_becoming_ready() {
        let client = client(|_, target| {
            let policy = |name: &str, budget: Value| {
                json!({
                    "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "1", "generation": 1},
                    "spec": {"disruptionBudget": {"maxUnavailable": budget}},
                })
            };
            let list = |items: Value| (200, json!({"metadata": {"resourceVersion": "1"}, "items": items}));
            let version = json!({"major": "1", "minor": "40", "gitVersion": "", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
            match target {
                "/version" => Some((200, version)),
                watch if watch.contains("watch=") => None,
                policies if policies.contains("/gracefulpolicies") => {
                    Some(list(json!([policy("bad", json!([1])), policy("good", json!(1))])))
                }
                _ => Some(list(json!([]))),
            }
        });
        let unusable = UnusableObjects::default();
        let (caches, follow) = Caches::follow(&client, Workloads::fixed(vec![]), &unusable);
        let synced = async {
            tokio::select! { () = follow => {}, synced = caches.synced() => synced.unwrap() }
        };
        Box::pin(timeout(Duration::from_mins(1), synced)).await.expect("an end");
        let policies = caches.namespace_context("shop").policies;
        assert_eq!(policies.iter().map(|policy| policy.name_any()).collect::<Vec<_>>(), ["good"]);
        assert!(unusable.has_policy_of("shop"));
    }

    #[test]
    fn a_budget_that_adieu_writes_requeues_workloads_if_it_may_select_pods_of_another() {
        let [web, canary, shop] =
            [json!({"app": "web"}), json!({"app": "web", "track": "canary"}), json!({"app": "shop"})];
        let is_news = |new: PodDisruptionBudget, present: PodDisruptionBudget| {
            let decisive = decisive_spec(fixed(vec![present, new.clone()]));
            Seen::default().changes(&watcher::Event::Apply(new), &decisive)
        };
        assert!(is_news(budget("a", "adieu", &web), budget("b", "adieu", &canary)));
        assert!(is_news(budget("a", "adieu", &canary), budget("b", "adieu", &web)));
        assert!(
            !is_news(budget("a", "adieu", &shop), budget("b", "adieu", &web)),
            "thousands are written at once"
        );
        assert!(
            is_news(budget("a", "adieu", &canary), budget("b", "Helm", &web)),
            "the user's may have been created while adieu's was being written"
        );
        assert!(!is_news(budget("a", "adieu", &shop), budget("b", "Helm", &web)));
        assert!(is_news(budget("a", "Helm", &shop), budget("b", "adieu", &web)));
    }

    #[test]
    fn cluster_policies_hold_by_the_namespaces_labels() {
        let of = |selector: Value| json!({"namespaceSelector": selector});
        let team = |operator: &str| json!({"matchExpressions": [{"key": "team", "operator": operator, "values": ["shop"]}]});
        let policies = vec![
            policy("all", &json!({})),
            policy("empty", &of(json!({}))),
            policy("in", &of(team("In"))),
            policy("not-in", &of(team("NotIn"))),
            policy("both", &of(json!({"matchLabels": {"team": "shop", "tier": "front"}}))),
            policy("unreadable", &of(team("Near"))),
        ];
        let caches =
            Caches::fixed(vec![], vec![], vec![]).with_cluster_policies(policies).with_namespaces(vec![
                namespace("shop", &json!({"team": "shop", INJECTION: "enabled"})),
                namespace("front", &json!({"team": "shop", "tier": "front", INJECTION: "disabled"})),
                namespace("bank", &json!({"team": "bank"})),
            ]);
        for (namespace, expected, all_pods) in [
            ("shop", &["all", "empty", "in"][..], true),
            ("front", &["all", "both", "empty", "in"], false),
            ("bank", &["all", "empty", "not-in"], false),
            // The watch has yet to bring it.
            ("new", &["all", "empty", "not-in"], true),
        ] {
            let around = caches.namespace_context(namespace);
            let mut names: Vec<_> = around.cluster_policies.iter().map(|policy| policy.name_any()).collect();
            names.sort();
            assert_eq!(names, expected, "{namespace}");
            assert_eq!(around.all_pods, all_pods, "{namespace}");
            assert_eq!(caches.knows_policies_of(namespace), namespace != "new");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_was_just_created_is_waited_for_where_a_policy_selects_by_its_labels() {
        let (namespaces, mut writer) = namespaced();
        let (tell, policies_changed) = watch::channel(());
        let caches = Caches { namespaces, policies_changed, ..Caches::fixed(vec![], vec![], vec![]) };
        let with = |selector: Value| {
            let policies =
                vec![policy("all", &json!({})), policy("some", &json!({"namespaceSelector": selector}))];
            caches.clone().with_cluster_policies(policies)
        };
        assert!(with(json!({})).learns_policies_of("shop", LAG).await);
        let selecting = with(json!({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}));
        assert!(!selecting.learns_policies_of("shop", LAG).await);
        let bring = async {
            sleep(LAG / 2).await;
            writer.apply(&watcher::Event::Apply(namespace("shop", &json!({"team": "shop"}))));
            tell.send_replace(());
        };
        assert!(tokio::join!(selecting.learns_policies_of("shop", LAG), bring).0);
    }
}
