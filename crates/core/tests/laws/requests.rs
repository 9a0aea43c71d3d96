//! The laws of edits and requests that follow an injection.

use adieu_core::{
    api::{ExistingHookPolicy, annotations::INJECTED},
    plan::{self, NamespaceContext, OptIn, PodHooks, Record},
};
use kube::core::DynamicObject;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::{
    Law,
    edits::{Change, Edit},
    scenario::{PodOwner, Scenario},
    templates::{
        GRACE_PERIOD, PRE_STOP, accepted, container_mut, containers, grace_period, set,
        without_injected_fields, without_probes,
    },
};

/// The injected value is adieu's, even if an edit sets it; any other is the user's.
pub fn edit_survives_the_revert(before: &Value, injected: &Value, edit: &Edit) -> Law {
    let mut edited = injected.clone();
    edit.apply_to(&mut edited);
    if edited != *injected {
        let mut expected = before.clone();
        edit.apply_to(&mut expected);
        let [given, kept] = [injected, &edited].map(|template| template["spec"].get(GRACE_PERIOD));
        let same_containers = matches!(edit.change, Change::Container(..));
        if same_containers
            && sleep_of_the_edit(before, injected, &edited) > Some(grace_period(before).unwrap_or(30))
            && given == kept
        {
            expected["spec"][GRACE_PERIOD] = injected["spec"][GRACE_PERIOD].clone();
        }
        prop_assert_eq!(plan::original(&plan::PodTemplate::new(&edited), None), expected);
    }
    Ok(())
}

/// The longest sleep by which the user replaced an injected hook: the API server would reject it with a shorter grace
/// period.
pub fn sleep_of_the_edit(before: &Value, injected: &Value, edited: &Value) -> Option<i64> {
    let hooks = |template| containers(template).map(|container| container.pointer(PRE_STOP).cloned());
    let later = hooks(before).zip(hooks(injected)).zip(hooks(edited));
    let later =
        later.filter(|((before, injected), now)| before != injected && now != injected && now != before);
    later.filter_map(|(_, now)| now?["sleep"]["seconds"].as_i64()).max()
}

/// As `kubectl apply` merges a user's `exec` into an injected `sleep`.
pub fn merged_handler_replaces_the_injected_one(
    scenario: &Scenario,
    injected: &Value,
    own: &Map<String, Value>,
) -> Law {
    let mut merged = injected.clone();
    let mut places = Vec::new();
    for (index, before) in containers(scenario.template()).enumerate() {
        let hook = container_mut(&mut merged, index).and_then(|container| container.pointer_mut(PRE_STOP));
        let Some(hook) = hook.filter(|hook| set(before, PRE_STOP) != Some(hook)) else { continue };
        if let Some(hook) = hook.as_object_mut().filter(|hook| own.keys().all(|key| !hook.contains_key(key)))
        {
            hook.extend(own.clone());
            places.push(index);
        }
    }
    if places.is_empty() {
        return Ok(());
    }
    let own = Some(Value::Object(own.clone()));
    let hook =
        |template: &Value, index| containers(template).nth(index).and_then(|c| c.pointer(PRE_STOP).cloned());
    let (reverted, again) =
        (plan::opt_out(&plan::PodTemplate::new(&merged), None), scenario.inject(&merged).template);
    let reverted_again = plan::opt_out(&plan::PodTemplate::new(&again), None);
    let replaced = scenario.resolution.settings.existing.value == ExistingHookPolicy::Replace;
    for index in places {
        prop_assert_eq!(&hook(&reverted, index), &own);
        prop_assert!(replaced || hook(&again, index) == own, "{again}");
        prop_assert_eq!(&hook(&reverted_again, index), &own);
    }
    Ok(())
}

/// Nor does an unrelated update apply a policy or Service that changed since.
pub fn unrelated_update_changes_no_template(
    scenario: &Scenario,
    created: &DynamicObject,
    other: NamespaceContext,
) -> Law {
    // The API server may call the webhook again on creation, after other webhooks.
    prop_assert_eq!(scenario.admit(created, None), None);
    prop_assert_eq!(scenario.admit(created, Some(created)), None);
    let mut scaled = created.clone();
    scaled.data["spec"]["replicas"] = json!(7);
    prop_assert_eq!(Scenario::new(scaled.clone(), other).admit(&scaled, Some(created)), None);
    Ok(())
}

