mod probes;
mod rendered;
mod rollbacks;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;

use super::*;
use crate::{
    api::{GracefulPolicy, annotations::INJECTED},
    plan::{Kind, render},
};

/// A Deployment: its `adieu.dev/` annotations and its template.
#[derive(Clone)]
struct Deployment {
    annotations: BTreeMap<String, String>,
    template: Value,
}

impl Deployment {
    fn plain() -> Self {
        let template = json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "v1"}], "terminationGracePeriodSeconds": 30},
        });
        Self { annotations: BTreeMap::new(), template }
    }

    fn annotated(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(format!("adieu.dev/{key}"), value.to_owned());
        self
    }

    fn image(mut self, image: &str) -> Self {
        self.template["spec"]["containers"][0]["image"] = json!(image);
        self
    }

    /// The object after admission of `self`.
    fn admitted(mut self, old: Option<&Self>, context: &NamespaceContext) -> Self {
        let admission = self.sent(old, context);
        assert_eq!(admission.denials, []);
        self.template = admission.template.unwrap_or(self.template);
        self
    }

    /// The object after injection by the command line.
    fn rendered(mut self, context: &NamespaceContext, all: bool) -> Self {
        let rendered = render(&self.workload(), context, all);
        assert_eq!(rendered.denials, []);
        self.template = rendered.template.unwrap_or(self.template);
        self
    }

    fn sent(&self, old: Option<&Self>, context: &NamespaceContext) -> Admission {
        admit(&self.workload(), old.map(Self::workload).as_ref(), context)
    }

    fn workload(&self) -> Workload<'_> {
        Workload::new(Kind::Deployment, &self.annotations, &self.template)
    }

    fn drain(&self) -> Option<i64> {
        self.template["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64()
    }
}

fn policy(drain: i64) -> NamespaceContext {
    policy_of(&json!({"selector": {}, "drainSeconds": drain}))
}

fn auditing() -> NamespaceContext {
    policy_of(&json!({"selector": {}, "mode": "Audit"}))
}

fn policy_of(spec: &Value) -> NamespaceContext {
    let policy: GracefulPolicy = serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"}, "spec": spec,
    }))
    .unwrap();
    NamespaceContext { policies: vec![Arc::new(policy)], ..NamespaceContext::default() }
}

fn no_policies() -> NamespaceContext {
    NamespaceContext::default()
}

#[test]
fn annotation_injects_and_its_removal_restores() {
    let plain = Deployment::plain();
    let managed = plain.clone().annotated("graceful", "true").admitted(Some(&plain), &no_policies());
    assert_eq!(managed.drain(), Some(10));

    let mut unannotated = managed.clone();
    unannotated.annotations.clear();
    assert_eq!(unannotated.admitted(Some(&managed), &no_policies()).template, plain.template);
    let opted_out = managed.clone().annotated("graceful", "false").admitted(Some(&managed), &no_policies());
    assert_eq!(opted_out.template, plain.template);
}

#[test]
fn admission_applies_a_policy_change_with_the_next_template_change() {
    let managed = Deployment::plain().admitted(None, &policy(10));
    assert_eq!(managed.drain(), Some(10));
    assert_eq!(managed.clone().admitted(Some(&managed), &policy(20)).template, managed.template);
    assert_eq!(managed.clone().image("v2").admitted(Some(&managed), &policy(20)).drain(), Some(20));
}

#[test]
fn pending_annotation_is_not_an_instruction() {
    let marked = Deployment::plain().annotated("pending", "NextUpdate");
    let (with, without) = (marked.clone(), Deployment::plain());
    for (new, old) in [(&with, &without), (&without, &with), (&with, &with)] {
        assert_eq!(new.sent(Some(old), &policy(10)).template, None);
    }
    assert_eq!(marked.clone().image("v2").admitted(Some(&marked), &policy(10)).drain(), Some(10));
    assert_eq!(marked.sent(None, &no_policies()).warnings, Vec::<String>::new());
}

