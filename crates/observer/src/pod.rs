//! A terminating pod: the fields that tell how it terminates.

use adieu_core::{
    api::{RequestedTimes, WorkloadKind as Kind, annotations::INJECTED, limits},
    plan::{PodTemplate, pre_stop_seconds},
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::{json, value::RawValue};

/// The API server's default, in seconds.
const DEFAULT_GRACE_PERIOD: i64 = 30;
/// The longest preStop hook that is read, in bytes.
const HOOK_LIMIT: usize = 16 << 10;
/// The reason of the condition `DisruptionTarget` of a pod that its kubelet ended.
pub(crate) const BY_KUBELET: &str = "TerminationByKubelet";
/// The seconds in which the kubelet reports the ends of a pod's containers: it removes their network first.
const REPORT_DELAY: i64 = 10;

/// A pod that is being deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminatingPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its controller.
    pub owner: PodOwner,
    /// The node that it runs on.
    pub node: Option<String>,
    /// When its termination started; at the earliest if that is not known.
    pub start: Timestamp,
    /// The times that it asks for.
    pub requested: RequestedTimes,
    /// The grace period of its deletion, in seconds: a client may ask for a longer or shorter one. 0 if the API server
    /// deletes it without one, because its containers have ended or by force.
    pub granted_seconds: i64,
    /// Its containers, native sidecars included.
    pub containers: Vec<ContainerState>,
    /// The reason of its condition `DisruptionTarget`.
    pub disruption: Option<String>,
    /// The reason of its status, for example `Evicted`.
    pub status_reason: Option<String>,
}

/// The controller of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodOwner {
    /// A workload of `apps/v1`.
    Workload {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// What tells the pod's revision: the `ReplicaSet` of a Deployment, the hash of a StatefulSet's revision, the
        /// generation of a `DaemonSet`'s template.
        revision: Option<String>,
    },
    /// A Job.
    Job,
    /// Another controller, or none.
    Other,
}

/// A container of a terminating pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerState {
    /// Its name.
    pub name: String,
    /// The duration of its preStop hook, in seconds: 0 without one or if unknown.
    pub pre_stop: i64,
    /// Whether it is a native sidecar, which is stopped after the main containers.
    pub is_sidecar: bool,
    /// Whether it runs.
    pub is_running: bool,
    /// Whether it ran in an earlier version of the terminating pod. The node's clock may differ from the API server's.
    pub has_run: bool,
    /// How it ended; `None` if it runs or never ran.
    pub end: Option<ContainerEnd>,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerEnd {
    /// Its exit code.
    pub exit_code: i32,
    /// When it ended.
    pub at: Timestamp,
    /// Whether the kernel killed it because of its memory.
    pub out_of_memory: bool,
}

impl TerminatingPod {
    /// Decodes a pod; `None` if it isn't being deleted.
    ///
    /// # Errors
    /// If it isn't a pod.
    pub fn decode(text: &[u8]) -> Result<Option<Self>, serde_json::Error> {
        let Deleted { metadata: DeletedMetadata { deletion_timestamp } } = serde_json::from_slice(text)?;
        if deletion_timestamp.is_none() {
            return Ok(None);
        }
        Ok(Pod::deserialize(&mut serde_json::Deserializer::from_slice(text))?.terminating())
    }

    /// Whether it is known when its termination started.
    pub(crate) fn is_start_known(&self) -> bool {
        self.granted_seconds > 0 || self.disruption.as_deref() != Some(BY_KUBELET)
    }

    /// Whether a container was running when the termination started.
    pub(crate) fn was_running(&self) -> bool {
        self.containers.iter().any(|container| container.ran_at(self.start))
    }

    /// The workload that it belongs to.
    #[must_use]
    pub fn workload(&self) -> Option<(Kind, &str)> {
        match &self.owner {
            PodOwner::Workload { kind, name, .. } => Some((*kind, name)),
            _ => None,
        }
    }
}

