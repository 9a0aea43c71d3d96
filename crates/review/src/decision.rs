//! Decides about the objects of a review: parses them, calls the plan, and encodes the patch.

use adieu_core::plan::{self, Admission, Kind, NamespaceContext, OptIn, Workload};
use json_patch::Patch;
use kube::core::DynamicObject;

use crate::{envelope::RawReview, error::BadRequest, object::RawObject};

/// That policy may be the one that manages the workload.
const POLICY_UNREADABLE: &str = "a policy of the namespace can't be read (see its Events): the object is not changed, \
                                 because neither an annotation nor another policy opts it in";

/// The earlier revision of a workload that is rolled back has other annotations.
const OPT_IN_KEPT: &str = "the rollback keeps this workload's current adieu annotations, although the earlier \
                           revision has none: to opt out, set adieu.dev/graceful to \"false\"";

const RECOMMENDATION_KEPT: &str = "the annotation adieu.dev/applied-recommendation is kept, because the policy has \
                                   recommendations: Apply: for another value set adieu.dev/shutdown-timeout-seconds";

/// The decision about a request.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// Why the request is denied; `None` if it is allowed.
    pub denial: Option<String>,
    /// The JSON patch, if the object is changed.
    pub patch: Option<Vec<u8>>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// Whether the object is too large for injection, and so is allowed unchanged.
    pub is_oversized: bool,
}

impl Decision {
    /// Allows the request unchanged, with a warning.
    #[must_use]
    pub fn unchanged(warning: String) -> Self {
        Self { warnings: vec![warning], ..Self::default() }
    }

    /// Allows the request unchanged, because its object is too large; the warning has the reason.
    #[must_use]
    pub fn oversized(warning: String) -> Self {
        Self { is_oversized: true, ..Self::unchanged(warning) }
    }

    fn new(admission: Admission, patch: &Patch) -> Self {
        let Admission { denials, warnings, .. } = admission;
        if !denials.is_empty() {
            let reasons: Vec<_> = denials.iter().map(ToString::to_string).collect();
            return Self { denial: Some(reasons.join("; ")), ..Self::default() };
        }
        // A value can always be encoded; if not, the object is allowed unchanged.
        let patch = (!patch.0.is_empty()).then(|| serde_json::to_vec(patch).ok()).flatten();
        Self { patch, warnings, ..Self::default() }
    }
}

impl RawReview<'_> {
    /// Decides about a workload.
    pub fn decide_workload(&self, kind: Kind, context: &NamespaceContext) -> Result<Decision, BadRequest> {
        if !self.object.has_metadata() {
            return Ok(Decision::default());
        }
        let object = self.object.parse()?;
        let old_object = self.old_object.as_ref().map(RawObject::parse).transpose()?;
        let new = Workload::of(kind, &object);
        let old = old_object.as_ref().map(|old| Workload::of(kind, old));
        if context.has_unusable_policy && plan::resolve(&new, context).opt_in == OptIn::Unspecified {
            return Ok(Decision::unchanged(POLICY_UNREADABLE.to_owned()));
        }
        let without_field_manager = !self.header.has_field_manager;
        let admit = if without_field_manager { plan::admit_without_field_manager } else { plan::admit };
        let kept = old
            .as_ref()
            .filter(|_| without_field_manager)
            .and_then(|old| plan::preserve_opt_in_on_rollback(&new, old));
        // A pending change takes effect with a change of the template.
        let clear_pending = plan::clear_pending(new.annotations)
            .filter(|_| old.as_ref().is_none_or(|old| *old.template != *new.template));
        let with_kept = kept
            .as_ref()
            .map(|(annotations, template)| Workload { annotations, ..new.with_template(template) });
        let effective = with_kept.as_ref().unwrap_or(&new);
        // Its value counts for the template.
        let applied =
            old.as_ref().and_then(|old| plan::preserve_applied_recommendation(effective, old, context));
        let with_applied = applied.as_ref().map(|annotations| Workload { annotations, ..effective.clone() });
        let effective = with_applied.as_ref().unwrap_or(effective);
        let mut admission = admit(effective, old.as_ref(), context);
        let mut patch = Patch::default();
        if kept.is_some() {
            admission.warnings.push(OPT_IN_KEPT.to_owned());
        }
        if applied.is_some() {
            admission.warnings.push(RECOMMENDATION_KEPT.to_owned());
        }
        if kept.is_some() || applied.is_some() {
            patch = plan::annotations_patch(new.annotations, effective.annotations);
        }
        let template = admission.template.as_ref().unwrap_or(&effective.template);
        let accepted =
            if kept.is_none() { plan::keep_accepted(effective, old.as_ref(), template) } else { None };
        let injected = plan::label_injected(new.labels, template);
        let template =
            admission.template.take().or_else(|| kept.as_ref().map(|(_, template)| template.clone()));
        if let Some(template) = template {
            patch.0.extend(plan::response_patch(&new.template, template, self.object.spec_length()).0);
        }
        patch.0.extend([clear_pending, accepted, injected].into_iter().flatten());
        Ok(Decision::new(admission, &patch))
    }

    /// Decides about a pod that is being created for `workload`.
    pub fn decide_pod(
        &self,
        workload: Option<(Kind, &DynamicObject)>,
        context: &NamespaceContext,
    ) -> Result<Decision, BadRequest> {
        let pod = self.object.parse_pod()?;
        let admission = plan::admit_pod(&pod, workload, context);
        let patch = admission.template.as_ref().map(|injected| plan::pod_patch(&pod, injected));
        Ok(Decision::new(admission, &patch.unwrap_or_default()))
    }
}