#[test]
fn deleted_policy_takes_effect_with_the_next_template_change() {
    let managed = Deployment::plain().admitted(None, &policy(10));
    assert_eq!(managed.clone().admitted(Some(&managed), &no_policies()).template, managed.template);
    let changed = managed.clone().image("v2").admitted(Some(&managed), &no_policies());
    assert_eq!(changed.template, Deployment::plain().image("v2").template);
}

#[test]
fn audit_reverts_with_the_next_template_change() {
    let managed = Deployment::plain().admitted(None, &policy(10));
    for same in [managed.clone(), managed.clone().annotated("graceful", "true")] {
        assert_eq!(same.admitted(Some(&managed), &auditing()).template, managed.template, "no rollout");
    }
    let changed = managed.clone().image("v2").admitted(Some(&managed), &auditing());
    assert_eq!(changed.template, Deployment::plain().image("v2").template);

    // The API server would reject either beside the injected sleep.
    let hook = json!({"exec": {"command": ["/drain"]}});
    let mut merged = managed.clone();
    merged.template["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"] = hook["exec"].clone();
    let merged = merged.admitted(Some(&managed), &auditing());
    assert_eq!(merged.template["spec"]["containers"][0]["lifecycle"]["preStop"], hook);
    let mut shorter = managed.clone();
    shorter.template["spec"]["terminationGracePeriodSeconds"] = json!(5);
    let shorter = shorter.admitted(Some(&managed), &auditing());
    assert_eq!(
        (shorter.drain(), &shorter.template["spec"]["terminationGracePeriodSeconds"]),
        (None, &json!(5))
    );
}

#[test]
fn replaced_object_keeps_its_injection_without_a_rollout() {
    let sent = Deployment::plain().annotated("graceful", "true");
    let managed = sent.clone().admitted(None, &no_policies());
    assert_eq!(sent.clone().admitted(Some(&managed), &no_policies()).template, managed.template);
    // `kubectl apply` of a manifest that names the old grace period.
    let mut reasserted = managed.clone();
    reasserted.template["spec"]["terminationGracePeriodSeconds"] = json!(30);
    assert_eq!(reasserted.admitted(Some(&managed), &no_policies()).template, managed.template);
}

#[test]
fn controllers_own_write_is_admitted_unchanged() {
    let plain = Deployment::plain();
    let managed = plain.clone().admitted(None, &policy(10));
    assert_eq!(managed.sent(Some(&plain), &policy(10)).template, None);
    let updated = plain.clone().admitted(None, &policy(20));
    assert_eq!(updated.sent(Some(&managed), &policy(20)).template, None);
    let unselected = plain.sent(Some(&managed), &no_policies()).template;
    assert_eq!(unselected, Some(managed.template), "a request without the record is not an opt-out");
}

#[test]
fn export_of_an_injected_workload_is_reverted_if_not_opted_in() {
    let mut exported = Deployment::plain().annotated("graceful", "true").admitted(None, &no_policies());
    assert!(exported.template["metadata"]["annotations"][INJECTED].is_string());
    exported.annotations.clear();
    assert_eq!(exported.admitted(None, &no_policies()).template, Deployment::plain().template);
}

#[test]
fn malformed_value_is_denied_only_if_the_request_sets_it() {
    let plain = Deployment::plain();
    let bad = plain.clone().annotated("graceful", "true").annotated("drain-seconds", "ten");
    for old in [None, Some(&plain)] {
        let admission = bad.sent(old, &no_policies());
        assert_eq!(admission.template, None);
        let [refusal] = admission.denials.as_slice() else { unreachable!("{admission:?}") };
        assert_eq!((refusal.key, refusal.value.as_str()), ("adieu.dev/drain-seconds", "ten"));
    }
    let admission = bad.clone().image("v2").sent(Some(&bad), &no_policies());
    assert_eq!(admission.denials, []);
    assert!(admission.warnings[0].contains("adieu.dev/drain-seconds"), "{:?}", admission.warnings);
    assert!(admission.template.is_some(), "the other settings still count");
}

