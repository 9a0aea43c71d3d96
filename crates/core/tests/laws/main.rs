//! The laws of injection, over all that the API allows (see `generate`), and over the manifests of `manifests`. Each law
//! is a function; laws of one injection share the case, so that more cases run. `PROPTEST_CASES` sets how many.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod edits;
#[path = "../generate/mod.rs"]
mod generate;
mod injection;
#[path = "../../../../tests/manifests/mod.rs"]
mod manifests;
mod requests;
mod scenario;
mod templates;

use adieu_core::plan;
use edits::{edit, handler, order};
use generate::{Case, additions, cases, context, list_mut};
use injection::{
    grace_period_is_positive_and_changes_with_the_hooks, hooks_and_probes_have_one_handler,
    injection_changes_only_its_own_fields, injection_is_idempotent, injection_keeps_fields_of_the_user,
    patch_yields_the_injected_object, revert_restores_the_original, sleeps_fit_the_grace_period,
};
use proptest::{
    prelude::*,
    test_runner::{FileFailurePersistence, RngAlgorithm, TestCaseError},
};
use requests::{
    containers_of_a_mesh_are_injected, controller_agrees_with_the_webhook, edit_survives_the_revert,
    merged_handler_replaces_the_injected_one, opt_out_restores_the_template,
    replace_with_the_original_manifest_keeps_the_injection, unrelated_update_changes_no_template,
    workload_that_is_not_opted_in_stays_unchanged,
};
use scenario::{Scenario, owner};
use templates::{accepted, add, sorted};

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/proptest-regressions/laws.txt");
    ProptestConfig {
        cases: cases.unwrap_or(10_000),
        // Much faster without optimization, and sufficiently random.
        rng_algorithm: RngAlgorithm::XorShift,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(seeds))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// The laws of one injection share a case.
    #[test]
    fn injection_keeps_its_laws(case in cases()) {
        let scenario = Scenario::of(&case);
        let before = scenario.template();
        let after = scenario.inject(before).template;
        injection_is_idempotent(&scenario, &after)?;
        revert_restores_the_original(before, &after)?;
        injection_keeps_fields_of_the_user(&scenario.resolution.settings, before, &after)?;
        grace_period_is_positive_and_changes_with_the_hooks(before, &after)?;
        injection_changes_only_its_own_fields(before, &after)?;
        sleeps_fit_the_grace_period(before, &after)?;
        hooks_and_probes_have_one_handler(before, &after)?;
        patch_yields_the_injected_object(&case.workload, &after)?;
    }

    #[test]
    fn changed_settings_give_the_result_of_a_new_injection(case in cases(), other in context()) {
        let (before, now) = (Scenario::of(&case), Scenario::new(case.object(), other));
        let injected = before.inject(before.template()).template;
        let changed = now.inject(&injected).template;
        let from_scratch = now.inject(now.template());
        if from_scratch.unsatisfiable {
            prop_assert_eq!(changed, accepted(now.template(), &injected));
        } else {
            prop_assert_eq!(&changed["spec"], &from_scratch.template["spec"]);
            prop_assert_eq!(&plan::original(&plan::PodTemplate::new(&changed), None), now.template());
        }
    }

    #[test]
    fn order_of_containers_services_and_policies_does_not_matter(case in cases(), order in order()) {
        let mut shuffled = case.clone();
        let template = &mut shuffled.workload["spec"]["template"];
        for list in ["containers", "initContainers"] {
            if let Some(list) = list_mut(template, list) {
                order.shuffle(list);
            }
        }
        order.shuffle(&mut shuffled.context.services);
        order.shuffle(&mut shuffled.context.policies);
        order.shuffle(&mut shuffled.context.cluster_policies);
        let (scenario, shuffled) = (Scenario::of(&case), Scenario::of(&shuffled));
        prop_assert_eq!(
            sorted(scenario.inject(scenario.template())),
            sorted(shuffled.inject(shuffled.template()))
        );
    }

    #[test]
    fn edits_after_an_injection_are_kept(case in cases(), edit in edit(), own in handler()) {
        let scenario = Scenario::of(&case);
        let injected = scenario.inject(scenario.template()).template;
        edit_survives_the_revert(scenario.template(), &injected, &edit)?;
        merged_handler_replaces_the_injected_one(&scenario, &injected, &own)?;
    }

    #[test]
    fn webhook_and_controller_agree_and_cause_no_rollout(case in cases(), other in context()) {
        let scenario = Scenario::of(&case);
        let created = scenario.admitted(&scenario.object, None);
        unrelated_update_changes_no_template(&scenario, &created, other)?;
        replace_with_the_original_manifest_keeps_the_injection(&scenario, &created)?;
        controller_agrees_with_the_webhook(&scenario, &created)?;
        opt_out_restores_the_template(&scenario, &created)?;
        workload_that_is_not_opted_in_stays_unchanged(&scenario, &created)?;
    }

    /// The API server calls the webhook again after another webhook changed the pod (reinvocation).
    #[test]
    fn reinvocation_changes_no_pod_again(case in cases(), owner in owner(), mesh in additions()) {
        let scenario = Scenario::of(&case);
        let created = scenario.admitted(&scenario.object, None);
        let once = scenario.admitted_pod(&owner.pod(&created), &created, owner).0;
        prop_assert_eq!(&scenario.admitted_pod(&once, &created, owner).0, &once);
        let mut meshed = once.clone();
        for (list, added) in ["containers", "initContainers"].into_iter().zip(&mesh) {
            add(&mut meshed, list, added);
        }
        let (completed, warnings) = scenario.admitted_pod(&meshed, &created, owner);
        prop_assert_eq!(&scenario.admitted_pod(&completed, &created, owner).0, &completed);
        let reasons = ["more than the maximum", "runs on Windows"];
        if warnings.iter().any(|warning| reasons.iter().any(|why| warning.contains(why))) {
            prop_assert_eq!(completed, meshed);
        } else {
            containers_of_a_mesh_are_injected(owner, &meshed, &completed)?;
        }
    }
}

type Law = Result<(), TestCaseError>;

#[test]
fn laws_hold_for_every_manifest() {
    let mut injected = 0;
    for document in manifests::workloads() {
        let name = &document.name;
        let scenario =
            Scenario::of(&Case { workload: document.object.clone(), context: document.context.clone() });
        let (before, after) = (scenario.template(), scenario.inject(scenario.template()).template);
        let laws = [
            injection_is_idempotent(&scenario, &after),
            revert_restores_the_original(before, &after),
            injection_keeps_fields_of_the_user(&scenario.resolution.settings, before, &after),
            grace_period_is_positive_and_changes_with_the_hooks(before, &after),
            injection_changes_only_its_own_fields(before, &after),
            sleeps_fit_the_grace_period(before, &after),
            hooks_and_probes_have_one_handler(before, &after),
            patch_yields_the_injected_object(&document.object, &after),
        ];
        for law in laws {
            law.unwrap_or_else(|broken| unreachable!("{name}: {broken}"));
        }
        injected += usize::from(after != *before);
    }
    assert!(injected >= 60, "only {injected} workloads were injected");
}
