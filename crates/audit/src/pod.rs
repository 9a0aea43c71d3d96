//! The pod template of an audited workload.

use serde_json::Value;

use crate::container::Container;

/// What the API server sets if a pod has no grace period, in seconds.
pub(crate) const DEFAULT_GRACE_PERIOD_SECONDS: i64 = 30;

/// A pod template.
#[derive(Debug)]
pub(crate) struct Pod<'a> {
    pub(crate) spec: &'a Value,
    /// The path of its spec.
    path: String,
    pub(crate) containers: Vec<Container<'a>>,
    /// Init containers that run as long as the main containers (KEP-753).
    pub(crate) native_sidecars: Vec<Container<'a>>,
}

impl<'a> Pod<'a> {
    /// The pod of a template at this path.
    pub(crate) fn new(template: &'a Value, template_path: &str) -> Self {
        let spec = &template["spec"];
        let path = format!("{template_path}.spec");
        let list = |field: &str| -> Vec<Container<'a>> {
            let containers = spec[field].as_array().into_iter().flatten().enumerate();
            containers.map(|(i, value)| Container::new(value, format!("{path}.{field}[{i}]"))).collect()
        };
        let containers = list("containers");
        let native_sidecars = list("initContainers")
            .into_iter()
            .filter(|init| init.value["restartPolicy"] == "Always")
            .collect();
        Self { spec, path, containers, native_sidecars }
    }

    pub(crate) fn path(&self, field: &str) -> String {
        format!("{}.{field}", self.path)
    }

    /// The grace period in seconds; `None` if it isn't a whole number, such as a variable.
    pub(crate) fn grace_period_seconds(&self) -> Option<i64> {
        match &self.spec["terminationGracePeriodSeconds"] {
            Value::Null => Some(DEFAULT_GRACE_PERIOD_SECONDS),
            value => value.as_i64(),
        }
    }

    pub(crate) fn container(&self, name: &str) -> Option<&Container<'a>> {
        self.containers.iter().find(|container| container.name == name)
    }

    pub(crate) fn uses_host_network(&self) -> bool {
        self.spec["hostNetwork"] == true
    }

    /// Whether it mounts a `PersistentVolumeClaim`, a `hostPath` or an NFS volume, which often only one pod may use at a time.
    pub(crate) fn has_data(&self) -> bool {
        let volumes = self.spec["volumes"].as_array().into_iter().flatten();
        volumes.into_iter().any(|volume| {
            ["persistentVolumeClaim", "hostPath", "nfs"].iter().any(|kind| volume[*kind].is_object())
        })
    }
}
