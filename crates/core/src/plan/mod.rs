//! What becomes of a workload's pod template, and why. Pure: everything is passed in, nothing is looked
//! up, nothing waits.
//!
//! [`resolve`] finds the settings, [`inject`] puts them into a template and leaves a [`record`], which
//! can be taken back by itself. [`admit`], [`evaluate`] and [`render`] decide when that happens: on a
//! request, on what is in the cluster already, and on a manifest.

mod accepted;
mod admit;
mod advice;
mod command;
mod evaluate;
mod grace;
mod hooks;
mod inject;
mod patch;
mod pods;
mod probe;
mod record;
mod render;
mod resolve;
mod settings;
mod timing;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Service;
use kube::core::DynamicObject;
use serde_json::Value;

pub use admit::{Admission, admit, admit_anonymous, preserve_opt_in_on_rollback};
pub use evaluate::{Evaluation, InjectionState, RolloutTiming, concerning, evaluate, marks};
pub use inject::{Injected, inject, opt_out, original};
pub use patch::{
    annotations_patch, answer_patch, clear_pending, keep_accepted, opt_out_patch, pod_patch, show_injection,
    template_patch,
};
pub use pods::{Owner, admit_pod};
pub use record::Record;
pub use render::{render, revert};
pub use resolve::{
    OptIn, Resolution, cluster_policy_holds_for, effective, holds_for, matches, resolve, selecting,
};
pub use settings::{ProbeChoice, Setting, Settings, Source};
pub use timing::{PodHooks, grace_period_seconds, pre_stop_seconds};

pub use crate::api::WorkloadKind as Kind;

use crate::api::{ClusterGracefulPolicy, GracefulPolicy, InjectionTarget, annotations};

/// What a decision needs to know of a workload.
#[derive(Clone, Copy, Debug)]
pub struct Workload<'a> {
    /// Its kind; `None` for a pod that no workload of `apps/v1` owns.
    pub kind: Option<Kind>,
    /// The annotations of its metadata.
    pub annotations: &'a BTreeMap<String, String>,
    /// The labels of its metadata.
    pub labels: &'a BTreeMap<String, String>,
    /// Its `spec.template`, as it came.
    pub template: &'a Value,
    /// Its `spec.selector`.
    pub selector: Option<&'a Value>,
    /// Whether another controller owns it, as Prometheus's operator owns a StatefulSet: that would undo
    /// a change of the template.
    pub controlled: bool,
    /// Whether its strategy is `Recreate`: no old pod serves until a new one is ready.
    pub recreates: bool,
}

static EMPTY: BTreeMap<String, String> = BTreeMap::new();

impl<'a> Workload<'a> {
    /// A workload that nobody else controls.
    #[must_use]
    pub fn new(kind: Kind, annotations: &'a BTreeMap<String, String>, template: &'a Value) -> Self {
        Self {
            kind: Some(kind),
            annotations,
            labels: &EMPTY,
            template,
            selector: None,
            controlled: false,
            recreates: false,
        }
    }

    /// A pod that stands for itself: its own annotations are all that speaks for it.
    #[must_use]
    pub fn of_pod(pod: &'a Value) -> Self {
        Self { kind: None, ..Self::new(Kind::Deployment, &EMPTY, pod) }
    }

    /// A workload as the API server has it.
    #[must_use]
    pub fn of(kind: Kind, object: &'a DynamicObject) -> Self {
        let owners = object.metadata.owner_references.iter().flatten();
        Self {
            kind: Some(kind),
            annotations: object.metadata.annotations.as_ref().unwrap_or(&EMPTY),
            labels: object.metadata.labels.as_ref().unwrap_or(&EMPTY),
            template: &object.data["spec"]["template"],
            selector: object.data["spec"].get("selector"),
            controlled: owners.into_iter().any(|owner| owner.controller == Some(true)),
            recreates: object.data["spec"]["strategy"]["type"] == "Recreate",
        }
    }
}