/// As a canary tool copies an injected Deployment: it copies annotations and template, and owns the copy.
#[test]
fn controlled_workload_created_with_an_injection_keeps_it() {
    let source = Deployment::plain().annotated("graceful", "true").admitted(None, &no_policies());
    let copy = Workload { controlled: true, ..source.workload() };
    let unannotated = Deployment { annotations: BTreeMap::new(), ..source.clone() };
    let unannotated = Workload { controlled: true, ..unannotated.workload() };
    let unlabelled = NamespaceContext { injection_enabled: false, ..no_policies() };
    for context in [no_policies(), unlabelled, policy(20), auditing()] {
        for copy in [&copy, &unannotated] {
            assert_eq!(admit(copy, None, &context).template, None, "created");
            let next = source.clone().image("v2");
            let next = copy.with_template(&next.template);
            assert_eq!(admit(&next, Some(copy), &context).template, None, "promoted");
            assert_eq!(evaluate(copy, &context).template, None, "in the cluster");
            assert_eq!(render(copy, &context, false).template, None, "in a manifest");
        }
    }
    assert_eq!(admit(&copy, None, &no_policies()).warnings, Vec::<String>::new());
    // The owner's template counts, even if the source was opted out.
    let plain = Deployment::plain().annotated("graceful", "true");
    let clean = Workload { controlled: true, ..plain.workload() };
    assert_eq!(admit(&clean, Some(&copy), &no_policies()).template, None);
    let out = source.clone().annotated("graceful", "false");
    let out = Workload { controlled: true, ..out.workload() };
    assert_eq!(admit(&out, Some(&copy), &no_policies()).template, Some(Deployment::plain().template));
}

#[test]
fn warning_for_settings_without_effect_is_given_once() {
    let tuned = Deployment::plain().annotated("drain-seconds", "20").annotated("margin-seconds", "1");
    let warnings = tuned.sent(None, &no_policies()).warnings;
    let [warning] = warnings.as_slice() else { unreachable!("{warnings:?}") };
    for part in ["adieu.dev/drain-seconds, adieu.dev/margin-seconds have no effect", "adieu.dev/graceful"] {
        assert!(warning.contains(part), "{warning}");
    }
    assert_eq!(tuned.sent(Some(&tuned), &no_policies()).warnings, Vec::<String>::new(), "nothing changes");
    assert_eq!(tuned.clone().image("v2").sent(Some(&tuned), &no_policies()).warnings.len(), 1);
    assert_eq!(tuned.sent(None, &policy(10)).warnings, Vec::<String>::new(), "a policy opts it in");
    let out = tuned.annotated("graceful", "false");
    assert_eq!(out.sent(None, &no_policies()).warnings, Vec::<String>::new());
}

#[test]
fn audit_warns_with_the_injection() {
    let plain = Deployment::plain();
    let warnings = plain.sent(None, &auditing()).warnings;
    let [warning] = warnings.as_slice() else { unreachable!("{warnings:?}") };
    for part in ["policy all has mode Audit", "a preStop in 1 container", "a grace period of 45 s"] {
        assert!(warning.contains(part), "{warning}");
    }
    assert_eq!(plain.sent(Some(&plain), &auditing()).warnings, Vec::<String>::new(), "nothing changes");
}

/// As injected by a version without the label.
fn without_label(mut injected: Deployment) -> Deployment {
    let metadata = &mut injected.template["metadata"];
    metadata["labels"].as_object_mut().unwrap().remove("adieu.dev/injection").unwrap();
    let text = metadata["annotations"][INJECTED].as_str().unwrap();
    let mut record: Value = serde_json::from_str(text).unwrap();
    record.as_object_mut().unwrap().remove("labels").unwrap();
    metadata["annotations"][INJECTED] = json!(record.to_string());
    injected
}

