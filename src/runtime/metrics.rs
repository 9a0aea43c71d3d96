//! The metrics, in one place so that their names and labels are seen together. Labels take values from
//! fixed sets only.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

/// Every metric of the operator.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Reviewed admission requests.
    pub admission_requests: Family<AdmissionLabels, Counter>,
    /// Seconds from a request's last byte to its answer.
    pub admission_duration: Histogram,
    /// Requests that were no admission review of a workload or pod.
    pub admission_bad_requests: Counter,
    /// Requests to the webhook for which no memory was free, or whose body came too slowly.
    pub overload: Family<OverloadLabels, Counter>,
    /// Connections that were closed at once because of a limit.
    pub rejected_connections: Family<PortLabel, Counter>,
    /// Panics that were caught.
    pub panics: Family<PanicLabels, Counter>,
    /// Workloads that the controller looked at.
    pub reconciles: Family<ReconcileLabels, Counter>,
    /// Managed workloads of the cluster, as the replica that leads counts them.
    pub workloads: Family<WorkloadLabels, Gauge>,
    /// Rollouts for policies that failed, so that no other begins.
    pub failed_rollouts: Gauge,
    /// Watched objects that can't be decoded.
    pub undecodable_objects: Family<ObjectLabels, Gauge>,
    /// Watched objects that are too large to be read.
    pub oversized_objects: Family<ObjectLabels, Gauge>,
    /// When the serving certificate began to be valid, in seconds since 1970.
    pub certificate_not_before: Gauge,
    /// When the serving certificate expires, in seconds since 1970.
    pub certificate_expiration: Gauge,
    /// 1 where this replica leads, 0 where another does.
    pub leader: Gauge,
}

/// Labels of [`Metrics::admission_requests`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct AdmissionLabels {
    /// The object's kind.
    pub kind: KindLabel,
    /// What became of the request.
    pub result: AdmissionResult,
}

/// Labels of [`Metrics::reconciles`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReconcileLabels {
    /// The object's kind.
    pub kind: KindLabel,
    /// What came of it.
    pub result: ReconcileResult,
}

/// Labels of [`Metrics::workloads`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct WorkloadLabels {
    /// The object's kind.
    pub kind: KindLabel,
    /// How it stands.
    pub state: WorkloadState,
}

/// Labels of [`Metrics::undecodable_objects`] and [`Metrics::oversized_objects`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ObjectLabels {
    /// The object's kind.
    pub kind: KindLabel,
}

/// Labels of [`Metrics::overload`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OverloadLabels {
    /// What was missing.
    pub reason: Overload,
}

/// Labels of [`Metrics::rejected_connections`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct PortLabel {
    /// The port.
    pub port: Port,
}

/// Labels of [`Metrics::panics`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct PanicLabels {
    /// Where it happened.
    pub component: Component,
}

/// A label with fixed values.
macro_rules! label_values {
    ($(#[$meta:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $variant,)* }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As the label has it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $value,)* }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(
                &self,
                encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>,
            ) -> Result<(), std::fmt::Error> {
                self.as_str().encode(encoder)
            }
        }
    };
}

label_values! {
    /// Why a request to the webhook wasn't reviewed.
    Overload {
        /// No memory was free for it in time.
        Memory = "memory",
        /// Its body came too slowly.
        SlowBody = "slow_body",
    }
}

label_values! {
    /// A port that the operator serves.
    Port {
        /// The webhook's.
        Webhook = "webhook",
        /// That of health, readiness and metrics.
        Admin = "admin",
    }
}

label_values! {
    /// What panicked.
    Component {
        /// A request to the webhook.
        Webhook = "webhook",
        /// A request to the admin port.
        Admin = "admin",
        /// The reconciliation of a workload or policy.
        Reconcile = "reconcile",
        /// A task that the operator can't work without: the process ends.
        Background = "background",
    }
}

/// A kind as a label: of a workload or another watched object, or `Pod`.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct KindLabel(pub &'static str);

