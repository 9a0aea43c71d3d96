//! Which preStop hook a container gets, and how long it takes.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Map, Value, json};

use super::{
    Setting, Settings, grace_period_seconds,
    record::{ContainerRecord, Parent, put},
    timing::pre_stop_seconds,
};
use crate::api::{Existing, PreStopMethod};

/// The rules for preStop hooks under some settings.
#[derive(Clone, Copy)]
pub(super) struct Hooks<'a> {
    pub(super) settings: &'a Settings,
    /// Whether every kubelet has the native sleep action.
    pub(super) native_sleep: bool,
}

/// What becomes of a container's hook.
enum Verdict<'a> {
    /// It gets one.
    Inject,
    /// The user's stays.
    Keep(&'a Value),
    /// It has none, and gets none.
    Leave,
}

impl Hooks<'_> {
    /// Gives `container` the hook that it shall have and notes it in `given`; whether there was one to give.
    pub(super) fn inject(self, container: &mut Map<String, Value>, given: &mut ContainerRecord) -> bool {
        if !self.is_due(container) {
            return false;
        }
        let handler = self.request(container).unwrap_or_else(|| self.sleep());
        // A lifecycle that is no object is the API server's to refuse.
        let Some((lifecycle, holder)) = Parent::open(container, "lifecycle") else { return false };
        given.lifecycle = lifecycle;
        given.pre_stop = Some(put(holder, "preStop", handler));
        true
    }

    /// The grace period, in seconds, that the pod needs once injection is done; an error where that is more
    /// than the maximum.
    pub(super) fn grace_period(
        self,
        spec: &Map<String, Value>,
        warnings: &mut Vec<String>,
    ) -> Result<i64, String> {
        let needed =
            grace_period_seconds(self.settings, self.longest(spec, warnings), sidecars(spec).count());
        // The API server refuses a sleep that is longer than the grace period, also a sidecar's, and also one
        // after the start (KEP-4818).
        let of_sidecars = sidecars(spec).filter_map(|sidecar| sidecar.get("lifecycle"));
        let of_sidecars = of_sidecars.flat_map(|lifecycle| [&lifecycle["preStop"], &lifecycle["postStart"]]);
        let after = containers(spec).filter_map(|container| container.get("lifecycle")?.get("postStart"));
        let sleeps = of_sidecars.chain(after).filter_map(|hook| hook["sleep"]["seconds"].as_i64());
        let needed = sleeps.fold(needed, i64::max);
        let Setting { value: maximum, from } = &self.settings.max_grace_period_seconds;
        if needed > *maximum {
            return Err(format!(
                "needs a grace period of {needed} s, more than the maximum of {maximum} s ({from}): nothing is \
                 injected; lower the drain or the shutdown timeout, or raise maxGracePeriodSeconds in a policy"
            ));
        }
        Ok(needed)
    }

    /// The longest time, in seconds, that a container's preStop takes once injection is done.
    fn longest(self, spec: &Map<String, Value>, warnings: &mut Vec<String>) -> i64 {
        let drain = self.settings.drain_seconds.value;
        let seconds = containers(spec).map(|container| match self.verdict(container) {
            Verdict::Inject => drain,
            Verdict::Leave => 0,
            Verdict::Keep(handler) => pre_stop_seconds(handler).unwrap_or_else(|| {
                warnings.push(format!(
                    "container {:?}: how long its own preStop takes can't be read from it and is counted as the drain of {drain} s",
                    name(container)
                ));
                drain
            }),
        });
        seconds.max().unwrap_or(drain)
    }

    /// Says what can't be done as it was asked for.
    pub(super) fn advise(self, spec: &Map<String, Value>, warnings: &mut Vec<String>) {
        let Settings { pre_stop_method, http_get, exclude, .. } = self.settings;
        if pre_stop_method.value == PreStopMethod::HttpGet && http_get.value.is_none() {
            warnings.push(format!(
                "the preStop method is HTTPGet ({}), but no policy says which path and port: the drain is a sleep",
                pre_stop_method.from
            ));
        }
        let due = || containers(spec).any(|container| self.is_due(container));
        if pre_stop_method.value == PreStopMethod::Sleep && !self.native_sleep && due() {
            warnings.push(format!(
                "the preStop method is Sleep ({}), which not all of the cluster knows (Kubernetes 1.30 and \
                 later): it may be refused or dropped; use Auto or Exec",
                pre_stop_method.from
            ));
        }
        let known = |excluded: &String| {
            names(spec, "containers").chain(names(spec, "initContainers")).any(|n| n == excluded)
        };
        // A policy's names are for many workloads; an annotation's are for this one.
        for excluded in exclude.value.iter().filter(|e| exclude.from.is_annotation() && !known(e)) {
            warnings.push(format!(
                "no container here is named {excluded:?}, which is to be left alone: unless it is added to the \
                 pods, check its spelling"
            ));
        }
    }

    /// Whether `container` would get a hook.
    pub(super) fn is_due(self, container: &Map<String, Value>) -> bool {
        matches!(self.verdict(container), Verdict::Inject)
    }

    fn verdict(self, container: &Map<String, Value>) -> Verdict<'_> {
        // `{}`, too, is the user's, and the API server's to refuse.
        let own = container.get("lifecycle").and_then(|l| l.get("preStop")).filter(|h| !h.is_null());
        // What has no name, and so is no use to the API server, can't be recorded.
        let name = name(container);
        let excluded = name.is_empty() || self.settings.exclude.value.iter().any(|excluded| name == excluded);
        let replace = self.settings.existing.value == Existing::Replace;
        match own {
            _ if excluded || self.settings.drain_seconds.value <= 0 => {
                own.map_or(Verdict::Leave, Verdict::Keep)
            }
            None => Verdict::Inject,
            // A sleep of 0 is how a user says that this container shall not wait.
            Some(own) if replace && pre_stop_seconds(own) != Some(0) => Verdict::Inject,
            Some(own) => Verdict::Keep(own),
        }
    }

    /// For the method `HTTPGet`, in a container that declares the port. The scheme is what the API server
    /// would fill in.
    fn request(self, container: &Map<String, Value>) -> Option<Value> {
        let asked = self.settings.pre_stop_method.value == PreStopMethod::HttpGet;
        let request = self.settings.http_get.value.as_ref().filter(|_| asked)?;
        let mut ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
        let declared = ports.any(|port| {
            let meant = match &request.port {
                IntOrString::Int(number) => port["containerPort"] == *number,
                IntOrString::String(name) => port["name"] == **name,
            };
            meant && is_tcp(port)
        });
        declared.then(|| json!({"httpGet": {"path": request.path, "port": request.port, "scheme": "HTTP"}}))
    }

    fn sleep(self) -> Value {
        let seconds = self.settings.drain_seconds.value;
        let native = match self.settings.pre_stop_method.value {
            PreStopMethod::Sleep => true,
            PreStopMethod::Exec => false,
            PreStopMethod::Auto | PreStopMethod::HttpGet => self.native_sleep,
        };
        if native {
            json!({"sleep": {"seconds": seconds}})
        } else {
            json!({"exec": {"command": ["sleep", seconds.to_string()]}})
        }
    }
}

