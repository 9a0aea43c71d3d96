//! The explanation of one workload.

use std::sync::Arc;

use adieu_exposures::{Pods, Profiles, TrafficObject, exposures_of};
use kube::{ResourceExt as _, core::DynamicObject};
use serde::Serialize;

use super::exposures::{self, ExplainedExposure};
use crate::{
    api::TerminationProfileStatus,
    plan::{self, Explanation, Kind, NamespaceContext, Workload},
};

/// An explained workload.
#[derive(Serialize)]
pub(super) struct Explained {
    pub(super) kind: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) explanation: Explanation,
    /// The ways in which requests reach its pods.
    pub(super) exposures: Vec<ExplainedExposure>,
    /// How its pods terminated lately, as its `TerminationProfile` reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) observed: Option<TerminationProfileStatus>,
}

impl Explained {
    /// Explains a workload. `objects` may lead requests to its Services, and the context has the exposures through them.
    pub(super) fn of(
        kind: Kind,
        namespace: &str,
        object: &DynamicObject,
        context: &NamespaceContext,
        objects: &[Arc<TrafficObject>],
    ) -> Self {
        let mut explanation = plan::explain(&Workload::of(kind, object), context);
        let pods = Pods { namespace, labels: &plan::pod_labels(object) };
        let exposures = exposures_of(pods, context.services.iter().map(Arc::as_ref), objects);
        let profiles = Profiles::of(&context.cluster_policies);
        let exposures = exposures::explained(exposures, &explanation.termination, &profiles);
        let warning = exposures::warning(&explanation, &exposures);
        explanation.warnings.extend(warning);
        Self {
            kind: kind.as_str(),
            namespace: namespace.to_owned(),
            name: object.name_any(),
            explanation,
            exposures,
            observed: None,
        }
    }
}
