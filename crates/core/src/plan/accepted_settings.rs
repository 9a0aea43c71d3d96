//! Changes of settings without effect since the injection.
//!
//! The record has the settings of the injection. It is part of the pod template, so it can't be rewritten without a
//! rollout, and a change of the settings without effect isn't recorded there. The effect may come later: a policy allows
//! readiness probes while no Service selects the pods, and then a Service is created; a policy sets the preStop method
//! `Auto` while kubelets are old, and then they are upgraded. Neither is a change by the user, so neither may cause a
//! rollout. Therefore an annotation of the workload's metadata records such a change.

use serde::{Deserialize, Serialize};

use super::{
    record::{self, Record},
    settings::Settings,
    workload::Workload,
};
use crate::api::annotations::ACCEPTED;

/// A change of the settings without effect.
#[derive(Debug, Serialize, Deserialize)]
struct Accepted {
    /// The settings of the injection. Another injection makes this obsolete. The defaults without an injection.
    from: Settings,
    /// The present settings.
    to: Settings,
}

/// The settings that the workload's template is up to date with: those of the injection, or those accepted since. With
/// the present annotation, unless it belongs to another injection.
pub(super) fn accepted(workload: &Workload<'_>, recorded: &Record) -> (Settings, Option<String>) {
    let text = workload.annotations.get(ACCEPTED).filter(|text| record::is_readable(text));
    let accepted = text.and_then(|text| serde_json::from_str::<Accepted>(text).ok());
    match accepted.filter(|accepted| accepted.from == recorded.settings && accepted.to.is_bounded()) {
        Some(accepted) => (accepted.to, text.cloned()),
        None => (recorded.settings.clone(), None),
    }
}

/// The settings with which nothing was to be injected into the workload, and their annotation. `None` if it has none.
pub(super) fn accepted_without_injection(workload: &Workload<'_>) -> Option<(Settings, String)> {
    let text = workload.annotations.get(ACCEPTED).filter(|text| record::is_readable(text))?;
    let accepted: Accepted = serde_json::from_str(text).ok()?;
    let is_usable = accepted.from == Settings::default() && accepted.to.is_bounded();
    is_usable.then(|| (accepted.to, text.clone()))
}

/// The annotation for the settings `now`, with which there is nothing to inject.
pub(super) fn text_without_injection(now: &Settings) -> Option<String> {
    serde_json::to_string(&Accepted { from: Settings::default(), to: now.clone() }).ok()
}

/// The annotation for the settings `now`, which have no effect. `None` if the record is sufficient.
pub(super) fn text(recorded: &Record, now: &Settings) -> Option<String> {
    let accepted = Accepted { from: recorded.settings.clone(), to: now.clone() };
    depends_on_cluster(&recorded.settings, now).then(|| serde_json::to_string(&accepted).ok()).flatten()
}

/// Whether settings differ whose effect depends on Services or kubelet versions: a container that was excluded may have
/// its own hook, and lack only a probe.
pub(super) fn depends_on_cluster(before: &Settings, now: &Settings) -> bool {
    before.readiness_probe.value != now.readiness_probe.value
        || before.pre_stop_method.value != now.pre_stop_method.value
        || before.exclude.value != now.exclude.value
}
