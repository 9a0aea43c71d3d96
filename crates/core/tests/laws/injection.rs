//! The laws of one injection.

use adieu_core::{
    api::{ExistingHookPolicy, GracePeriodPolicy, labels::INJECTION},
    plan::{self, Settings},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    Law,
    scenario::Scenario,
    templates::{
        GRACE_PERIOD, PRE_STOP, READINESS_PROBE, SPREAD, containers, grace_period, handlers, longest_sleep,
        seconds_of, set, without_injected_fields,
    },
};

pub fn injection_is_idempotent(scenario: &Scenario, once: &Value) -> Law {
    prop_assert_eq!(&scenario.inject(once).template, once);
    Ok(())
}

pub fn revert_restores_the_original(before: &Value, after: &Value) -> Law {
    prop_assert_eq!(&plan::original(&plan::PodTemplate::new(after), None), before);
    Ok(())
}

pub fn injection_keeps_fields_of_the_user(settings: &Settings, before: &Value, after: &Value) -> Law {
    let replaced = settings.existing.value == ExistingHookPolicy::Replace;
    for (before, after) in containers(before).zip(containers(after)) {
        // A sleep of 0 opts the container out of every policy.
        let opted_out = before.pointer(PRE_STOP) == Some(&json!({"sleep": {"seconds": 0}}));
        let own = set(before, PRE_STOP).filter(|_| opted_out || !replaced);
        prop_assert!(own.is_none() || own == after.pointer(PRE_STOP), "{before} became {after}");
        let own = set(before, READINESS_PROBE);
        prop_assert!(own.is_none() || own == after.pointer(READINESS_PROBE), "{before} became {after}");
    }
    let (before_template, after_template) = (before, after);
    let (before, after) = (&before["spec"], &after["spec"]);
    if let Some(seconds) =
        before[GRACE_PERIOD].as_i64().filter(|_| settings.grace_period.value == GracePeriodPolicy::AtLeast)
    {
        prop_assert!(
            after[GRACE_PERIOD].as_i64() >= Some(seconds),
            "{seconds} s became {}",
            after[GRACE_PERIOD]
        );
    }
    let labels = [before_template, after_template].map(|template| &template["metadata"]["labels"][INJECTION]);
    prop_assert!(labels[0].is_null() || labels[0] == labels[1], "{labels:?}");
    if before[SPREAD].as_array().is_some_and(|constraints| !constraints.is_empty()) {
        prop_assert_eq!(&before[SPREAD], &after[SPREAD]);
    }
    Ok(())
}

/// A grace period that isn't a whole number can't be raised, so nothing else changes either.
pub fn grace_period_is_positive_and_changes_with_the_hooks(before: &Value, after: &Value) -> Law {
    if grace_period(before).is_none() {
        prop_assert_eq!(before, after);
    }
    let [old, new] = [before, after].map(|template| template["spec"].get(GRACE_PERIOD));
    prop_assert!(old == new || new.and_then(Value::as_i64) > Some(0), "{after}");
    Ok(())
}

pub fn injection_changes_only_its_own_fields(before: &Value, after: &Value) -> Law {
    prop_assert_eq!(without_injected_fields(after), without_injected_fields(before));
    Ok(())
}

pub fn sleeps_fit_the_grace_period(before: &Value, after: &Value) -> Law {
    let (Some(old), Some(new)) = (grace_period(before), grace_period(after)) else { return Ok(()) };
    let (old, new) = (Some(old), Some(new));
    prop_assert!(longest_sleep(before) > old || longest_sleep(after) <= new, "{after}");
    for (before, after) in containers(before).zip(containers(after)) {
        let injected = before.pointer(PRE_STOP) != after.pointer(PRE_STOP);
        prop_assert!(!injected || seconds_of(after, PRE_STOP) <= new, "{after} has {new:?} s");
    }
    Ok(())
}

pub fn hooks_and_probes_have_one_handler(before: &Value, after: &Value) -> Law {
    for (before, after) in containers(before).zip(containers(after)) {
        for path in [PRE_STOP, READINESS_PROBE] {
            prop_assert!(handlers(after, path) <= handlers(before, path).max(1), "{after}");
        }
    }
    Ok(())
}

pub fn patch_yields_the_injected_object(workload: &Value, after: &Value) -> Law {
    let before = &workload["spec"]["template"];
    let mut expected = workload.clone();
    if after != before {
        expected["spec"]["template"] = after.clone();
    }
    for patch in [plan::template_patch(before, after), plan::response_patch(before, after.clone(), 0)] {
        let mut patched = workload.clone();
        json_patch::patch(&mut patched, &patch).unwrap();
        prop_assert_eq!(&patched, &expected);
    }
    Ok(())
}
