//! The rules.

use std::{
    fmt::{self, Display, Formatter},
    str::FromStr,
};

use serde::Serialize;

/// A rule, in the order in which they are documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A container behind a Service has no preStop hook.
    NoPrestopBehindService,
    /// The grace period ends before preStop hooks and shutdown do.
    GraceTooShort,
    /// The preStop hook runs a program that the image doesn't have.
    PrestopNeedsBinary,
    /// A container behind a Service has no readiness probe.
    NoReadinessBehindService,
    /// The preStop hook of a single replica makes it unready first.
    ReadinessFailsFirstSingleReplica,
    /// The kubelets stop exec readiness probes when a pod is deleted.
    ExecReadinessFrozen,
    /// Each rollout is an outage.
    SingleReplicaRecreate,
    /// A PodDisruptionBudget allows no eviction.
    PdbBlocksDrain,
    /// Replicas behind a Service have no PodDisruptionBudget.
    NoPdb,
    /// Two PodDisruptionBudgets select the same pods.
    TwoPdbs,
    /// The grace period is longer than a limit allows.
    GraceOverLimit,
    /// A proxy beside the application ends before it does.
    LegacySidecarWithoutPrestop,
    /// Native sidecars have no time left to stop.
    NativeSidecarStarved,
    /// A failed liveness probe kills the container during its preStop hook.
    LivenessKillsDuringDrain,
    /// A shell is process 1, and doesn't forward SIGTERM.
    ShellAsPid1,
    /// A load balancer keeps connections for longer than the pod drains.
    DrainShorterThanLb,
    /// Clients stay with one pod.
    SessionAffinityPins,
    /// Clients use addresses from DNS for longer than the pod drains.
    HeadlessDnsTtl,
    /// An autoscaler removes pods within seconds.
    HpaScalesInFast,
    /// An eviction fails a Job.
    JobWithoutGrace,
    /// The new pod needs a host port that the old one still has.
    HostNetworkPortConflict,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 21] = [
        Self::NoPrestopBehindService,
        Self::GraceTooShort,
        Self::PrestopNeedsBinary,
        Self::NoReadinessBehindService,
        Self::ReadinessFailsFirstSingleReplica,
        Self::ExecReadinessFrozen,
        Self::SingleReplicaRecreate,
        Self::PdbBlocksDrain,
        Self::NoPdb,
        Self::TwoPdbs,
        Self::GraceOverLimit,
        Self::LegacySidecarWithoutPrestop,
        Self::NativeSidecarStarved,
        Self::LivenessKillsDuringDrain,
        Self::ShellAsPid1,
        Self::DrainShorterThanLb,
        Self::SessionAffinityPins,
        Self::HeadlessDnsTtl,
        Self::HpaScalesInFast,
        Self::JobWithoutGrace,
        Self::HostNetworkPortConflict,
    ];

    /// Its name in output and annotations.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.texts().0
    }

    /// One sentence about what it finds.
    #[must_use]
    pub fn summary(self) -> &'static str {
        self.texts().1
    }

    #[rustfmt::skip]
    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::NoPrestopBehindService => ("no-prestop-behind-service", "A container behind a Service has no preStop hook"),
            Self::GraceTooShort => ("grace-too-short", "The grace period is shorter than preStop hook and shutdown"),
            Self::PrestopNeedsBinary => ("prestop-needs-binary", "The preStop hook runs a program that the image does not have"),
            Self::NoReadinessBehindService => ("no-readiness-behind-service", "A container behind a Service has no readiness probe"),
            Self::ReadinessFailsFirstSingleReplica => ("readiness-fails-first-single-replica", "The only replica becomes unready before a replacement pod is ready"),
            Self::ExecReadinessFrozen => ("exec-readiness-frozen", "The kubelet stops exec readiness probes when a pod is deleted"),
            Self::SingleReplicaRecreate => ("single-replica-recreate", "Each rollout stops all pods before new ones start"),
            Self::PdbBlocksDrain => ("pdb-blocks-drain", "A PodDisruptionBudget allows no eviction"),
            Self::NoPdb => ("no-pdb", "Replicas behind a Service have no PodDisruptionBudget"),
            Self::TwoPdbs => ("two-pdbs", "Several PodDisruptionBudgets select the same pods"),
            Self::GraceOverLimit => ("grace-over-limit", "The grace period is longer than a node or an autoscaler allows"),
            Self::LegacySidecarWithoutPrestop => ("legacy-sidecar-without-prestop", "A proxy beside the application stops before the application"),
            Self::NativeSidecarStarved => ("native-sidecar-starved", "Native sidecars have no time left to stop"),
            Self::LivenessKillsDuringDrain => ("liveness-kills-during-drain", "A failed liveness probe kills the container during its preStop hook"),
            Self::ShellAsPid1 => ("shell-as-pid-1", "A shell is process 1 and does not forward SIGTERM"),
            Self::DrainShorterThanLb => ("drain-shorter-than-lb", "A load balancer keeps connections for longer than the pod drains"),
            Self::SessionAffinityPins => ("session-affinity-pins", "Sessions are lost when their pod terminates"),
            Self::HeadlessDnsTtl => ("headless-dns-ttl", "Clients keep addresses from DNS for longer than the pod drains"),
            Self::HpaScalesInFast => ("hpa-scales-in-fast", "The HorizontalPodAutoscaler scales in within seconds of a load drop"),
            Self::JobWithoutGrace => ("job-without-grace", "An eviction fails the Job"),
            Self::HostNetworkPortConflict => ("host-network-port-conflict", "The new pod waits for a host port of the old one"),
        }
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Rule {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|rule| rule.name() == text).ok_or(())
    }
}

impl Serialize for Rule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
