//! Settings that a person changed since the injection, without any effect.
//!
//! The record says which settings an injection was made from. It lies in the pod template, so it can't be rewritten
//! without a rollout, and a change of the settings that has no effect isn't recorded there. Its effect may come later:
//! a policy allows readiness probes while no Service selects the pods, and then a Service appears; a policy leaves
//! the preStop method to adieu while kubelets are old, and then they are upgraded. Neither is a person's act, and
//! neither may roll anything out. So such a change is remembered in an annotation of the workload's own metadata.

use serde::{Deserialize, Serialize};

use super::{Record, Settings, Workload};
use crate::api::annotations::ACCEPTED;

/// A change of the settings that had no effect.
#[derive(Debug, Serialize, Deserialize)]
struct Accepted {
    /// Those that the injection was made from. Another injection makes this obsolete.
    from: Settings,
    /// Those that hold since then.
    to: Settings,
}

/// The settings that the workload's template is as it shall be for: those that the injection was made from, or those
/// that were accepted since.
pub(super) fn accepted(workload: &Workload<'_>, recorded: &Record) -> Settings {
    read(workload, recorded).map_or_else(|| recorded.settings.clone(), |accepted| accepted.to)
}

/// The annotation as it stands, unless it is about another injection.
pub(super) fn kept(workload: &Workload<'_>, recorded: &Record) -> Option<String> {
    read(workload, recorded).and_then(|_| workload.annotations.get(ACCEPTED).cloned())
}

/// The annotation once the settings are `now`, without effect. `None` if the record says enough.
pub(super) fn text(recorded: &Record, now: &Settings) -> Option<String> {
    let accepted = Accepted { from: recorded.settings.clone(), to: now.clone() };
    depends_on_cluster(&recorded.settings, now).then(|| serde_json::to_string(&accepted).ok()).flatten()
}

/// Whether the settings differ in what Services or the versions of kubelets decide the effect of.
pub(super) fn depends_on_cluster(before: &Settings, now: &Settings) -> bool {
    before.readiness_probe.value != now.readiness_probe.value
        || before.pre_stop_method.value != now.pre_stop_method.value
}

fn read(workload: &Workload<'_>, recorded: &Record) -> Option<Accepted> {
    let accepted: Accepted = serde_json::from_str(workload.annotations.get(ACCEPTED)?).ok()?;
    (accepted.from == recorded.settings).then_some(accepted)
}
