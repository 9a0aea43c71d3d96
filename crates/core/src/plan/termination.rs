//! How the pods of a template terminate.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    command_duration::HookDuration,
    grace_period::grace_period,
    hook_duration::pre_stop_duration,
    hooks::{own_hook, sidecars},
};

/// The termination of a pod, in seconds from its start.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Termination {
    /// When the pod is killed.
    pub grace_period_seconds: i64,
    /// How long the application may take after SIGTERM; `None` if it isn't opted in: it is unknown.
    pub shutdown_timeout_seconds: Option<i64>,
    /// How long each native sidecar may take after SIGTERM; `None` if it isn't opted in: it is unknown.
    pub sidecar_seconds: Option<i64>,
    /// The regular containers and native sidecars.
    pub containers: Vec<ContainerTermination>,
}

/// The termination of a container.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerTermination {
    /// Its name.
    pub name: String,
    /// Whether it is a native sidecar, which gets SIGTERM after all regular containers have ended.
    pub native_sidecar: bool,
    /// Seconds that its preStop hook takes before SIGTERM; 0 without one.
    pub pre_stop_seconds: i64,
    /// Whether that is exact. Otherwise the hook takes at least as long.
    pub is_exact: bool,
}

impl Termination {
    /// The seconds until the last regular container gets its SIGTERM.
    #[must_use]
    pub fn drain_seconds(&self) -> i64 {
        let regular = self.containers.iter().filter(|container| !container.native_sidecar);
        regular.map(|container| container.pre_stop_seconds).max().unwrap_or(0)
    }

    /// The seconds until the last native sidecar has ended, if the regular containers have ended at `after`. The
    /// sidecars stop one after the other; their own preStop hooks begin at the start of the termination.
    #[must_use]
    pub fn sidecars_end_seconds(&self, after: i64) -> i64 {
        let sidecars = self.containers.iter().filter(|container| container.native_sidecar);
        let longest_hook = sidecars.clone().map(|sidecar| sidecar.pre_stop_seconds).max();
        let (Some(longest_hook), Some(each)) = (longest_hook, self.sidecar_seconds) else { return after };
        let count = i64::try_from(sidecars.count()).unwrap_or(i64::MAX);
        after.max(longest_hook).saturating_add(count.saturating_mul(each))
    }
}

/// The termination of the pods of a template, without `sidecar_seconds`.
pub(super) fn termination(template: &Value, shutdown_timeout_seconds: Option<i64>) -> Termination {
    let none = Map::new();
    let spec = template["spec"].as_object().unwrap_or(&none);
    let regular = spec.get("containers").and_then(Value::as_array).into_iter().flatten();
    let regular = regular.filter_map(Value::as_object).map(|container| (container, false));
    let sidecars = sidecars(spec).filter_map(Value::as_object).map(|container| (container, true));
    let containers = regular.chain(sidecars).map(|(container, native_sidecar)| {
        let (pre_stop_seconds, is_exact) = match own_hook(container).map(pre_stop_duration) {
            None => (0, true),
            Some(HookDuration::Exactly(seconds)) => (seconds, true),
            Some(HookDuration::AtLeast(seconds)) => (seconds, false),
            Some(HookDuration::Endless) => (i64::MAX, false),
        };
        ContainerTermination {
            name: container.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
            native_sidecar,
            pre_stop_seconds,
            is_exact,
        }
    });
    Termination {
        grace_period_seconds: grace_period(spec).unwrap_or_default(),
        shutdown_timeout_seconds,
        sidecar_seconds: None,
        containers: containers.collect(),
    }
}
