//! Changes of settings without effect since the injection.
//!
//! The record has the settings of the injection. It is part of the pod template, so it can't be rewritten without a
//! rollout, and a change of the settings without effect isn't recorded there. The effect may come later: a policy allows
//! readiness probes while no Service selects the pods, and then a Service is created; a policy sets the drain to `Auto`
//! while the exposures need no longer one, and then an Ingress is created; a policy sets the preStop method `Auto` while
//! kubelets are old, and then they are upgraded. None of these is a change by the user, so none may cause a rollout.
//! Therefore an annotation of the workload's metadata records such a change.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    record::{self, Record},
    settings::Settings,
    workload::Workload,
};
use crate::{api::annotations::ACCEPTED, hash::hash_of};

/// A change of the settings without effect.
#[derive(Debug, Serialize, Deserialize)]
struct Accepted {
    /// The settings of the injection. Another injection makes this obsolete.
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

/// Settings with which there was nothing to inject.
#[derive(Debug, Serialize, Deserialize)]
struct AcceptedWithoutInjection {
    /// The template, as a hash. Another one makes this obsolete.
    template: String,
    /// The settings.
    to: Settings,
}

/// The settings with which there was nothing to inject into the present template. `None` if there are none.
pub(super) fn accepted_without_injection(workload: &Workload<'_>) -> Option<Settings> {
    let text = workload.annotations.get(ACCEPTED).filter(|text| record::is_readable(text))?;
    let accepted: AcceptedWithoutInjection = serde_json::from_str(text).ok()?;
    let is_usable = accepted.template == hash(&workload.template) && accepted.to.is_bounded();
    is_usable.then_some(accepted.to)
}

/// The annotation for the settings `now`, with which there is nothing to inject into `template`. It doesn't change with the
/// exposures: an automatic drain of `before` is kept.
pub(super) fn text_without_injection(
    template: &Value,
    now: &Settings,
    before: Option<&Settings>,
) -> Option<String> {
    let to = before.map_or_else(|| now.clone(), |before| now.with_drain_of(before));
    serde_json::to_string(&AcceptedWithoutInjection { template: hash(template), to }).ok()
}

fn hash(template: &Value) -> String {
    format!("{:016x}", hash_of(template))
}

/// The annotation for the settings `now`, which have no effect. `None` if the record is sufficient.
pub(super) fn text(recorded: &Record, now: &Settings) -> Option<String> {
    let accepted = Accepted { from: recorded.settings.clone(), to: now.clone() };
    depends_on_cluster(&recorded.settings, now).then(|| serde_json::to_string(&accepted).ok()).flatten()
}

/// Whether settings differ whose effect depends on Services, other exposures or kubelet versions: a container that was
/// excluded may have its own hook, and lack only a probe.
pub(super) fn depends_on_cluster(before: &Settings, now: &Settings) -> bool {
    before.readiness_probe.value != now.readiness_probe.value
        || before.pre_stop_method.value != now.pre_stop_method.value
        || before.exclude.value != now.exclude.value
        || before.drain_seconds.from.is_automatic() != now.drain_seconds.from.is_automatic()
}