impl Workload<'_> {
    /// Whether its pods get as they are created what its template doesn't: because the settings ask for that, or
    /// because its controller would undo a change of the template.
    fn is_injected_by_pod(&self, settings: &Settings) -> bool {
        self.controlled || settings.injection.value == InjectionTarget::Pod
    }

    /// Whether another controller brought a template that was injected already, as a canary tool does that copies a
    /// Deployment. It keeps what it has: its controller would bring it back.
    fn is_injected_copy(&self) -> bool {
        self.controlled && record::read(self.template).is_some()
    }

    fn template_annotations(&self) -> BTreeMap<String, String> {
        string_map(&self.template["metadata"]["annotations"])
    }

    fn template_labels(&self) -> BTreeMap<String, String> {
        string_map(&self.template["metadata"]["labels"])
    }

    /// The `adieu.dev/` annotations of the workload and of its template.
    fn parsed_annotations(&self) -> [annotations::Parsed; 2] {
        let own = "metadata.annotations";
        let of_template = if self.kind.is_some() { "spec.template.metadata.annotations" } else { own };
        [
            annotations::parse(self.annotations, own),
            annotations::parse(&self.template_annotations(), of_template),
        ]
    }

    /// Everything a person tells adieu in annotations, in a form that can be compared.
    fn instructions(&self) -> [Vec<(String, String)>; 2] {
        let owned = |map: &BTreeMap<String, String>| {
            annotations::instructions(map).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        [owned(self.annotations), owned(&self.template_annotations())]
    }
}

/// What surrounds a workload.
#[derive(Clone, Debug)]
pub struct NamespaceContext {
    /// The policies of the workload's namespace.
    pub policies: Vec<Arc<GracefulPolicy>>,
    /// The cluster policies that match its namespace.
    pub cluster_policies: Vec<Arc<ClusterGracefulPolicy>>,
    /// The Services of the workload's namespace.
    pub services: Vec<Arc<Service>>,
    /// Whether every kubelet has the native sleep action (KEP-3960: on by default from 1.30).
    pub native_sleep: bool,
    /// Whether the webhook is asked about every pod of the namespace. Elsewhere it is asked about those with the
    /// label [`INJECTION`](crate::api::labels::INJECTION).
    pub all_pods: bool,
}

impl NamespaceContext {
    /// Whether the policy that `source` names is there.
    fn has(&self, source: &Source) -> bool {
        match source {
            Source::Policy(name) => self.policies.iter().any(|p| p.metadata.name.as_ref() == Some(name)),
            Source::ClusterPolicy(name) => {
                self.cluster_policies.iter().any(|p| p.metadata.name.as_ref() == Some(name))
            }
            _ => false,
        }
    }
}

impl Default for NamespaceContext {
    /// A namespace of a current cluster, with nothing in it.
    fn default() -> Self {
        Self {
            policies: vec![],
            cluster_policies: vec![],
            services: vec![],
            native_sleep: true,
            all_pods: true,
        }
    }
}

/// What the rules need to know beyond the template itself.
// Each is a fact of its own.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Copy, Debug)]
pub struct InjectionContext<'a> {
    /// The kind of the workload; `None` for a pod that no workload of `apps/v1` owns.
    pub kind: Option<Kind>,
    /// The Services of its namespace.
    pub services: &'a [Arc<Service>],
    /// Whether the workload is being created.
    pub creating: bool,
    /// Who opted it in.
    pub opted_in_by: &'a Source,
    /// Whether every kubelet has the native sleep action.
    pub native_sleep: bool,
    /// The workload's own selector.
    pub selector: Option<&'a Value>,
    /// Whether the workload's strategy is `Recreate`.
    pub recreates: bool,
    /// Whether the command line asks.
    pub rendered: bool,
}

impl<'a> InjectionContext<'a> {
    fn of(
        workload: &Workload<'a>,
        context: &'a NamespaceContext,
        creating: bool,
        opted_in_by: &'a Source,
    ) -> Self {
        Self {
            kind: workload.kind,
            services: &context.services,
            creating,
            opted_in_by,
            native_sleep: context.native_sleep,
            selector: workload.selector,
            recreates: workload.recreates,
            rendered: false,
        }
    }
}

/// A map of strings, as labels and annotations are; what is no string is passed over.
#[must_use]
pub fn string_map(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(k, v)| v.as_str().map(|v| (k.clone(), v.to_owned()))).collect()
}
