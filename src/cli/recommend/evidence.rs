//! The times that a workload needs, with the evidence.

use std::sync::Arc;

use adieu_exposures::Exposure;
use adieu_recommend::{AnnotatedOptIn, Candidate, Times, is_recommended};
use kube::{ResourceExt as _, core::DynamicObject};

use super::{drain, shutdown};
use crate::{
    api::{TerminationProfileStatus, annotations},
    keys::WorkloadKey,
    plan::{
        Completeness, Exposures, Kind, NamespaceContext, OptIn, Resolution, Settings, Source, Workload,
        pod_labels, resolve, string_map,
    },
};

/// What is known about a workload.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) kind: Kind,
    pub(super) object: &'a DynamicObject,
    pub(super) context: &'a NamespaceContext,
    pub(super) exposures: Vec<Exposure>,
    pub(super) profile: Option<&'a TerminationProfileStatus>,
    /// Whether the user selects it. Otherwise its times are kept.
    pub(super) is_selected: bool,
    /// The kinds that are opted in for the first time.
    pub(super) kinds: &'a [Kind],
}

/// The times that a workload needs.
#[derive(Debug)]
pub(super) struct Evidence {
    pub(super) candidate: Candidate,
    /// Why it needs them; empty if its times are kept.
    pub(super) lines: Vec<String>,
    /// What policies can't do for it.
    pub(super) notes: Vec<String>,
}

/// The evidence about a workload; `None` if it is opted out.
pub(super) fn evidence(known: &Known<'_>) -> Option<Evidence> {
    let Known { kind, object, context, .. } = *known;
    let workload = Workload::of(kind, object);
    let resolution = resolve(&workload, context);
    if resolution.opt_in == OptIn::Out {
        return None;
    }
    let mut evidence = Evidence {
        candidate: Candidate {
            key: WorkloadKey::of(kind, object),
            labels: pod_labels(object),
            opt_in: annotated(object, &resolution.opt_in),
            wanted: None,
        },
        lines: vec![],
        notes: vec![],
    };
    let is_opted_in = matches!(resolution.opt_in, OptIn::In(_));
    let may_be_opted_in = known.kinds.contains(&kind) && !workload.controlled && has_evidence(known);
    if resolution.opt_in == OptIn::In(Source::CommandLine) {
        evidence.candidate.wanted = Some(Times::default());
        evidence.lines = vec!["its manifest was injected by adieu inject, which set its times".to_owned()];
    } else if known.is_selected && (is_opted_in || may_be_opted_in) {
        evidence.add_wanted(known, &workload, &resolution);
    } else if is_opted_in {
        evidence.candidate.wanted = Some(present(&resolution.settings));
    }
    Some(evidence)
}

impl Evidence {
    fn add_wanted(&mut self, known: &Known<'_>, workload: &Workload<'_>, resolution: &Resolution) {
        let Settings { drain_seconds, shutdown_timeout_seconds, .. } = &resolution.settings;
        let labels = pod_labels(known.object);
        let is_complete =
            |exposures: &Arc<dyn Exposures>| exposures.completeness(&labels) == Completeness::Complete;
        let by_user = if known.context.exposures.as_ref().is_none_or(is_complete) {
            resolve(workload, &without_recommended(known.context)).settings.drain_seconds
        } else {
            // An earlier recommendation may be due to an exposure that can't be read now.
            drain_seconds.clone()
        };
        let drain = drain::wanted(&known.exposures, known.context, drain_seconds, &by_user);
        let shutdown = shutdown::wanted(shutdown_timeout_seconds, known.profile);
        self.candidate.wanted =
            Some(Times { drain_seconds: drain.seconds, shutdown_timeout_seconds: shutdown.seconds });
        for wanted in [drain, shutdown] {
            self.lines.push(wanted.evidence);
            self.notes.extend(wanted.note);
        }
    }
}

/// Whether requests reach the pods, or a better timeout is known.
fn has_evidence(known: &Known<'_>) -> bool {
    !known.exposures.is_empty() || known.profile.is_some_and(|profile| profile.recommendation.is_some())
}

/// The times that policies set now.
fn present(settings: &Settings) -> Times {
    Times {
        drain_seconds: drain::present(&settings.drain_seconds),
        shutdown_timeout_seconds: shutdown::present(&settings.shutdown_timeout_seconds),
    }
}

/// The context without the policies of earlier recommendations.
fn without_recommended(context: &NamespaceContext) -> NamespaceContext {
    let mut context = context.clone();
    context.policies.retain(|policy| !is_recommended(&policy.metadata));
    context.cluster_policies.retain(|policy| !is_recommended(&policy.metadata));
    context
}

/// Whether an annotation, or the record of an injected manifest, opts a workload in.
fn annotated(object: &DynamicObject, opt_in: &OptIn) -> AnnotatedOptIn {
    let of_template = string_map(&object.data["spec"]["template"]["metadata"]["annotations"]);
    let policies = [
        annotations::parse(object.annotations(), "metadata.annotations"),
        annotations::parse(&of_template, "spec.template.metadata.annotations"),
    ];
    match (policies.into_iter().find_map(|parsed| parsed.annotations.policy), opt_in) {
        (Some(name), _) => AnnotatedOptIn::Policy(name),
        (None, OptIn::In(source)) if source.is_annotation() || *source == Source::CommandLine => {
            AnnotatedOptIn::Graceful
        }
        (None, _) => AnnotatedOptIn::None,
    }
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
