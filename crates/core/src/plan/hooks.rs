//! Which preStop hook a container gets.

use serde_json::{Map, Value, json};

use super::{
    Settings,
    grace::own_hook,
    record::{ContainerRecord, Parent, put},
    timing::pre_stop_seconds,
};
use crate::api::{ExistingHookPolicy, IntOrString, PreStopMethod};

/// The rules for preStop hooks under some settings.
#[derive(Clone, Copy)]
pub(super) struct Hooks<'a> {
    pub(super) settings: &'a Settings,
    /// Whether every kubelet has the native sleep action.
    pub(super) native_sleep: bool,
}

/// The hook that a container has once injection is done.
pub(super) enum Hook<'a> {
    /// The injected one.
    Injected,
    /// The user's.
    Own(&'a Value),
    /// It has none, and gets none.
    None,
}

impl<'a> Hooks<'a> {
    /// Gives `container` the hook that it shall have and notes it in `given`; whether there was one to give.
    pub(super) fn inject(self, container: &mut Map<String, Value>, given: &mut ContainerRecord) -> bool {
        if !self.is_due(container) {
            return false;
        }
        let handler = self.handler(container);
        // A lifecycle that is no object is the API server's to refuse.
        let Some((lifecycle, holder)) = Parent::open(container, "lifecycle") else { return false };
        given.lifecycle = lifecycle;
        given.pre_stop = Some(put(holder, "preStop", handler));
        true
    }

    /// Whether `container` would get a hook.
    pub(super) fn is_due(self, container: &Map<String, Value>) -> bool {
        matches!(self.decide(container), Hook::Injected)
    }

    pub(super) fn decide(self, container: &'a Map<String, Value>) -> Hook<'a> {
        let own = own_hook(container);
        let replace = self.settings.existing.value == ExistingHookPolicy::Replace;
        match own {
            _ if self.excludes(container) || self.settings.drain_seconds.value <= 0 => {
                own.map_or(Hook::None, Hook::Own)
            }
            None => Hook::Injected,
            // A sleep of 0 is how a user says that this container shall not wait.
            Some(own) if replace && pre_stop_seconds(own) != Some(0) => Hook::Injected,
            Some(own) => Hook::Own(own),
        }
    }

    /// Whether the container is left alone. What has no name, and so is no use to the API server, can't be recorded.
    pub(super) fn excludes(self, container: &Map<String, Value>) -> bool {
        let name = name(container);
        name.is_empty() || self.settings.exclude.value.iter().any(|excluded| name == excluded)
    }

    /// The hook to inject.
    pub(super) fn handler(self, container: &Map<String, Value>) -> Value {
        self.request(container).unwrap_or_else(|| self.sleep())
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
    native_sleeps(spec, "preStop").chain(native_sleeps(spec, "postStart")).max()
}

/// The native sleeps, in seconds, in one hook of the containers and native sidecars.
pub(super) fn native_sleeps(spec: &Map<String, Value>, hook: &str) -> impl Iterator<Item = i64> {
    let of_sidecars = sidecars(spec).filter_map(Value::as_object);
    let lifecycles = containers(spec).chain(of_sidecars).filter_map(|container| container.get("lifecycle"));
    lifecycles.filter_map(move |lifecycle| lifecycle[hook]["sleep"]["seconds"].as_i64())
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

/// The regular containers.
pub(super) fn containers(spec: &Map<String, Value>) -> impl Iterator<Item = &Map<String, Value>> {
    spec.get("containers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

/// The container's name, or nothing.
pub(super) fn name(container: &Map<String, Value>) -> &str {
    container.get("name").and_then(Value::as_str).unwrap_or_default()
}