impl ContainerState {
    /// Whether it ran at this time.
    pub(crate) fn ran_at(&self, time: Timestamp) -> bool {
        self.is_running || self.has_run || self.end.as_ref().is_some_and(|end| end.at >= time)
    }
}

#[derive(Deserialize)]
struct Deleted {
    metadata: DeletedMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeletedMetadata {
    #[serde(default)]
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Pod<'a> {
    metadata: Metadata,
    #[serde(borrow, default)]
    spec: Spec<'a>,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    namespace: String,
    name: String,
    uid: String,
    deletion_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    annotations: Annotations,
    #[serde(default)]
    owner_references: Vec<OwnerReference>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Labels {
    pod_template_hash: Option<String>,
    controller_revision_hash: Option<String>,
    pod_template_generation: Option<String>,
}

#[derive(Default)]
struct Annotations {
    record: Option<String>,
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// The annotation of the record.
        #[derive(Deserialize)]
        struct Record {
            #[serde(rename = "adieu.dev/injected")]
            record: Option<String>,
        }
        debug_assert_eq!(INJECTED, "adieu.dev/injected");
        Ok(Self { record: Option::<Record>::deserialize(deserializer)?.and_then(|found| found.record) })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnerReference {
    api_version: String,
    kind: String,
    name: String,
    #[serde(default)]
    controller: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec<'a> {
    node_name: Option<String>,
    termination_grace_period_seconds: Option<i64>,
    #[serde(borrow)]
    containers: Vec<Container<'a>>,
    #[serde(borrow)]
    init_containers: Vec<Container<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container<'a> {
    name: String,
    restart_policy: Option<String>,
    #[serde(borrow)]
    lifecycle: Option<Lifecycle<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lifecycle<'a> {
    #[serde(borrow)]
    pre_stop: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    reason: Option<String>,
    conditions: Vec<Condition>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    name: String,
    status: String,
    reason: Option<String>,
    last_transition_time: Option<Time>,
}

#[derive(Deserialize)]
struct ContainerStatus {
    name: String,
    #[serde(default)]
    state: State,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct State {
    running: Option<IgnoredAny>,
    terminated: Option<Terminated>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Terminated {
    #[serde(default)]
    exit_code: i32,
    reason: Option<String>,
    finished_at: Option<Time>,
}

impl Pod<'_> {
    fn terminating(self) -> Option<TerminatingPod> {
        let Metadata { deletion_timestamp, deletion_grace_period_seconds, .. } = &self.metadata;
        let deletion = deletion_timestamp.as_ref()?.0;
        let granted = deletion_grace_period_seconds.unwrap_or_default().clamp(0, limits::MEASURED_SECONDS);
        let grace = self.spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_PERIOD);
        let grace = grace.clamp(0, limits::MEASURED_SECONDS);
        let start = seconds_before(deletion, granted);
        let disruption = self.status.conditions.iter();
        let disruption = disruption
            .into_iter()
            .find(|condition| condition.name == "DisruptionTarget" && condition.status == "True");
        // The kubelet deletes no pod of a node that shuts down, and sets the condition once the containers have ended.
        let reported = disruption
            .filter(|condition| granted == 0 && condition.reason.as_deref() == Some(BY_KUBELET))
            .and_then(|condition| condition.last_transition_time.as_ref());
        let start = reported.map_or(start, |at| start.min(seconds_before(at.0, grace + REPORT_DELAY)));
        let containers = self.containers();
        let requested = RequestedTimes {
            grace_period_seconds: grace,
            pre_stop_seconds: containers.iter().map(|container| container.pre_stop).max().unwrap_or_default(),
            shutdown_timeout_seconds: self.metadata.annotations.record.as_deref().and_then(shutdown_timeout),
        };
        Some(TerminatingPod {
            owner: self.owner(),
            start,
            requested,
            granted_seconds: granted,
            containers,
            disruption: disruption.and_then(|condition| condition.reason.clone()),
            status_reason: self.status.reason,
            node: self.spec.node_name,
            namespace: self.metadata.namespace,
            name: self.metadata.name,
            uid: self.metadata.uid,
        })
    }

    fn containers(&self) -> Vec<ContainerState> {
        let sidecars = self.spec.init_containers.iter();
        let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let main = self.spec.containers.iter().map(|container| (container, false));
        let all = main.chain(sidecars.map(|container| (container, true)));
        let state = |(container, is_sidecar): (&Container<'_>, bool)| {
            let Status { container_statuses, init_container_statuses, .. } = &self.status;
            let statuses = if is_sidecar { init_container_statuses } else { container_statuses };
            let status = statuses.iter().find(|status| status.name == container.name);
            let end = status.and_then(|status| status.state.terminated.as_ref()).and_then(Terminated::end);
            ContainerState {
                name: container.name.clone(),
                pre_stop: container.pre_stop_seconds(),
                is_sidecar,
                is_running: status.is_some_and(|status| status.state.running.is_some()),
                has_run: false,
                end,
            }
        };
        all.take(limits::CONTAINERS)
            .map(state)
            .filter(|state| state.is_running || state.end.is_some())
            .collect()
    }

    fn owner(&self) -> PodOwner {
        let owner = self.metadata.owner_references.iter().find(|owner| owner.controller);
        // The API server accepts a name of any length here.
        let Some(owner) = owner.filter(|owner| owner.name.len() <= limits::OBJECT_NAME_LENGTH) else {
            return PodOwner::Other;
        };
        let Labels { pod_template_hash, controller_revision_hash, pod_template_generation } =
            &self.metadata.labels;
        let workload =
            |kind, name: &str, revision| PodOwner::Workload { kind, name: name.to_owned(), revision };
        match (owner.api_version.as_str(), owner.kind.as_str()) {
            ("apps/v1", "ReplicaSet") => {
                let hash = pod_template_hash.as_deref().unwrap_or_default();
                match owner.name.strip_suffix(hash).and_then(|name| name.strip_suffix('-')) {
                    Some(name) if !hash.is_empty() => {
                        workload(Kind::Deployment, name, Some(owner.name.clone()))
                    }
                    _ => PodOwner::Other,
                }
            }
            ("apps/v1", "StatefulSet") => {
                workload(Kind::StatefulSet, &owner.name, controller_revision_hash.clone())
            }
            ("apps/v1", "DaemonSet") => {
                workload(Kind::DaemonSet, &owner.name, pod_template_generation.clone())
            }
            ("batch/v1", "Job") => PodOwner::Job,
            _ => PodOwner::Other,
        }
    }
}

impl Container<'_> {
    fn pre_stop_seconds(&self) -> i64 {
        let hook = self.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop).map(RawValue::get);
        let hook = hook.filter(|hook| hook.len() <= HOOK_LIMIT).map(serde_json::from_str);
        let seconds = hook.and_then(Result::ok).and_then(|hook| pre_stop_seconds(&hook));
        seconds.unwrap_or_default().clamp(0, limits::MEASURED_SECONDS)
    }
}

impl Terminated {
    fn end(&self) -> Option<ContainerEnd> {
        let out_of_memory = self.reason.as_deref() == Some("OOMKilled");
        let at = self.finished_at.as_ref()?.0;
        Some(ContainerEnd { exit_code: self.exit_code, at, out_of_memory })
    }
}

/// The shutdown timeout in the record of a pod's injection.
fn shutdown_timeout(record: &str) -> Option<i64> {
    let pod = json!({"metadata": {"annotations": {INJECTED: record}}});
    let timeout = PodTemplate::new(&pod).record()?.settings.shutdown_timeout_seconds.value;
    Some(timeout.clamp(0, limits::SHUTDOWN_TIMEOUT_SECONDS))
}

/// The time that many seconds earlier.
fn seconds_before(time: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_second(time.as_second() - seconds).unwrap_or(time)
}
