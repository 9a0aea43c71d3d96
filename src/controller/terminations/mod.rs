//! Observes the terminations of pods while this replica leads: metrics, Events, and a `TerminationProfile` for each
//! workload. The crate `adieu-observer` tells what a termination did; this module feeds and reports it.

mod cause_finder;
mod profile_set;
mod profiles;

use std::{
    collections::HashSet,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use adieu_observer::{CauseEvidence, Observer, PodOwner, TerminatingPod, Termination};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;
use tokio_util::sync::CancellationToken;

use self::{cause_finder::CauseFinder, profiles::Profiles};
use super::context::ReconcileContext;
use crate::{
    api::TerminationOutcome as Outcome,
    index::{
        cached_workload::CachedWorkload,
        terminating_pods::{
            EndpointEvent, FailedHook, PodEvent, failed_pre_stops, terminating_endpoints, terminating_pods,
        },
    },
    keys::WorkloadKey as Key,
    plan::InjectionState,
    runtime::{
        lock::lock,
        metrics::{FailedTerminationLabels, KindLabel, TerminationLabels},
    },
};

/// Which terminations are observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum ObserverScope {
    /// Those of all workloads, and of Jobs.
    #[default]
    All,
    /// Those of workloads that are managed.
    Managed,
    /// None: pods are not watched.
    Off,
}

/// How the terminations are observed.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Which ones.
    pub scope: ObserverScope,
    /// Whether `TerminationProfile`s are written.
    pub writes_profiles: bool,
    /// Excludes namespaces.
    pub field_selector: String,
}

/// How long profiles are written after the shutdown begins.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// How many namespaces with failed terminations have metrics of their own.
const MAX_NAMESPACES: usize = 200;

/// Observes terminations while this replica leads, until `shutdown`.
pub(super) async fn report(
    context: Arc<ReconcileContext>,
    observation: Observation,
    shutdown: CancellationToken,
) {
    if observation.scope == ObserverScope::Off {
        return;
    }
    let mut is_leader = context.replica.is_leader.clone();
    loop {
        let leads = async { is_leader.wait_for(|is_leader| *is_leader).await.is_ok() };
        if shutdown.run_until_cancelled(leads).await != Some(true) {
            return;
        }
        let report = Report::new(&context, &observation);
        let profiles = async {
            if observation.writes_profiles {
                report.profiles.restore(&context.client).await;
                // The evaluations tell which recommendations the policies want.
                let _ = context.index.version().wait_for(|_| context.index.is_complete()).await;
                report.profiles.recommend_all(&context);
                report.profiles.write(&context).await;
            }
        };
        let observe = async { tokio::join!(report.observe(), profiles) };
        tokio::select! {
            _ = context.replica.while_leading(observe) => context.recommendations.clear(),
            () = shutdown.cancelled() => {
                // The next leader adds to these.
                let flush = tokio::time::timeout(FLUSH_TIMEOUT, report.profiles.flush(&context));
                let _ = context.replica.while_leading(flush).await;
                return;
            }
        }
    }
}

/// What one leader observes.
struct Report<'a> {
    context: &'a Arc<ReconcileContext>,
    observation: &'a Observation,
    finder: CauseFinder,
    profiles: Profiles,
    namespaces: Namespaces,
}

/// The namespaces with failed terminations that have metrics of their own.
#[derive(Default)]
struct Namespaces(Mutex<HashSet<String>>);

impl Namespaces {
    fn label(&self, namespace: &str) -> String {
        let mut known = lock(&self.0);
        if known.len() < MAX_NAMESPACES {
            known.insert(namespace.to_owned());
        }
        if known.contains(namespace) { namespace } else { "other" }.to_owned()
    }
}

type Search = BoxFuture<'static, (String, CauseEvidence)>;

impl<'a> Report<'a> {
    fn new(context: &'a Arc<ReconcileContext>, observation: &'a Observation) -> Self {
        let finder = CauseFinder::new(context.client.clone(), context.caches.clone());
        Self {
            context,
            observation,
            finder,
            profiles: Profiles::new(context.metrics.unprofiled_terminations.clone()),
            namespaces: Namespaces::default(),
        }
    }

    /// Never returns.
    async fn observe(&self) {
        let (client, unusable) = (&self.context.client, self.context.caches.unusable());
        let fields = &self.observation.field_selector;
        let mut pods = pin!(terminating_pods(client, fields, unusable));
        let mut endpoints = pin!(terminating_endpoints(client, fields, unusable));
        let mut failed = pin!(failed_pre_stops(client, unusable));
        let (mut observer, mut searches) = (Observer::default(), FuturesUnordered::<Search>::new());
        loop {
            let ended = tokio::select! {
                Some(event) = pods.next() => self.pod_event(&mut observer, &searches, event),
                Some((uid, evidence)) = searches.next() => observer.learn(&uid, evidence).into_iter().collect(),
                Some(event) = endpoints.next() => {
                    match event {
                        EndpointEvent::ListBegins => observer.endpoints_list_begins(),
                        EndpointEvent::Listed(endpoints) => observer.endpoints(&endpoints, None),
                        EndpointEvent::Changed(endpoints) => {
                            observer.endpoints(&endpoints, Some(Timestamp::now()));
                        }
                    }
                    vec![]
                }
                Some(FailedHook { uid, container, at }) = failed.next() => {
                    observer.pre_stop_failed(&uid, &container, at);
                    vec![]
                }
            };
            self.context.metrics.unobserved_terminations.inc_by(observer.take_ignored());
            for termination in ended {
                self.count(&termination);
            }
        }
    }