#[test]
fn template_without_the_label_gets_it_with_its_next_change() {
    let empty = no_policies();
    let plain = Deployment::plain().annotated("graceful", "true");
    let old = without_label(plain.clone().admitted(None, &empty));
    assert_eq!(evaluate(&old.workload(), &empty).template, None);
    assert_eq!(old.sent(Some(&old), &empty).template, None);
    // An annotation without effect.
    let annotated = old.clone().annotated("drain-seconds", "10");
    assert_eq!(annotated.sent(Some(&old), &empty).template, None);
    assert_eq!(evaluate(&annotated.workload(), &empty).template, None);
    // A manifest without the injection, as by `kubectl replace`.
    assert_eq!(plain.clone().admitted(Some(&old), &empty).template, old.template);

    let next = old.clone().image("v2").admitted(Some(&old), &empty);
    assert_eq!(next.template["metadata"]["labels"]["adieu.dev/injection"], "enabled");
    assert_eq!(next.clone().annotated("graceful", "false").admitted(Some(&next), &empty).template, {
        Deployment::plain().image("v2").template
    });
}

#[test]
fn lowered_maximum_keeps_the_injection_when_the_template_changes() {
    let capped = |drain| {
        let cap: crate::api::ClusterGracefulPolicy = serde_json::from_value(json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy",
            "metadata": {"name": "cap"}, "spec": {"maxGracePeriodSeconds": 40},
        }))
        .unwrap();
        NamespaceContext { cluster_policies: vec![Arc::new(cap)], ..policy(drain) }
    };
    let managed = Deployment::plain().admitted(None, &policy(20));
    let sent = managed.clone().image("v2");
    let changed = sent.sent(Some(&managed), &capped(20));
    assert!(changed.warnings.iter().any(|warning| warning == INJECTION_KEPT), "{:?}", changed.warnings);
    let changed = sent.admitted(Some(&managed), &capped(20));
    assert_eq!(changed.drain(), Some(20));
    assert_eq!(changed.template["spec"]["terminationGracePeriodSeconds"], 55);
    // The API server may call the webhook again, and a client may send the original manifest.
    assert_eq!(changed.sent(Some(&managed), &capped(20)).template, None);
    let resent = Deployment::plain().image("v3").admitted(Some(&managed), &capped(30));
    assert_eq!(resent.drain(), Some(20), "with the settings of the earlier injection");

    let new = Deployment::plain().sent(None, &capped(20));
    assert_eq!(new.template, None);
    let opted_out = managed.clone().annotated("graceful", "false").admitted(Some(&managed), &capped(20));
    assert_eq!(opted_out.template, Deployment::plain().template);
}

#[test]
fn revert_mode_reverts_with_the_next_template_change() {
    let reverting = policy_of(&json!({"selector": {}, "rollout": {"mode": "Revert"}}));
    assert_eq!(Deployment::plain().sent(None, &reverting).template, None);
    let managed = Deployment::plain().admitted(None, &policy(10));
    for same in [managed.clone(), managed.clone().annotated("drain-seconds", "20")] {
        assert_eq!(
            same.admitted(Some(&managed), &reverting).template,
            managed.template,
            "it waits for a slot"
        );
    }
    let changed = managed.clone().image("v2").admitted(Some(&managed), &reverting);
    assert_eq!(changed.template, Deployment::plain().image("v2").template);
    let reverted = Deployment::plain();
    assert_eq!(
        reverted.sent(Some(&managed), &reverting).template,
        None,
        "the controller's write is admitted unchanged"
    );

    let graceful = Deployment::plain().annotated("graceful", "true");
    assert_eq!(graceful.clone().admitted(None, &reverting).drain(), Some(10));
    assert_eq!(graceful.image("v2").admitted(Some(&managed), &reverting).drain(), Some(10));
    let rendered = Deployment::plain().rendered(&policy(20), false);
    assert_eq!(rendered.clone().image("v2").sent(Some(&rendered), &reverting).template, None);
}
