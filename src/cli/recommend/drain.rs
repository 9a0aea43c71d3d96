//! The drain that a policy has to set for a workload.

use adieu_exposures::{Drain, Exposure, Profiles, drain_of};

use super::wanted::WantedTime;
use crate::{
    api::annotations::DRAIN_SECONDS,
    plan::{NamespaceContext, Setting},
};

/// The drain that a policy sets now; `None` if an annotation does, or if it is `Auto`.
pub(super) fn present(setting: &Setting<i64>) -> Option<i64> {
    (!setting.from.is_annotation() && !setting.from.is_automatic()).then_some(setting.value)
}

/// The drain that the exposures need: if it is `Auto`, no policy has to set it. `by_user` is the drain without recommended policies: if a policy of a user sets a
/// longer one, it is kept, because the exposures that are known may not be all.
pub(super) fn wanted(
    exposures: &[Exposure],
    context: &NamespaceContext,
    setting: &Setting<i64>,
    by_user: &Setting<i64>,
) -> WantedTime {
    let Setting { value, from } = setting;
    if by_user.from.is_automatic() {
        let Drain { seconds, because } = drain_of(exposures, &profiles(context));
        let evidence = format!("drain {seconds} s: {because}");
        return WantedTime { seconds: None, evidence, note: None };
    }
    if exposures.is_empty() {
        let evidence = format!("drain {value} s: no exposure is known, so it is kept");
        return WantedTime { seconds: present(setting), evidence, note: None };
    }
    let Drain { seconds, because } = drain_of(exposures, &profiles(context));
    if from.is_annotation() {
        let note = (*value < seconds).then(|| {
            format!(
                "annotation {DRAIN_SECONDS}: {value} s are shorter than the {seconds} s that its exposures need ({because}): \
                 set it to \"{seconds}\""
            )
        });
        return WantedTime { seconds: None, evidence: format!("drain {value} s: {from}"), note };
    }
    if by_user.from.policy().is_some() && by_user.value > seconds {
        let Setting { value, from } = by_user;
        let evidence = format!("drain {value} s: {from}; it is longer than the {seconds} s of {because}");
        return WantedTime { seconds: Some(*value), evidence, note: None };
    }
    WantedTime { seconds: Some(seconds), evidence: format!("drain {seconds} s: {because}"), note: None }
}

/// The drain profiles that apply in a namespace, beside the built-in ones.
fn profiles(context: &NamespaceContext) -> Profiles {
    Profiles::of(&context.cluster_policies)
}
