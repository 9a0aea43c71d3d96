//! Why a workload has its settings, and how the termination of its pods proceeds.

use serde::Serialize;

use super::{
    context::NamespaceContext,
    evaluate::{InjectionState, evaluate_with_later},
    explained_settings::{ExplainedSetting, explained},
    pending_change::{PendingChange, pending_change},
    render::effective_pods,
    resolve::{OptIn, resolve_each},
    source::Source,
    termination::{Termination, termination},
    workload::Workload,
};

/// Why a workload has its settings, and what they do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Whether the workload is opted in, and by what.
    pub opted_in: OptedIn,
    /// Whether its present pods have the injection.
    pub state: InjectionState,
    /// What is still to be changed, when and why. `None` if nothing is.
    pub pending: Option<PendingChange>,
    /// The settings, if it is opted in.
    pub settings: Vec<ExplainedSetting>,
    /// How its pods terminate: with the injection, if it is opted in.
    pub termination: Termination,
    /// Problems, for the user.
    pub warnings: Vec<String>,
}

/// Whether a workload is opted in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OptedIn {
    /// Whether it is.
    pub value: bool,
    /// The annotation or policy that opts it in; `None` if none does.
    pub from: Option<Source>,
    /// Whether an annotation opts it out, which wins over every policy.
    pub opted_out: bool,
    /// Whether its policy reverts the injection.
    pub reverts: bool,
}

/// Explains a workload in the context of its namespace.
#[must_use]
pub fn explain(workload: &Workload<'_>, context: &NamespaceContext) -> Explanation {
    let (resolution, levels) = resolve_each(workload, context);
    let (evaluation, later) = evaluate_with_later(workload, context);
    let opted_in = OptedIn {
        value: matches!(resolution.opt_in, OptIn::In(_)),
        from: resolution.opted_in_by().cloned(),
        opted_out: resolution.opt_in == OptIn::Out,
        reverts: resolution.reverts,
    };
    let settings = if opted_in.value { explained(&resolution.settings, &levels) } else { vec![] };
    let pods = effective_pods(workload, context);
    let settings_of_pods = pods.settings.as_ref();
    let shutdown = settings_of_pods.map(|settings| settings.shutdown_timeout_seconds.value);
    let sidecar_seconds = settings_of_pods.map(|settings| settings.sidecar_seconds.value);
    Explanation {
        opted_in,
        state: evaluation.state,
        pending: pending_change(workload, (&evaluation, later.as_ref()), context),
        settings,
        termination: Termination { sidecar_seconds, ..termination(&pods.template, shutdown) },
        warnings: evaluation.warnings,
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
