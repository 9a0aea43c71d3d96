//! The metrics of the operator. Labels take values from fixed sets, except policies and the namespaces of failed
//! terminations, whose number is limited.

mod labels;
mod process;

use prometheus_client::{
    encoding::text,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

pub use self::labels::{
    AdmissionLabels, AdmissionResult, ApiCode, ApiRequestLabels, CauseLabel, Component,
    FailedTerminationLabels, KindLabel, ObjectLabels, OutcomeLabel, Overload, OverloadLabels, PanicLabels,
    PolicyWorkloadLabels, Port, PortLabel, ReconcileLabels, ReconcileResult, TerminationLabels, Verb,
    WorkloadLabels, WorkloadState,
};
use self::process::ProcessCollector;

/// Every metric of the operator.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Reviewed admission requests.
    pub admission_requests: Family<AdmissionLabels, Counter>,
    /// Seconds from a request's last byte to its answer.
    pub admission_duration: Histogram,
    /// Requests that are not a valid AdmissionReview of a workload or pod.
    pub admission_bad_requests: Counter,
    /// Requests to the webhook that were not reviewed for lack of memory, or because the body was too slow.
    pub overload: Family<OverloadLabels, Counter>,
    /// Connections that were closed immediately because of a limit.
    pub rejected_connections: Family<PortLabel, Counter>,
    /// Caught panics.
    pub panics: Family<PanicLabels, Counter>,
    /// Requests to the API server.
    pub api_requests: Family<ApiRequestLabels, Counter>,
    /// Evaluated workloads.
    pub evaluations: Counter,
    /// Reconciled workloads.
    pub reconciles: Family<ReconcileLabels, Counter>,
    /// Seconds that the leader takes to reconcile a workload or policy.
    pub reconcile_duration: Family<ObjectLabels, Histogram>,
    /// Managed workloads of the cluster, counted by the leader.
    pub workloads: Family<WorkloadLabels, Gauge>,
    /// The same for each policy that counts them.
    pub policy_workloads: Family<PolicyWorkloadLabels, Gauge>,
    /// Rollouts for policies that are in progress.
    pub rollouts_in_progress: Gauge,
    /// Workloads that wait for a rollout for a policy.
    pub queued_rollouts: Gauge,
    /// Those of them that wait until failed rollouts of their policy are fixed.
    pub stalled_rollouts: Gauge,
    /// Failed rollouts for policies.
    pub failed_rollouts: Gauge,
    /// Watched objects that can't be decoded.
    pub undecodable_objects: Family<ObjectLabels, Gauge>,
    /// Watched objects that are too large to be read.
    pub oversized_objects: Family<ObjectLabels, Gauge>,
    /// 1 for a kind that the operator may not read, otherwise 0.
    pub denied_kinds: Family<ObjectLabels, Gauge>,
    /// Terminations of pods, observed by the leader.
    pub terminations: Family<TerminationLabels, Counter>,
    /// Terminations that went wrong, by namespace.
    pub failed_terminations: Family<FailedTerminationLabels, Counter>,
    /// Seconds from SIGTERM to the end of a pod's last container.
    pub shutdown_duration: Histogram,
    /// Seconds until no EndpointSlice has a terminating pod as ready.
    pub endpoint_withdrawal_duration: Histogram,
    /// The used share of the grace period.
    pub grace_period_used: Histogram,
    /// Terminating pods that were not observed, because too many terminate at a time.
    pub unobserved_terminations: Counter,
    /// Terminations that no `TerminationProfile` counts, because there are too many profiles.
    pub unprofiled_terminations: Counter,
    /// Start of the serving certificate's validity, in seconds since 1970.
    pub certificate_not_before: Gauge,
    /// Expiration of the serving certificate, in seconds since 1970.
    pub certificate_expiration: Gauge,
    /// 1 if this replica is the leader, otherwise 0.
    pub leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            admission_requests: Family::default(),
            admission_duration: Histogram::new(exponential_buckets(0.000_1, 2.0, 14)),
            admission_bad_requests: Counter::default(),
            overload: Family::default(),
            rejected_connections: Family::default(),
            panics: Family::default(),
            api_requests: Family::default(),
            evaluations: Counter::default(),
            reconciles: Family::default(),
            // From 1 ms to 65 s: an unanswered request times out after 40 s.
            reconcile_duration: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 4.0, 9))
            }),
            workloads: Family::default(),
            policy_workloads: Family::default(),
            rollouts_in_progress: Gauge::default(),
            queued_rollouts: Gauge::default(),
            stalled_rollouts: Gauge::default(),
            failed_rollouts: Gauge::default(),
            undecodable_objects: Family::default(),
            oversized_objects: Family::default(),
            denied_kinds: Family::default(),
            terminations: Family::default(),
            failed_terminations: Family::default(),
            shutdown_duration: Histogram::new([1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0]),
            endpoint_withdrawal_duration: Histogram::new([1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0]),
            grace_period_used: Histogram::new([0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0, 1.1]),
            unobserved_terminations: Counter::default(),
            unprofiled_terminations: Counter::default(),
            certificate_not_before: Gauge::default(),
            certificate_expiration: Gauge::default(),
            leader: Gauge::default(),
            registry: Registry::default(),
        };
        let mut registry = Registry::default();
        registry.sub_registry_with_prefix("process").register_collector(Box::new(ProcessCollector::new()));
        let own = registry.sub_registry_with_prefix("adieu");
        metrics.register_webhook(own);
        metrics.register_controller(own);
        metrics.register_observer(own);
        metrics.register_process(own);
        metrics.initialize_counters();
        Self { registry, ..metrics }
    }
}

