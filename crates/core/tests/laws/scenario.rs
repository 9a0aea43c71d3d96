//! A workload in its namespace, and the results of the plan.

use adieu_core::plan::{
    self, Injected, InjectionContext, NamespaceContext, Resolution, RolloutTiming, Source,
};
use kube::core::DynamicObject;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    generate::{Case, workload},
    templates::put,
};

/// A workload in its namespace, with its settings.
pub struct Scenario {
    pub object: DynamicObject,
    pub context: NamespaceContext,
    pub resolution: Resolution,
}

impl Scenario {
    pub fn of(case: &Case) -> Self {
        Self::new(case.object(), case.context.clone())
    }

    pub fn new(object: DynamicObject, context: NamespaceContext) -> Self {
        let resolution = plan::resolve(&workload(&object), &context);
        Self { object, context, resolution }
    }

    pub fn template(&self) -> &Value {
        &self.object.data["spec"]["template"]
    }

    /// Injects as on creation, even without an opt-in.
    pub fn inject(&self, template: &Value) -> Injected {
        let workload = workload(&self.object);
        let injection = InjectionContext {
            kind: workload.kind,
            services: &self.context.services,
            creating: true,
            opting_in: false,
            opted_in_by: &Source::WorkloadAnnotation,
            native_sleep: self.context.native_sleep,
            selector: workload.selector,
            recreates: workload.recreates,
            rendered: false,
        };
        plan::inject(&plan::PodTemplate::new(template), None, &self.resolution.settings, &injection)
    }

    /// The template that a request ends with, if it differs from the request's.
    pub fn admit(&self, new: &DynamicObject, old: Option<&DynamicObject>) -> Option<Value> {
        let admission = plan::admit(&workload(new), old.map(workload).as_ref(), &self.context);
        assert!(admission.denials.is_empty(), "{:?}", admission.denials);
        admission.template
    }

    /// The object that a request ends with.
    pub fn admitted(&self, new: &DynamicObject, old: Option<&DynamicObject>) -> DynamicObject {
        let mut object = new.clone();
        if let Some(template) = self.admit(new, old) {
            object.data["spec"]["template"] = template;
        }
        object
    }

    /// The pod that a request ends with, and the warnings.
    pub fn admitted_pod(&self, pod: &Value, of: &DynamicObject, owner: PodOwner) -> (Value, Vec<String>) {
        let kind = workload(of).kind.filter(|_| owner == PodOwner::Workload);
        let admission = plan::admit_pod(pod, kind.map(|kind| (kind, of)), &self.context);
        assert!(admission.denials.is_empty(), "{:?}", admission.denials);
        (admission.template.unwrap_or_else(|| pod.clone()), admission.warnings)
    }

    /// The template that the controller would write.
    pub fn evaluate(&self, object: &DynamicObject) -> Option<Value> {
        let evaluation = plan::evaluate(&workload(object), &self.context);
        evaluation.template.filter(|_| evaluation.timing != RolloutTiming::DryRun)
    }
}

/// The owner of a pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PodOwner {
    /// The workload.
    Workload,
    /// The workload, which is not cached yet.
    Unknown,
    /// No workload of `apps/v1`.
    OtherApi,
}

pub fn owner() -> impl Strategy<Value = PodOwner> {
    prop::sample::select(vec![PodOwner::Workload, PodOwner::Unknown, PodOwner::OtherApi])
}

impl PodOwner {
    /// A pod of the workload's template. For simplicity, its owner is a StatefulSet, for every kind of workload.
    pub fn pod(self, workload: &DynamicObject) -> Value {
        let mut pod = workload.data["spec"]["template"].clone();
        let (api_version, kind) = match self {
            Self::Workload | Self::Unknown => ("apps/v1", "StatefulSet"),
            Self::OtherApi => ("batch/v1", "Job"),
        };
        let owner =
            json!({"apiVersion": api_version, "kind": kind, "name": "web", "uid": "1", "controller": true});
        put(&mut pod, &["metadata", "ownerReferences"], Some(&json!([owner])));
        pod
    }
}