label_values! {
    /// What became of an admission request.
    AdmissionResult {
        /// Allowed as it came.
        Unchanged = "unchanged",
        /// Allowed with a patch.
        Patched = "patched",
        /// Denied for a malformed annotation.
        Denied = "denied",
        /// Allowed as it came, because it is too large to be looked into.
        TooLarge = "too_large",
    }
}

label_values! {
    /// What the controller did with a workload.
    ReconcileResult {
        /// Nothing: it is as it shall be.
        Unchanged = "unchanged",
        /// It was patched.
        Patched = "patched",
        /// It waits for the rollout of another, its own, or its next update.
        Waiting = "waiting",
        /// It would be changed, but the policy's mode is `Audit`.
        Audit = "audit",
        /// It was patched, and something else, such as another webhook, reverted that.
        Reverted = "reverted",
        /// Another client wrote it meanwhile: it is tried again.
        Conflict = "conflict",
        /// The API server refused the write or could not be reached.
        ApiError = "api_error",
    }
}

label_values! {
    /// How a managed workload stands.
    WorkloadState {
        /// Its template is as it shall be.
        Injected = "injected",
        /// Its pods are injected as they are created.
        PodInjection = "pod_injection",
        /// Its template is yet to become as it shall be.
        Pending = "pending",
        /// So it is, and something refuses or reverts the write.
        Blocked = "blocked",
        /// Nothing can be injected, such as for a maximum that is too low.
        Unsatisfiable = "unsatisfiable",
        /// It would be changed, but the policy's mode is `Audit`.
        Audit = "audit",
    }
}

impl WorkloadState {
    /// Whether it can become another without a change of the workload.
    #[must_use]
    pub fn is_unsettled(self) -> bool {
        matches!(self, Self::Pending | Self::Blocked)
    }
}