/// The longest native sleep, in seconds, of those that the API server compares with the grace period
/// (KEP-4818).
pub(super) fn longest_sleep(spec: &Map<String, Value>) -> Option<i64> {
    let of_sidecars = sidecars(spec).filter_map(|sidecar| sidecar.get("lifecycle"));
    let lifecycles = containers(spec).filter_map(|container| container.get("lifecycle")).chain(of_sidecars);
    let hooks = lifecycles.flat_map(|lifecycle| [&lifecycle["preStop"], &lifecycle["postStart"]]);
    hooks.filter_map(|hook| hook["sleep"]["seconds"].as_i64()).max()
}

/// Init containers that keep running beside the main containers (KEP-753).
pub(super) fn sidecars(spec: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let init = spec.get("initContainers").and_then(Value::as_array).into_iter().flatten();
    init.filter(|container| container["restartPolicy"] == "Always")
}

/// Whether a container's port is one of TCP, which is also what the API server fills in.
pub(super) fn is_tcp(port: &Value) -> bool {
    port["protocol"].as_str().is_none_or(|protocol| protocol == "TCP")
}

fn names<'a>(spec: &'a Map<String, Value>, list: &str) -> impl Iterator<Item = &'a str> {
    let containers = spec.get(list).and_then(Value::as_array).into_iter().flatten();
    containers.filter_map(|container| container["name"].as_str())
}

fn containers(spec: &Map<String, Value>) -> impl Iterator<Item = &Map<String, Value>> {
    spec.get("containers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

fn name(container: &Map<String, Value>) -> &str {
    container.get("name").and_then(Value::as_str).unwrap_or_default()
}
