//! A workload, as far as a decision needs it.

use std::collections::BTreeMap;

use kube::core::DynamicObject;
use serde_json::Value;

use super::{pod_template::PodTemplate, settings::Settings};
pub use crate::api::WorkloadKind as Kind;
use crate::{
    api::{InjectionTarget, annotations},
    owners::controller_of,
};

/// A workload, as the input of a decision.
#[derive(Clone, Debug)]
pub struct Workload<'a> {
    /// Its kind; `None` for a pod that no workload of `apps/v1` owns.
    pub kind: Option<Kind>,
    /// The annotations of its metadata.
    pub annotations: &'a BTreeMap<String, String>,
    /// The labels of its metadata.
    pub labels: &'a BTreeMap<String, String>,
    /// Its `spec.template`, unchanged.
    pub template: PodTemplate<'a>,
    /// Its `spec.selector`.
    pub selector: Option<&'a Value>,
    /// Whether another controller owns it, as Prometheus's operator owns a StatefulSet, and would revert a change of the
    /// template.
    pub controlled: bool,
    /// Whether its strategy is `Recreate`: old pods stop before new ones start.
    pub recreates: bool,
    /// Whether its pods are replaced only once they have terminated (`podReplacementPolicy: TerminationComplete`).
    pub replaces_terminated: bool,
}

static EMPTY: BTreeMap<String, String> = BTreeMap::new();

impl<'a> Workload<'a> {
    /// A workload without another controller.
    #[must_use]
    pub fn new(kind: Kind, annotations: &'a BTreeMap<String, String>, template: &'a Value) -> Self {
        Self {
            kind: Some(kind),
            annotations,
            labels: &EMPTY,
            template: PodTemplate::new(template),
            selector: None,
            controlled: false,
            recreates: false,
            replaces_terminated: false,
        }
    }

    /// A pod without a workload, configured by its own annotations only.
    #[must_use]
    pub fn of_pod(pod: &'a Value) -> Self {
        Self { kind: None, ..Self::new(Kind::Deployment, &EMPTY, pod) }
    }

    /// A workload of the API.
    #[must_use]
    pub fn of(kind: Kind, object: &'a DynamicObject) -> Self {
        let (metadata, spec) = (&object.metadata, &object.data["spec"]);
        Self {
            kind: Some(kind),
            annotations: metadata.annotations.as_ref().unwrap_or(&EMPTY),
            labels: metadata.labels.as_ref().unwrap_or(&EMPTY),
            template: PodTemplate::new(&spec["template"]),
            selector: spec.get("selector"),
            controlled: controller_of(metadata).is_some(),
            recreates: spec["strategy"]["type"] == "Recreate",
            replaces_terminated: is_replaced_terminated(spec),
        }
    }
}

impl<'a> Workload<'a> {
    /// This workload with another template.
    #[must_use]
    pub fn with_template<'b>(&self, template: &'b Value) -> Workload<'b>
    where
        'a: 'b,
    {
        Workload { template: PodTemplate::new(template), ..self.clone() }
    }

    /// Whether its pods are injected when they are created, instead of its template: by the settings, or because its
    /// controller would revert a change of the template.
    pub(super) fn is_injected_by_pod(&self, settings: &Settings) -> bool {
        self.controlled || settings.injection.value == InjectionTarget::Pod
    }

    /// Whether another controller created it with an injected template, as a canary tool that copies a Deployment. It
    /// keeps the injection, which its controller would restore.
    pub(super) fn is_injected_copy(&self) -> bool {
        self.controlled && self.template.record().is_some()
    }

    pub(super) fn template_annotations(&self) -> BTreeMap<String, String> {
        string_map(&self.template["metadata"]["annotations"])
    }

    pub(super) fn template_labels(&self) -> BTreeMap<String, String> {
        string_map(&self.template["metadata"]["labels"])
    }

    /// The `adieu.dev/` annotations of the workload and of its template.
    pub(super) fn parsed_annotations(&self) -> [annotations::ParsedAnnotations; 2] {
        let own = "metadata.annotations";
        let of_template = if self.kind.is_some() { "spec.template.metadata.annotations" } else { own };
        [
            annotations::parse(self.annotations, own),
            annotations::parse(&self.template_annotations(), of_template),
        ]
    }

    /// Whether it or its template has an annotation of adieu. Then its updates reach the webhook in any namespace.
    pub(super) fn has_own_annotation(&self) -> bool {
        let has_own = |map: &BTreeMap<String, String>| map.keys().any(|key| annotations::is_own(key));
        has_own(self.annotations) || has_own(&self.template_annotations())
    }

    /// Whether it or its template has a label instead of the annotation that opts in. The request then reaches the webhook,
    /// which warns about the label.
    pub(super) fn has_label_for_opt_in(&self) -> bool {
        let of_template = &self.template["metadata"]["labels"];
        [annotations::GRACEFUL, annotations::POLICY]
            .iter()
            .any(|key| self.labels.contains_key(*key) || of_template.get(*key).is_some())
    }

    /// The annotations of adieu that users set, for comparison.
    pub(super) fn instructions(&self) -> [Vec<(String, String)>; 2] {
        let owned = |map: &BTreeMap<String, String>| {
            annotations::instructions(map).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        [owned(self.annotations), owned(&self.template_annotations())]
    }
}

/// Whether the pods of a Deployment with this spec are replaced only once they have terminated (KEP-3973).
#[must_use]
pub fn is_replaced_terminated(spec: &Value) -> bool {
    spec["podReplacementPolicy"] == "TerminationComplete"
}

/// A map of strings, such as labels and annotations. Other values are skipped.
#[must_use]
pub fn string_map(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(k, v)| v.as_str().map(|v| (k.clone(), v.to_owned()))).collect()
}