impl Metrics {
    fn register_webhook(&self, registry: &mut Registry) {
        registry.register(
            "admission_requests",
            "Admission requests for workloads and pods",
            self.admission_requests.clone(),
        );
        registry.register_with_unit(
            "admission_duration",
            "Time to review an admission request",
            Unit::Seconds,
            self.admission_duration.clone(),
        );
        registry.register(
            "admission_bad_requests",
            "Requests to the webhook that are not a valid AdmissionReview of a workload or pod",
            self.admission_bad_requests.clone(),
        );
        registry.register(
            "admission_overload",
            "Requests to the webhook that were rejected because no memory was free or the body arrived too slowly",
            self.overload.clone(),
        );
    }

    fn register_controller(&self, registry: &mut Registry) {
        registry.register("evaluations", "Workloads evaluated by the leader", self.evaluations.clone());
        registry.register("reconciles", "Reconciled workloads", self.reconciles.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "Time that the leader takes to reconcile a workload or policy",
            Unit::Seconds,
            self.reconcile_duration.clone(),
        );
        registry.register(
            "workloads",
            "Managed workloads by state, counted by the leader",
            self.workloads.clone(),
        );
        registry.register(
            "policy_workloads",
            "Managed workloads by policy and state, counted by the leader; one counts for each of its policies",
            self.policy_workloads.clone(),
        );
        registry.register(
            "rollouts_in_progress",
            "Rollouts for policies that are in progress",
            self.rollouts_in_progress.clone(),
        );
        registry.register(
            "queued_rollouts",
            "Rollouts for policies that wait to be started",
            self.queued_rollouts.clone(),
        );
        registry.register(
            "stalled_rollouts",
            "Rollouts for policies that wait until failed ones of their policy are fixed",
            self.stalled_rollouts.clone(),
        );
        registry.register(
            "failed_rollouts",
            "Rollouts for policies that failed and are not fixed yet",
            self.failed_rollouts.clone(),
        );
        registry.register(
            "undecodable_objects",
            "Watched objects that cannot be decoded and are ignored",
            self.undecodable_objects.clone(),
        );
        registry.register(
            "oversized_objects",
            "Watched objects that are too large to be read",
            self.oversized_objects.clone(),
        );
        registry.register(
            "denied_kinds",
            "Whether the operator lacks the permission to read a kind of objects",
            self.denied_kinds.clone(),
        );
    }

    fn register_observer(&self, registry: &mut Registry) {
        registry.register(
            "terminations",
            "Terminations of pods by outcome and cause, observed by the leader",
            self.terminations.clone(),
        );
        registry.register(
            "failed_terminations",
            "Terminations that went wrong, by the namespace of the pod",
            self.failed_terminations.clone(),
        );
        registry.register_with_unit(
            "termination_shutdown_duration",
            "Time from SIGTERM, as far as the duration of preStop is known, to the end of a pod's last container",
            Unit::Seconds,
            self.shutdown_duration.clone(),
        );
        registry.register_with_unit(
            "endpoint_withdrawal_duration",
            "Time until no EndpointSlice has a terminating pod as ready",
            Unit::Seconds,
            self.endpoint_withdrawal_duration.clone(),
        );
        registry.register_with_unit(
            "termination_grace_period_used",
            "The share of the grace period that a pod used",
            Unit::Ratios,
            self.grace_period_used.clone(),
        );
        registry.register(
            "unobserved_terminations",
            "Terminating pods that are not observed because too many terminate at a time",
            self.unobserved_terminations.clone(),
        );
        registry.register(
            "unprofiled_terminations",
            "Terminations that no TerminationProfile counts because there are too many profiles",
            self.unprofiled_terminations.clone(),
        );
    }

    fn register_process(&self, registry: &mut Registry) {
        registry.register(
            "rejected_connections",
            "Connections closed immediately because of a limit on their number",
            self.rejected_connections.clone(),
        );
        registry.register("panics", "Caught panics", self.panics.clone());
        registry.register("api_requests", "Requests to the API server", self.api_requests.clone());
        registry.register(
            "certificate_not_before_timestamp_seconds",
            "Start of the serving certificate's validity",
            self.certificate_not_before.clone(),
        );
        registry.register(
            "certificate_expiration_timestamp_seconds",
            "Expiration of the serving certificate",
            self.certificate_expiration.clone(),
        );
        registry.register("leader_status", "Whether this replica is the leader", self.leader.clone());
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running version", version);
    }

    /// Exports counters with 0, so that their first increase is visible.
    fn initialize_counters(&self) {
        for &reason in Overload::ALL {
            drop(self.overload.get_or_create(&OverloadLabels { reason }));
        }
        for &port in Port::ALL {
            drop(self.rejected_connections.get_or_create(&PortLabel { port }));
        }
        for &component in Component::ALL {
            drop(self.panics.get_or_create(&PanicLabels { component }));
        }
    }

    /// The metrics as OpenMetrics text.
    ///
    /// # Errors
    /// Never in practice: the text is written to memory.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut rendered = String::new();
        text::encode(&mut rendered, &self.registry)?;
        Ok(rendered)
    }
}

#[cfg(test)]
mod tests;
