//! The preStop hook of a container.

use serde_json::{Map, Value, json};

use super::{
    hook_duration::pre_stop_seconds,
    record::{ContainerRecord, ParentState, replace_field},
    settings::Settings,
};
use crate::api::{ExistingHookPolicy, IntOrString, PreStopMethod, limits};

/// The rules for preStop hooks under some settings.
#[derive(Clone, Copy)]
pub(super) struct Hooks<'a> {
    pub(super) settings: &'a Settings,
    /// Whether every kubelet has the native sleep action.
    pub(super) native_sleep: bool,
}

/// The hook of a container after the injection.
pub(super) enum Hook<'a> {
    /// The injected one.
    Injected,
    /// The user's.
    User(&'a Value),
    /// None.
    None,
}

impl<'a> Hooks<'a> {
    /// Injects the hook of `container` and records it in `given`. False if there is none to inject.
    pub(super) fn inject(self, container: &mut Map<String, Value>, given: &mut ContainerRecord) -> bool {
        if !self.needs_hook(container) {
            return false;
        }
        let handler = self.handler(container);
        // The API server rejects a lifecycle that is not an object.
        let Some((lifecycle, holder)) = ParentState::ensure_object(container, "lifecycle") else {
            return false;
        };
        given.lifecycle = lifecycle;
        given.pre_stop = Some(replace_field(holder, "preStop", handler));
        true
    }

    /// Whether `container` would get a hook.
    pub(super) fn needs_hook(self, container: &Map<String, Value>) -> bool {
        matches!(self.decide(container), Hook::Injected)
    }

    pub(super) fn decide(self, container: &'a Map<String, Value>) -> Hook<'a> {
        let own = own_hook(container);
        let replace = self.settings.existing.value == ExistingHookPolicy::Replace;
        match own {
            _ if self.excludes(container) || self.settings.drain_seconds.value <= 0 => {
                own.map_or(Hook::None, Hook::User)
            }
            None => Hook::Injected,
            // With a sleep of 0, a user opts the container out.
            Some(own) if replace && pre_stop_seconds(own) != Some(0) => Hook::Injected,
            Some(own) => Hook::User(own),
        }
    }

    /// Whether the container is not injected: it is excluded, or has no name for the record. The API server rejects the
    /// latter.
    pub(super) fn excludes(self, container: &Map<String, Value>) -> bool {
        let name = name(container);
        name.is_empty() || self.settings.exclude.value.iter().any(|excluded| name == excluded)
    }

    /// The hook to inject.
    fn handler(self, container: &Map<String, Value>) -> Value {
        self.request(container).unwrap_or_else(|| self.sleep())
    }

    /// The request, for the method `HTTPGet` and a container that declares the port. The scheme is the API server's default.
    pub(super) fn request(self, container: &Map<String, Value>) -> Option<Value> {
        let is_request = self.settings.pre_stop_method.value == PreStopMethod::HttpGet;
        let request = self.settings.http_get.value.as_ref().filter(|_| is_request)?;
        let mut ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
        let declared = ports.any(|port| {
            let matches = match &request.port {
                IntOrString::Int(number) => port["containerPort"] == *number,
                IntOrString::String(name) => port["name"] == **name,
            };
            matches && is_tcp(port)
        });
        declared.then(|| json!({"httpGet": {"path": request.path, "port": request.port, "scheme": "HTTP"}}))
    }

    /// Whether the hook to inject runs the command `sleep`.
    pub(super) fn is_exec(self, container: &Map<String, Value>) -> bool {
        !self.sleeps_natively() && self.request(container).is_none()
    }

    fn sleeps_natively(self) -> bool {
        match self.settings.pre_stop_method.value {
            PreStopMethod::Sleep => true,
            PreStopMethod::Exec => false,
            PreStopMethod::Auto | PreStopMethod::HttpGet => self.native_sleep,
        }
    }

    fn sleep(self) -> Value {
        let seconds = self.settings.drain_seconds.value;
        if self.sleeps_natively() {
            json!({"sleep": {"seconds": seconds}})
        } else {
            json!({"exec": {"command": ["sleep", seconds.to_string()]}})
        }
    }
}

/// The longest native sleep, in seconds, which the API server compares with the grace period (KEP-4818).
pub(super) fn longest_sleep(spec: &Map<String, Value>) -> Option<i64> {
    native_sleeps(spec, "preStop").chain(native_sleeps(spec, "postStart")).max()
}

/// The native sleeps, in seconds, in one hook of the containers and native sidecars.
pub(super) fn native_sleeps(spec: &Map<String, Value>, hook: &str) -> impl Iterator<Item = i64> {
    let of_sidecars = sidecars(spec).filter_map(Value::as_object);
    let lifecycles = containers(spec).chain(of_sidecars).filter_map(|container| container.get("lifecycle"));
    lifecycles.filter_map(move |lifecycle| lifecycle[hook]["sleep"]["seconds"].as_i64())
}

/// Init containers that run as long as the main containers (KEP-753).
pub(super) fn sidecars(spec: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let init = spec.get("initContainers").and_then(Value::as_array).into_iter().flatten();
    init.filter(|container| container["restartPolicy"] == "Always")
}

/// Whether a container's port uses TCP, which is the API server's default.
pub(super) fn is_tcp(port: &Value) -> bool {
    port["protocol"].as_str().is_none_or(|protocol| matches!(protocol, "" | "TCP"))
}

/// The regular containers.
pub(super) fn containers(spec: &Map<String, Value>) -> impl Iterator<Item = &Map<String, Value>> {
    spec.get("containers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

/// The container's name, or an empty text if it has none, or one that is too long for the API server.
pub(super) fn name(container: &Map<String, Value>) -> &str {
    let name = container.get("name").and_then(Value::as_str);
    name.filter(|name| name.len() <= limits::CONTAINER_NAME_LENGTH).unwrap_or_default()
}

/// The user's preStop. That includes `{}`, which the API server rejects.
pub(super) fn own_hook(container: &Map<String, Value>) -> Option<&Value> {
    container.get("lifecycle")?.get("preStop").filter(|hook| !hook.is_null())
}