/// As by `kubectl replace` or a Git sync: the request has no record.
pub fn replace_with_the_original_manifest_keeps_the_injection(
    scenario: &Scenario,
    created: &DynamicObject,
) -> Law {
    prop_assert_eq!(&scenario.admitted(&scenario.object, Some(created)).data, &created.data);
    Ok(())
}

pub fn controller_agrees_with_the_webhook(scenario: &Scenario, created: &DynamicObject) -> Law {
    prop_assert_eq!(scenario.evaluate(created), None);
    // A workload that bypassed the webhook gets the same template, except for a probe that is injected only on creation.
    let evaluated = scenario.evaluate(&scenario.object).unwrap_or_else(|| scenario.template().clone());
    prop_assert_eq!(without_probes(&evaluated), without_probes(&created.data["spec"]["template"]));
    let mut later = scenario.object.clone();
    later.data["spec"]["template"] = evaluated;
    prop_assert_eq!(scenario.evaluate(&later), None);
    Ok(())
}

/// With the webhook and without it. The grace period is kept if a sleep needs it.
pub fn opt_out_restores_the_template(scenario: &Scenario, created: &DynamicObject) -> Law {
    let mut out = created.clone();
    let annotations = out.metadata.annotations.get_or_insert_default();
    annotations.insert("adieu.dev/graceful".into(), "false".into());
    let restored = accepted(scenario.template(), &created.data["spec"]["template"]);
    let mut expected = scenario.object.data.clone();
    if restored != *scenario.template() {
        expected["spec"]["template"] = restored.clone();
    }
    prop_assert_eq!(&scenario.admitted(&out, Some(created)).data, &expected);
    // A workload of another controller has no injection.
    let evaluated = scenario.evaluate(&out).unwrap_or_else(|| out.data["spec"]["template"].clone());
    prop_assert_eq!(evaluated, restored);
    Ok(())
}

pub fn workload_that_is_not_opted_in_stays_unchanged(scenario: &Scenario, created: &DynamicObject) -> Law {
    if !matches!(scenario.resolution.opt_in, OptIn::In(_)) {
        prop_assert_eq!(&created.data, &scenario.object.data);
    }
    Ok(())
}

pub fn containers_of_a_mesh_are_injected(owner: PodOwner, meshed: &Value, completed: &Value) -> Law {
    prop_assert_eq!(without_injected_fields(completed), without_injected_fields(meshed));
    let annotations = &meshed["metadata"]["annotations"];
    let record = annotations[INJECTED].as_str().and_then(|text| text.lines().next());
    // Without an injection there is no record.
    let Some(Record { settings, .. }) = record.and_then(|text| serde_json::from_str(text).ok()) else {
        return Ok(());
    };
    // Without its workload, the pod's own annotation opts it out.
    let is_out = owner != PodOwner::Workload && annotations["adieu.dev/graceful"] == "false";
    if is_out || !meshed["spec"]["containers"].is_array() {
        return Ok(());
    }
    let of_mesh =
        |container: &&Value| container["name"].as_str().is_some_and(|name| name.starts_with("mesh-"));
    let drain = settings.drain_seconds.value;
    let mut grown = false;
    for (before, after) in containers(meshed).zip(containers(completed)).filter(|(before, _)| of_mesh(before))
    {
        prop_assert!(drain == 0 || set(after, PRE_STOP).is_some(), "{after}");
        grown |= set(before, PRE_STOP) != set(after, PRE_STOP);
    }
    let init = completed["spec"]["initContainers"].as_array().into_iter().flatten();
    let sidecars: Vec<_> = init.filter(|container| container["restartPolicy"] == "Always").collect();
    let added = sidecars.iter().any(of_mesh) && owner != PodOwner::Unknown;
    let hooks = PodHooks {
        containers: if grown { drain } else { 0 },
        native_sidecar_count: sidecars.len(),
        ..PodHooks::default()
    };
    let needed = plan::grace_period_seconds(&settings, hooks);
    if let Some(seconds) = grace_period(completed).filter(|_| grown || added) {
        prop_assert!(seconds >= needed, "{seconds} s instead of {needed} s: {completed}");
    }
    Ok(())
}
