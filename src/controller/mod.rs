//! Writes workloads that exist already or bypassed the webhook, and the status of policies.

mod backoff;
mod context;
#[cfg(test)]
mod crash_tests;
mod events;
mod failed_rollout_status;
mod pace;
mod pod_disruption_budgets;
mod policies;
mod policy;
mod policy_metrics;
mod recommendations;
mod reconcile_memory;
mod replica;
mod scheduling;
mod terminations;
#[cfg(test)]
mod test_support;
mod unusable_objects;
mod workload_metrics;
mod workloads;
pub(crate) mod write;
mod write_history;

use std::{sync::Arc, time::Duration};

use context::ReconcileContext;
use futures::{
    StreamExt as _,
    future::{join_all, ready},
};
use kube::{Client, runtime::events::Reporter};
pub use replica::Replica;
pub use terminations::{Observation, ObserverScope};
use tokio_util::sync::CancellationToken;

use crate::{
    index::{caches::Caches, workloads::Events},
    plan::Kind,
    runtime::metrics::Metrics,
};

/// The controller of a replica.
pub struct Controller {
    /// A client of the API server.
    pub client: Client,
    /// What it reads.
    pub caches: Caches,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
    /// The replica that runs it.
    pub replica: Replica,
    /// How terminations are observed.
    pub observation: Observation,
}

impl Controller {
    /// Runs until `shutdown`, and completes reconciliations in progress. Writes while this replica leads and writes are
    /// not paused. `events` are the watches of the workloads in the caches.
    pub async fn run(self, events: [Events; 3], shutdown: CancellationToken) {
        // Before the caches are filled a policy would seem to be deleted.
        if !matches!(shutdown.run_until_cancelled(self.caches.synced()).await, Some(Ok(()))) {
            return;
        }
        let reporter =
            Reporter { controller: "adieu.dev/controller".into(), instance: Some(self.replica.pod.clone()) };
        let (publisher, publishing) = events::publisher(self.client.clone(), reporter, shutdown.clone());
        let Self { client, caches, metrics, replica, observation } = self;
        let context = Arc::new(ReconcileContext::new(client, caches, metrics, replica, publisher));
        let workloads = Kind::ALL.into_iter().zip(events);
        let workloads = workloads
            .map(|(kind, stream)| workloads::control(kind, stream, context.clone(), shutdown.clone()));
        let workloads = join_all(workloads);
        let terminations = terminations::report(context.clone(), observation, shutdown.clone());
        // A status write may be cancelled at shutdown, and a controller without listed policies would wait for them.
        let policies = shutdown.run_until_cancelled(policies::control(context.clone()));
        let metrics = shutdown.run_until_cancelled(workload_metrics::report(&context));
        let unusable = shutdown.run_until_cancelled(unusable_objects::report(&context));
        let index = context.index.run(&context.caches, context.replica.is_leader.clone());
        let index = shutdown.run_until_cancelled(index);
        let scheduling = shutdown.run_until_cancelled(context.scheduling.run());
        let budgets = context.caches.changed_budgets().stream(Duration::ZERO);
        let budgets = budgets.for_each(|namespace| {
            context.index.requeue_workloads(namespace.as_deref());
            ready(())
        });
        let budgets = shutdown.run_until_cancelled(budgets);
        tokio::join!(
            workloads,
            terminations,
            index,
            scheduling,
            budgets,
            policies,
            metrics,
            unusable,
            publishing
        );
    }
}