    fn pod_event(
        &self,
        observer: &mut Observer,
        searches: &FuturesUnordered<Search>,
        event: PodEvent,
    ) -> Vec<Termination> {
        match event {
            PodEvent::ListBegins => observer.list_begins(),
            PodEvent::ListEnds => return observer.list_ends(),
            PodEvent::Deleted(uid) => {
                return observer.deleted(&uid, Some(Timestamp::now())).into_iter().collect();
            }
            // The workload of a pod that is followed may be deleted or opted out meanwhile.
            PodEvent::Terminating(pod) if observer.follows(&pod.uid) || self.is_in_scope(&pod) => {
                let search = self.finder.search(&pod);
                if observer.observe(*pod) {
                    searches.push(search.boxed());
                }
            }
            PodEvent::Terminating(_) => {}
        }
        vec![]
    }

    fn is_in_scope(&self, pod: &TerminatingPod) -> bool {
        if self.observation.scope == ObserverScope::All {
            return pod.owner != PodOwner::Other;
        }
        let key = key_of(&pod.namespace, &pod.owner);
        let evaluation = key.and_then(|key| self.context.index.get(&key));
        evaluation.is_some_and(|evaluation| evaluation.desired.state != InjectionState::Unmanaged)
    }

    fn count(&self, termination: &Termination) {
        let metrics = &self.context.metrics;
        let kind = match &termination.owner {
            PodOwner::Workload { kind, .. } => kind.as_str(),
            PodOwner::Job | PodOwner::Other => "Job",
        };
        let labels = TerminationLabels {
            kind: KindLabel(kind),
            outcome: termination.outcome.into(),
            cause: termination.cause.into(),
        };
        metrics.terminations.get_or_create(&labels).inc();
        if termination.is_bad() {
            let workload_namespace = self.namespaces.label(&termination.namespace);
            let labels = FailedTerminationLabels { workload_namespace, outcome: termination.outcome.into() };
            metrics.failed_terminations.get_or_create(&labels).inc();
        }
        let observe = |histogram: &prometheus_client::metrics::histogram::Histogram, seconds: Option<i64>| {
            if let Some(seconds) = seconds {
                histogram.observe(as_f64(seconds));
            }
        };
        observe(&metrics.shutdown_duration, termination.shutdown_seconds);
        observe(&metrics.endpoint_withdrawal_duration, termination.withdrawal_seconds);
        let grace = termination.requested.grace_period_seconds;
        if let Some(used) = termination.used_seconds.filter(|_| grace > 0) {
            metrics.grace_period_used.observe(as_f64(used) / as_f64(grace));
        }
        let Some(key) = key_of(&termination.namespace, &termination.owner) else { return };
        let workloads = self.context.caches.workloads();
        let Some(workload) = workloads.cached(key.kind, &key.namespace, &key.name) else { return };
        self.publish(&key, &workload, termination);
        if self.observation.writes_profiles {
            let uid = workload.meta().uid.clone().unwrap_or_default();
            self.profiles.add(&key, &uid, termination, |key| workloads.contains(key));
        }
    }

    /// Publishes an Event on the workload, if its pod was killed, its preStop hook failed, or it doesn't handle SIGTERM.
    fn publish(&self, key: &Key, workload: &CachedWorkload, termination: &Termination) {
        let (events, object) = (&self.context.events, workload.metadata_only());
        let Termination { pod, container, .. } = termination;
        let reason = match termination.outcome {
            Outcome::Killed => "KilledAtDeadline",
            Outcome::PreStopFailed => "PreStopFailed",
            Outcome::Completed => return events.warn_once(key.kind, &object, "SigtermNotHandled", None),
            Outcome::DefaultAction if termination.is_sigterm_unhandled() => {
                let note = format!(
                    "container {container}: SIGTERM ends it immediately (exit code 143), and it has no preStop hook: \
                     requests that are still sent to it are lost"
                );
                return events.warn_once(key.kind, &object, "SigtermNotHandled", Some(note));
            }
            _ => return,
        };
        let note = format!("pod {pod}, container {container}: {}", termination.reason());
        events.warn(key.kind, &object, reason, note);
    }
}

/// The key of the workload that owns a pod.
fn key_of(namespace: &str, owner: &PodOwner) -> Option<Key> {
    match owner {
        PodOwner::Workload { kind, name, .. } => {
            Some(Key { namespace: namespace.to_owned(), kind: *kind, name: name.clone() })
        }
        PodOwner::Job | PodOwner::Other => None,
    }
}

#[allow(clippy::cast_precision_loss, reason = "seconds of at most a week")]
fn as_f64(seconds: i64) -> f64 {
    seconds as f64
}

#[cfg(test)]
mod tests;