impl EncodeLabelValue for KindLabel {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("adieu");
        let metrics = Self {
            admission_requests: Family::default(),
            admission_duration: Histogram::new(exponential_buckets(0.000_1, 2.0, 14)),
            admission_bad_requests: Counter::default(),
            overload: Family::default(),
            rejected_connections: Family::default(),
            panics: Family::default(),
            reconciles: Family::default(),
            workloads: Family::default(),
            failed_rollouts: Gauge::default(),
            undecodable_objects: Family::default(),
            oversized_objects: Family::default(),
            certificate_not_before: Gauge::default(),
            certificate_expiration: Gauge::default(),
            leader: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register(
            "admission_requests",
            "Admission requests for workloads and pods",
            metrics.admission_requests.clone(),
        );
        registry.register_with_unit(
            "admission_duration",
            "Time to review an admission request",
            Unit::Seconds,
            metrics.admission_duration.clone(),
        );
        registry.register(
            "admission_bad_requests",
            "Requests to the webhook that were no admission review of a workload or pod",
            metrics.admission_bad_requests.clone(),
        );
        registry.register(
            "admission_overload",
            "Requests to the webhook that found no memory or came too slowly, and weren't reviewed",
            metrics.overload.clone(),
        );
        registry.register(
            "rejected_connections",
            "Connections closed at once because of a limit on their number",
            metrics.rejected_connections.clone(),
        );
        registry.register("panics", "Panics that were caught", metrics.panics.clone());
        // A counter that is exported from the beginning shows its first increase.
        for &reason in Overload::ALL {
            drop(metrics.overload.get_or_create(&OverloadLabels { reason }));
        }
        for &port in Port::ALL {
            drop(metrics.rejected_connections.get_or_create(&PortLabel { port }));
        }
        for &component in Component::ALL {
            drop(metrics.panics.get_or_create(&PanicLabels { component }));
        }
        registry.register(
            "reconciles",
            "Workloads that the controller looked at",
            metrics.reconciles.clone(),
        );
        registry.register(
            "workloads",
            "Managed workloads by how they stand, counted by the replica that leads",
            metrics.workloads.clone(),
        );
        registry.register(
            "failed_rollouts",
            "Rollouts for policies that failed, so that no other begins",
            metrics.failed_rollouts.clone(),
        );
        registry.register(
            "undecodable_objects",
            "Watched objects that can't be decoded and are ignored",
            metrics.undecodable_objects.clone(),
        );
        registry.register(
            "oversized_objects",
            "Watched objects that are too large to be read",
            metrics.oversized_objects.clone(),
        );
        registry.register(
            "certificate_not_before_timestamp_seconds",
            "When the serving certificate began to be valid",
            metrics.certificate_not_before.clone(),
        );
        registry.register(
            "certificate_expiration_timestamp_seconds",
            "When the serving certificate expires",
            metrics.certificate_expiration.clone(),
        );
        registry.register("leader_status", "Whether this replica leads", metrics.leader.clone());
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", version);
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// The metrics as OpenMetrics text.
    ///
    /// # Errors
    /// Never in practice: the text grows in memory.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut rendered = String::new();
        text::encode(&mut rendered, &self.registry)?;
        Ok(rendered)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let metrics = Metrics::default();
        let labels = AdmissionLabels { kind: KindLabel("Deployment"), result: AdmissionResult::Patched };
        metrics.admission_requests.get_or_create(&labels).inc();
        metrics.admission_duration.observe(0.001);
        let text = metrics.render().unwrap();
        for line in [
            "adieu_admission_requests_total{kind=\"Deployment\",result=\"patched\"} 1",
            "adieu_admission_duration_seconds_count 1",
            "adieu_certificate_not_before_timestamp_seconds 0",
            "adieu_certificate_expiration_timestamp_seconds 0",
            "adieu_build_info{version=",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn alerts_and_dashboard_are_about_metrics_that_there_are() {
        let metrics = Metrics::default();
        let kind = || KindLabel("Deployment");
        let reconciled = ReconcileLabels { kind: kind(), result: ReconcileResult::ApiError };
        metrics.reconciles.get_or_create(&reconciled).inc();
        let admitted = AdmissionLabels { kind: kind(), result: AdmissionResult::Patched };
        metrics.admission_requests.get_or_create(&admitted).inc();
        let counted = WorkloadLabels { kind: kind(), state: WorkloadState::Injected };
        metrics.workloads.get_or_create(&counted).set(1);
        for family in [&metrics.undecodable_objects, &metrics.oversized_objects] {
            family.get_or_create(&ObjectLabels { kind: kind() }).set(1);
        }
        let text = metrics.render().unwrap();
        let name = regex::Regex::new("adieu_[a-z_]+").unwrap();
        for (file, least) in [
            (include_str!("../../charts/adieu/files/alerts.yaml"), 5),
            (include_str!("../../charts/adieu/files/dashboard.json"), 9),
        ] {
            let named: BTreeSet<_> = name.find_iter(file).map(|found| found.as_str()).collect();
            assert!(named.len() >= least, "{named:?}");
            for name in named {
                let is =
                    |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
                assert!(text.lines().any(is), "{name} is no metric:\n{text}");
            }
        }
    }

    #[test]
    fn alerts_and_dashboard_select_by_labels_that_there_are() {
        let states = WorkloadState::ALL.iter().map(|state| state.as_str());
        let results = ReconcileResult::ALL.iter().map(|result| result.as_str());
        let admissions = AdmissionResult::ALL.iter().map(|result| result.as_str());
        let known: BTreeSet<_> = states.chain(results).chain(admissions).collect();
        let selected = regex::Regex::new(r#"(?:result|state)[!=]=?~?\\?"([A-Za-z_|]+)\\?""#).unwrap();
        for (file, least) in [
            (include_str!("../../charts/adieu/files/alerts.yaml"), 1),
            (include_str!("../../charts/adieu/files/dashboard.json"), 3),
        ] {
            let values: BTreeSet<_> =
                selected.captures_iter(file).flat_map(|found| found.extract::<1>().1[0].split('|')).collect();
            assert!(values.len() >= least, "{values:?}");
            for value in values {
                assert!(known.contains(value), "no metric has the label value {value}");
            }
        }
    }
}