/// The field selector of the watched workloads: without the namespaces that the webhook configuration excludes, which
/// are `kube-system` and the operator's: it would wait for its own restart.
#[must_use]
pub fn namespace_field_selector(own: &str) -> String {
    let field = |namespace: &str| format!("metadata.namespace!={namespace}");
    [field("kube-system"), field(own)].join(",")
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::Mutex,
    };

    use adieu_exposures::KINDS;
    use futures::{StreamExt as _, poll, stream};
    use serde_json::{Value, json};
    use tokio::time::{sleep, timeout};

    use super::{test_support::context_with, *};
    use crate::{
        index::{unusable_objects::UnusableObjects, workloads::Workloads},
        runtime::client::{LIMIT, WATCH_SILENCE},
        runtime::test_support::client,
    };

    fn observation() -> Observation {
        Observation {
            scope: ObserverScope::All,
            writes_profiles: true,
            field_selector: namespace_field_selector("adieu"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_before_anything_is_listed_is_prompt() {
        let silent = client(|_, _| None);
        let (unfilled, _follow) =
            Caches::follow(&silent, Workloads::fixed(vec![]), &UnusableObjects::default(), vec![]);
        for caches in [Caches::fixed(vec![], vec![], vec![]), unfilled] {
            let events = [(); 3].map(|()| stream::pending().boxed());
            let (context, _senders) = context_with(silent.clone(), caches.clone(), 1);
            let (client, metrics, replica) = (silent.clone(), Arc::default(), context.replica.clone());
            let controller = Controller { client, caches, metrics, replica, observation: observation() };
            let shutdown = CancellationToken::new();
            let mut running = Box::pin(controller.run(events, shutdown.clone()));
            assert!(poll!(&mut running).is_pending());
            shutdown.cancel();
            timeout(LIMIT / 2, running).await.expect("an end");
        }
    }

    /// The groups of an API server without CRDs of Gateways and proxies.
    fn groups() -> Value {
        let version = json!({"groupVersion": "networking.k8s.io/v1", "version": "v1"});
        let group = json!({"name": "networking.k8s.io", "versions": [version]});
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]})
    }

    fn networking() -> Value {
        let resource = |kind: &str, name: &str, namespaced: bool| {
            json!({"kind": kind, "name": name,
            "namespaced": namespaced, "singularName": "", "verbs": ["get", "list", "watch"]})
        };
        let resources = [
            resource("Ingress", "ingresses", true),
            resource("IngressClass", "ingressclasses", false),
            resource("NetworkPolicy", "networkpolicies", true),
        ];
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "networking.k8s.io/v1",
            "resources": resources})
    }

    #[tokio::test(start_paused = true)]
    async fn each_kind_is_listed_and_watched_once() {
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = requests.clone();
        let client = client(move |method, target| {
            let path = target.split('?').next().unwrap_or_default();
            let verb = if target.contains("watch=") { "watch" } else { "list" };
            seen.lock().unwrap().push(format!("{method} {verb} {path}"));
            let version = json!({"major": "1", "minor": "40", "gitVersion": "", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
            match (verb, path) {
                ("watch", _) => None,
                (_, "/version") => Some((200, version)),
                (_, "/apis") => Some((200, groups())),
                (_, "/apis/networking.k8s.io/v1") => Some((200, networking())),
                _ => Some((200, json!({"metadata": {"resourceVersion": "1"}, "items": []}))),
            }
        });
        let unusable = UnusableObjects::default();
        let (workloads, events) = Workloads::follow(&client, None, &unusable);
        let (caches, watches) = Caches::follow(&client, workloads, &unusable, KINDS.iter().collect());
        let (context, _senders) = context_with(client.clone(), caches.clone(), 1);
        let (metrics, replica) = (Arc::default(), context.replica.clone());
        let controller =
            Controller { client, caches: caches.clone(), metrics, replica, observation: observation() };
        let running =
            Box::pin(async { tokio::join!(watches, controller.run(events, CancellationToken::new())) });
        // A silent watch is restarted later.
        assert!(timeout(WATCH_SILENCE / 2, running).await.is_err());
        assert!(caches.workloads().is_filled());
        let kinds = [
            "/api/v1/events",
            "/api/v1/namespaces",
            "/api/v1/pods",
            "/api/v1/services",
            "/apis/adieu.dev/v1alpha1/clustergracefulpolicies",
            "/apis/adieu.dev/v1alpha1/gracefulpolicies",
            "/apis/apps/v1/daemonsets",
            "/apis/apps/v1/deployments",
            "/apis/apps/v1/statefulsets",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            "/apis/discovery.k8s.io/v1/endpointslices",
            "/apis/networking.k8s.io/v1/ingressclasses",
            "/apis/networking.k8s.io/v1/ingresses",
            "/apis/policy/v1/poddisruptionbudgets",
        ];
        let mut expected: Vec<_> = kinds
            .iter()
            .flat_map(|path| ["list", "watch"].map(|verb| format!("GET {verb} {path}")))
            .collect();
        expected.extend(
            [
                "/apis",
                "/apis/adieu.dev/v1alpha1/terminationprofiles",
                "/apis/networking.k8s.io/v1",
                "/version",
            ]
            .map(|path| format!("GET list {path}")),
        );
        expected.sort();
        let mut requests = requests.lock().unwrap().clone();
        requests.sort();
        assert_eq!(requests, expected);
    }

    #[tokio::test]
    async fn nothing_is_written_without_leading_while_paused_or_without_crds() {
        let caches = || Caches::fixed(vec![], vec![], vec![]);
        let may_write = async |caches, leading, pausing| {
            let (context, [is_leader, paused]) = context_with(client(|_, _| None), caches, 1);
            is_leader.send_replace(leading);
            paused.send_replace(pausing);
            let written = context.write(ready(())).await.is_some();
            assert_eq!(written, context.may_write());
            written
        };
        assert!(may_write(caches(), true, false).await);
        assert!(!may_write(caches(), false, false).await);
        assert!(!may_write(caches(), true, true).await);
        assert!(!may_write(caches().unserved(), true, false).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_in_progress_is_dropped_once_another_replica_leads() {
        let (context, [is_leader, _paused]) =
            context_with(client(|_, _| None), Caches::fixed(vec![], vec![], vec![]), 1);
        let mut write = Box::pin(context.write(pending::<()>()));
        assert!(poll!(&mut write).is_pending());
        is_leader.send_replace(false);
        assert_eq!(timeout(LIMIT, write).await, Ok(None));
    }

    #[tokio::test]
    async fn a_reconciliation_that_panics_is_a_failed_attempt() {
        let (context, _senders) = context_with(client(|_, _| None), Caches::fixed(vec![], vec![], vec![]), 1);
        let attempt = context.attempt("Deployment", async { panic!("on purpose") }).await;
        let error: kube::Error = attempt.map(|()| unreachable!()).unwrap_err();
        assert!(matches!(&error, kube::Error::Service(_)), "{error}");
        assert!(error.to_string().contains("panicked: on purpose"), "{error}");
        assert!(context.metrics.render().unwrap().contains("adieu_panics_total{component=\"reconcile\"} 1"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_leader_measures_how_long_it_takes_to_reconcile() {
        let (context, [is_leader, _paused]) =
            context_with(client(|_, _| None), Caches::fixed(vec![], vec![], vec![]), 1);
        for leads in [true, false] {
            is_leader.send_replace(leads);
            context.attempt("Deployment", sleep(Duration::from_secs(3))).await.unwrap();
        }
        let metrics = context.metrics.render().unwrap();
        for line in [
            "adieu_reconcile_duration_seconds_sum{kind=\"Deployment\"} 3.",
            "adieu_reconcile_duration_seconds_count{kind=\"Deployment\"} 1",
        ] {
            assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
        }
    }
}
