use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;

use super::*;
use crate::{
    api::{GracefulPolicy, annotations::INJECTED},
    plan::{Kind, render},
};

/// A Deployment as the tests hold it: its `adieu.dev/` annotations and its template.
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

    /// The object as `admit` leaves it when `self` is sent.
    fn admitted(mut self, old: Option<&Self>, context: &NamespaceContext) -> Self {
        let admission = self.sent(old, context);
        assert_eq!(admission.refusals, []);
        self.template = admission.template.unwrap_or(self.template);
        self
    }

    /// The object as the command line leaves it.
    fn rendered(mut self, context: &NamespaceContext, all: bool) -> Self {
        let rendered = render(&self.workload(), context, all);
        assert_eq!(rendered.refusals, []);
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

fn nothing() -> NamespaceContext {
    NamespaceContext::default()
}

#[test]
fn annotating_injects_and_taking_the_annotation_away_restores() {
    let plain = Deployment::plain();
    let managed = plain.clone().annotated("graceful", "true").admitted(Some(&plain), &nothing());
    assert_eq!(managed.drain(), Some(10));

    let mut unannotated = managed.clone();
    unannotated.annotations.clear();
    assert_eq!(unannotated.admitted(Some(&managed), &nothing()).template, plain.template);
    let opted_out = managed.clone().annotated("graceful", "false").admitted(Some(&managed), &nothing());
    assert_eq!(opted_out.template, plain.template);
}

#[test]
fn a_policy_change_waits_for_a_change_of_the_template() {
    let managed = Deployment::plain().admitted(None, &policy(10));
    assert_eq!(managed.drain(), Some(10));
    assert_eq!(managed.clone().admitted(Some(&managed), &policy(20)).template, managed.template);
    assert_eq!(managed.clone().image("v2").admitted(Some(&managed), &policy(20)).drain(), Some(20));
}

#[test]
fn the_mark_of_who_waits_is_no_word_of_a_persons() {
    let marked = Deployment::plain().annotated("pending", "NextUpdate");
    let (with, without) = (marked.clone(), Deployment::plain());
    for (new, old) in [(&with, &without), (&without, &with), (&with, &with)] {
        assert_eq!(new.sent(Some(old), &policy(10)).template, None);
    }
    assert_eq!(marked.clone().image("v2").admitted(Some(&marked), &policy(10)).drain(), Some(10));
    assert_eq!(marked.sent(None, &nothing()).warnings, Vec::<String>::new());
}

#[test]
fn a_vanished_policy_is_followed_at_the_next_change_of_the_template() {
    let managed = Deployment::plain().admitted(None, &policy(10));
    assert_eq!(managed.clone().admitted(Some(&managed), &nothing()).template, managed.template);
    let changed = managed.clone().image("v2").admitted(Some(&managed), &nothing());
    assert_eq!(changed.template, Deployment::plain().image("v2").template);
}

#[test]
fn where_a_policy_only_audits_by_now_the_next_change_of_the_template_takes_back() {
    let managed = Deployment::plain().admitted(None, &policy(10));
    for same in [managed.clone(), managed.clone().annotated("graceful", "true")] {
        assert_eq!(same.admitted(Some(&managed), &auditing()).template, managed.template, "nothing rolls");
    }
    let changed = managed.clone().image("v2").admitted(Some(&managed), &auditing());
    assert_eq!(changed.template, Deployment::plain().image("v2").template);

    // Beside the injected sleep the API server would refuse either.
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
fn where_a_policy_only_audits_a_manifest_stays_as_the_command_line_injected_it() {
    let rendered = Deployment::plain().rendered(&policy(20), false);
    assert_eq!(rendered.sent(None, &auditing()).template, None);
    assert_eq!(rendered.clone().image("v2").sent(Some(&rendered), &auditing()).template, None);
}

#[test]
fn a_replaced_object_keeps_its_injection_without_a_rollout() {
    let sent = Deployment::plain().annotated("graceful", "true");
    let managed = sent.clone().admitted(None, &nothing());
    assert_eq!(sent.clone().admitted(Some(&managed), &nothing()).template, managed.template);
    // `kubectl apply` of a manifest that names the old grace period.
    let mut reasserted = managed.clone();
    reasserted.template["spec"]["terminationGracePeriodSeconds"] = json!(30);
    assert_eq!(reasserted.admitted(Some(&managed), &nothing()).template, managed.template);
}

#[test]
fn the_controllers_own_write_passes() {
    let plain = Deployment::plain();
    let managed = plain.clone().admitted(None, &policy(10));
    assert_eq!(managed.sent(Some(&plain), &policy(10)).template, None);
    let updated = plain.clone().admitted(None, &policy(20));
    assert_eq!(updated.sent(Some(&managed), &policy(20)).template, None);
    let unselected = plain.sent(Some(&managed), &nothing()).template;
    assert_eq!(unselected, Some(managed.template), "who drops the record has not opted out");
}

#[test]
fn an_export_of_an_injected_workload_comes_clean_where_nobody_manages_it() {
    let mut exported = Deployment::plain().annotated("graceful", "true").admitted(None, &nothing());
    assert!(exported.template["metadata"]["annotations"][INJECTED].is_string());
    exported.annotations.clear();
    assert_eq!(exported.admitted(None, &nothing()).template, Deployment::plain().template);
}

#[test]
fn what_the_command_line_injected_is_taken_as_it_is() {
    // By a policy that the cluster doesn't know, or not yet; by one that it knows; for everybody.
    let by_policy = Deployment::plain().rendered(&policy(20), false);
    let for_all = Deployment::plain().rendered(&nothing(), true);
    assert_eq!((by_policy.drain(), for_all.drain()), (Some(20), Some(10)));
    for (rendered, context) in [(&by_policy, nothing()), (&by_policy, policy(20)), (&for_all, nothing())] {
        assert_eq!(rendered.sent(None, &context).template, None);
        assert_eq!(rendered.sent(Some(rendered), &context).template, None);
        // An edit in the cluster keeps it.
        let edited = rendered.clone().image("v2").admitted(Some(rendered), &context);
        assert_eq!(edited.drain(), rendered.drain());
    }
    let named = Deployment::plain().annotated("policy", "all").rendered(&policy(20), false);
    assert_eq!(named.sent(None, &nothing()).template, None, "the policy may follow");
}

#[test]
fn what_the_command_line_no_longer_injects_is_taken_back() {
    let rendered = Deployment::plain().rendered(&policy(20), false);
    let plain = Deployment::plain();
    assert_eq!(plain.clone().admitted(Some(&rendered), &nothing()).template, plain.template);
    let opted_out = rendered.clone().annotated("graceful", "false");
    assert_eq!(opted_out.admitted(Some(&rendered), &nothing()).template, plain.template);
    let annotated = Deployment::plain().annotated("graceful", "true").rendered(&nothing(), false);
    let mut unannotated = annotated.clone();
    unannotated.annotations.clear();
    assert_eq!(unannotated.admitted(Some(&annotated), &nothing()).template, plain.template);
}

#[test]
fn the_clusters_policies_win_over_the_command_line_without_a_second_rollout() {
    let rendered = Deployment::plain().annotated("graceful", "true").rendered(&nothing(), false);
    let admitted = rendered.clone().admitted(None, &policy(20));
    assert_eq!((rendered.drain(), admitted.drain()), (Some(10), Some(20)));
    // A Git sync applies the same manifest again and again.
    assert_eq!(rendered.clone().admitted(Some(&admitted), &policy(20)).template, admitted.template);
    // A manifest that was rendered anew, of which the cluster knows nothing else.
    let anew = Deployment::plain().rendered(&policy(15), false);
    let before = Deployment::plain().rendered(&policy(10), false);
    assert_eq!(anew.sent(Some(&before), &nothing()).template, None);
}

#[test]
fn rendering_what_the_webhook_injected_is_no_rollout() {
    let sent = Deployment::plain().annotated("graceful", "true");
    let admitted = sent.clone().admitted(None, &nothing());
    let mut manifest = sent;
    manifest.template["spec"].as_object_mut().unwrap().remove("terminationGracePeriodSeconds");
    let rendered = manifest.rendered(&nothing(), false);
    assert_ne!(rendered.template, admitted.template, "the records differ");
    assert_eq!(rendered.admitted(Some(&admitted), &nothing()).template, admitted.template);
}

#[test]
fn a_probe_that_was_chosen_at_the_creation_stays() {
    let mut plain = Deployment::plain().annotated("graceful", "true");
    plain.template["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8080, "name": "http"}]);
    let rendered = plain.rendered(&nothing(), false);
    let probe =
        |deployment: &Deployment| deployment.template["spec"]["containers"][0]["readinessProbe"].clone();
    assert_eq!(probe(&rendered)["tcpSocket"]["port"], 8080);
    let updated = rendered.clone().image("v2");
    assert_eq!(updated.sent(Some(&rendered), &nothing()).template, None);
}

#[test]
fn a_malformed_value_is_refused_only_where_this_request_brings_it() {
    let plain = Deployment::plain();
    let bad = plain.clone().annotated("graceful", "true").annotated("drain-seconds", "ten");
    for old in [None, Some(&plain)] {
        let admission = bad.sent(old, &nothing());
        assert_eq!(admission.template, None);
        let [refusal] = admission.refusals.as_slice() else { unreachable!("{admission:?}") };
        assert_eq!((refusal.key, refusal.value.as_str()), ("adieu.dev/drain-seconds", "ten"));
    }
    let admission = bad.clone().image("v2").sent(Some(&bad), &nothing());
    assert_eq!(admission.refusals, []);
    assert!(admission.warnings[0].contains("adieu.dev/drain-seconds"), "{:?}", admission.warnings);
    assert!(admission.template.is_some(), "the other settings still count");
}

/// What `kubectl rollout undo` sends: the template of an earlier revision, with the annotations of that time
/// and the present revision's number.
fn undo(to: &Deployment, from: &Deployment) -> Deployment {
    let mut sent = to.clone();
    sent.annotations.insert(REVISION.into(), from.annotations[REVISION].clone());
    sent
}

#[test]
fn undoing_a_rollout_is_no_opt_out() {
    let mut before = Deployment::plain();
    before.annotations.insert(REVISION.into(), "1".into());
    let mut managed = before.clone().annotated("graceful", "true").admitted(Some(&before), &nothing());
    managed.annotations.insert(REVISION.into(), "2".into());
    let mut next = managed.clone().image("v2").admitted(Some(&managed), &nothing());
    next.annotations.insert(REVISION.into(), "3".into());
    let sent = undo(&before, &next);
    let (annotations, template) = preserve_opt_in_on_rollback(&sent.workload(), &next.workload()).unwrap();
    let kept = Deployment { annotations, template }.admitted(Some(&next), &nothing());
    assert_eq!(kept.template, managed.template, "the earlier image, injected");
    assert_eq!(
        preserve_opt_in_on_rollback(&undo(&managed, &next).workload(), &next.workload()),
        None,
        "nothing is lost"
    );
}

#[test]
fn a_git_sync_of_an_earlier_injection_rolls_nothing_and_undoing_a_rollout_goes_back_to_it() {
    let exported = Deployment::plain().admitted(None, &policy(10));
    let managed = Deployment::plain().admitted(None, &policy(20));
    assert_eq!(exported.clone().admitted(Some(&managed), &policy(20)).template, managed.template);
    let undo = admit_anonymous(&exported.workload(), Some(&managed.workload()), &policy(20));
    assert_eq!(undo.template, None, "the earlier revision, as it was");
    let changed = exported.image("v2").admitted(Some(&managed), &policy(20));
    assert_eq!(changed.drain(), Some(20));
}

#[test]
fn undoing_keeps_what_the_template_said() {
    let mut old = Deployment::plain();
    old.template["metadata"]["annotations"] = json!({"adieu.dev/graceful": "true"});
    let old = old.admitted(None, &nothing());
    let earlier = Deployment::plain().image("v0");
    let sent = Workload { kind: Some(Kind::StatefulSet), ..earlier.workload() };
    let old = Workload { kind: Some(Kind::StatefulSet), ..old.workload() };
    let (_, template) = preserve_opt_in_on_rollback(&sent, &old).unwrap();
    assert_eq!(template["metadata"]["annotations"], json!({"adieu.dev/graceful": "true"}));
}

#[test]
fn replacing_a_stateful_set_without_its_annotation_is_an_opt_out() {
    let managed = Deployment::plain().annotated("graceful", "true").admitted(None, &nothing());
    let plain = Deployment::plain();
    for kind in [Kind::StatefulSet, Kind::DaemonSet] {
        let sent = Workload { kind: Some(kind), ..plain.workload() };
        let old = Workload { kind: Some(kind), ..managed.workload() };
        assert_eq!(preserve_opt_in_on_rollback(&sent, &old), None, "{kind:?}");
        assert_eq!(admit(&sent, Some(&old), &nothing()).template, None, "{kind:?}");
    }
}

#[test]
fn whoever_takes_the_annotation_away_himself_opts_out() {
    let mut before = Deployment::plain();
    before.annotations.insert(REVISION.into(), "1".into());
    let managed = before.clone().annotated("graceful", "true").admitted(Some(&before), &nothing());
    let mut unannotated = managed.clone();
    unannotated.annotations.remove("adieu.dev/graceful");
    assert_eq!(preserve_opt_in_on_rollback(&unannotated.workload(), &managed.workload()), None);
    assert_eq!(
        preserve_opt_in_on_rollback(&Deployment::plain().workload(), &managed.workload()),
        None,
        "a manifest of his own"
    );
}

/// A client that names no field manager reads, changes and replaces the object.
#[test]
fn taking_away_all_that_is_adieus_and_nothing_else_is_an_opt_out() {
    let mut plain = Deployment::plain();
    plain.annotations.insert(REVISION.into(), "2".into());
    plain.template["metadata"]["annotations"] = json!({"team": "shop"});
    let annotated = plain.clone().annotated("graceful", "true").annotated("drain-seconds", "20");
    let mut on_template = plain.clone();
    on_template.template["metadata"]["annotations"]["adieu.dev/graceful"] = json!("true");
    for opted_in in [annotated, on_template] {
        let managed = opted_in.admitted(Some(&plain), &nothing());
        assert!(managed.drain().is_some());
        for kind in [Kind::Deployment, Kind::StatefulSet] {
            let sent = Workload { kind: Some(kind), ..plain.workload() };
            let old = Workload { kind: Some(kind), ..managed.workload() };
            assert_eq!(preserve_opt_in_on_rollback(&sent, &old), None, "{kind:?}");
            assert_eq!(
                admit_anonymous(&sent, Some(&old), &nothing()).template,
                None,
                "{kind:?}: it stays out"
            );
        }
        // The label may be left over, and goes.
        let mut labelled = plain.clone();
        labelled.template["metadata"]["labels"]["adieu.dev/injection"] = json!("enabled");
        let (sent, old) = (labelled.workload(), managed.workload());
        assert_eq!(preserve_opt_in_on_rollback(&sent, &old), None);
        let admitted = admit_anonymous(&sent, Some(&old), &nothing()).template;
        assert_eq!(admitted.as_ref(), Some(&plain.template));
        // With the image of an earlier revision it is one, from before the opt-in.
        assert!(
            preserve_opt_in_on_rollback(&plain.clone().image("v0").workload(), &managed.workload()).is_some()
        );
    }
}

/// What a canary tool makes of an injected Deployment: it copies annotations and template, and owns the copy.
#[test]
fn a_controlled_workload_that_came_injected_keeps_what_it_has() {
    let source = Deployment::plain().annotated("graceful", "true").admitted(None, &nothing());
    let copy = Workload { controlled: true, ..source.workload() };
    let unannotated = Deployment { annotations: BTreeMap::new(), ..source.clone() };
    let unannotated = Workload { controlled: true, ..unannotated.workload() };
    let unlabelled = NamespaceContext { all_pods: false, ..nothing() };
    for around in [nothing(), unlabelled, policy(20), auditing()] {
        for copy in [&copy, &unannotated] {
            assert_eq!(admit(copy, None, &around).template, None, "created");
            let next = source.clone().image("v2");
            let next = Workload { template: &next.template, ..*copy };
            assert_eq!(admit(&next, Some(copy), &around).template, None, "promoted");
            assert_eq!(evaluate(copy, &around).template, None, "in the cluster");
            assert_eq!(render(copy, &around, false).template, None, "in a manifest");
        }
    }
    assert_eq!(admit(&copy, None, &nothing()).warnings, Vec::<String>::new());
    // The owner's template counts, also where the source was opted out.
    let plain = Deployment::plain().annotated("graceful", "true");
    let clean = Workload { controlled: true, ..plain.workload() };
    assert_eq!(admit(&clean, Some(&copy), &nothing()).template, None);
    let out = source.clone().annotated("graceful", "false");
    let out = Workload { controlled: true, ..out.workload() };
    assert_eq!(admit(&out, Some(&copy), &nothing()).template, Some(Deployment::plain().template));
}

#[test]
fn what_has_no_effect_is_told_once() {
    let tuned = Deployment::plain().annotated("drain-seconds", "20").annotated("margin-seconds", "1");
    let warnings = tuned.sent(None, &nothing()).warnings;
    let [warning] = warnings.as_slice() else { unreachable!("{warnings:?}") };
    for part in ["adieu.dev/drain-seconds, adieu.dev/margin-seconds have no effect", "adieu.dev/graceful"] {
        assert!(warning.contains(part), "{warning}");
    }
    assert_eq!(tuned.sent(Some(&tuned), &nothing()).warnings, Vec::<String>::new(), "nothing changes");
    assert_eq!(tuned.clone().image("v2").sent(Some(&tuned), &nothing()).warnings.len(), 1);
    assert_eq!(tuned.sent(None, &policy(10)).warnings, Vec::<String>::new(), "a policy opts it in");
    let out = tuned.annotated("graceful", "false");
    assert_eq!(out.sent(None, &nothing()).warnings, Vec::<String>::new());
}

#[test]
fn what_a_policy_that_only_audits_would_inject_is_told() {
    let plain = Deployment::plain();
    let warnings = plain.sent(None, &auditing()).warnings;
    let [warning] = warnings.as_slice() else { unreachable!("{warnings:?}") };
    for part in ["policy all has the mode Audit", "a preStop in 1 container", "a grace period of 45 s"] {
        assert!(warning.contains(part), "{warning}");
    }
    assert_eq!(plain.sent(Some(&plain), &auditing()).warnings, Vec::<String>::new(), "nothing changes");
}

/// As a version without the label would have injected.
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
fn a_template_without_the_label_gets_it_with_its_next_change_only() {
    let nobody = nothing();
    let plain = Deployment::plain().annotated("graceful", "true");
    let old = without_label(plain.clone().admitted(None, &nobody));
    assert_eq!(evaluate(&old.workload(), &nobody).template, None);
    assert_eq!(old.sent(Some(&old), &nobody).template, None);
    // An annotation that makes no difference.
    let said = old.clone().annotated("drain-seconds", "10");
    assert_eq!(said.sent(Some(&old), &nobody).template, None);
    assert_eq!(evaluate(&said.workload(), &nobody).template, None);
    // A manifest without what was injected, as `kubectl replace` sends it.
    assert_eq!(plain.clone().admitted(Some(&old), &nobody).template, old.template);

    let next = old.clone().image("v2").admitted(Some(&old), &nobody);
    assert_eq!(next.template["metadata"]["labels"]["adieu.dev/injection"], "enabled");
    assert_eq!(next.clone().annotated("graceful", "false").admitted(Some(&next), &nobody).template, {
        Deployment::plain().image("v2").template
    });
}

#[test]
fn what_an_older_command_line_rendered_stays_as_it_is() {
    let nobody = nothing();
    let rendered = Deployment::plain().annotated("graceful", "true").rendered(&nobody, false);
    let older = without_label(rendered.clone());
    let created = older.clone().admitted(None, &nobody);
    assert_eq!(created.template, older.template);
    assert_eq!(older.sent(Some(&created), &nobody).template, None);
    assert_eq!(evaluate(&created.workload(), &nobody).template, None);
    // Rendered anew, it has the label.
    assert_eq!(older.rendered(&nobody, false).template, rendered.template);
}

#[test]
fn a_lowered_maximum_takes_nothing_from_a_workload_whose_template_changes() {
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
    assert!(changed.warnings.iter().any(|warning| warning == KEPT), "{:?}", changed.warnings);
    let changed = sent.admitted(Some(&managed), &capped(20));
    assert_eq!(changed.drain(), Some(20));
    assert_eq!(changed.template["spec"]["terminationGracePeriodSeconds"], 55);
    // The API server may ask again, and a client may send the manifest as it was.
    assert_eq!(changed.sent(Some(&managed), &capped(20)).template, None);
    let resent = Deployment::plain().image("v3").admitted(Some(&managed), &capped(30));
    assert_eq!(resent.drain(), Some(20), "with the settings of the injection that it has");

    let new = Deployment::plain().sent(None, &capped(20));
    assert_eq!(new.template, None);
    let opted_out = managed.clone().annotated("graceful", "false").admitted(Some(&managed), &capped(20));
    assert_eq!(opted_out.template, Deployment::plain().template);
}

#[test]
fn where_a_policy_reverts_the_next_change_of_the_template_takes_back_and_nothing_is_injected() {
    let reverting = policy_of(&json!({"selector": {}, "rollout": {"mode": "Revert"}}));
    assert_eq!(Deployment::plain().sent(None, &reverting).template, None);
    let managed = Deployment::plain().admitted(None, &policy(10));
    for same in [managed.clone(), managed.clone().annotated("drain-seconds", "20")] {
        assert_eq!(
            same.admitted(Some(&managed), &reverting).template,
            managed.template,
            "it waits for its turn"
        );
    }
    let changed = managed.clone().image("v2").admitted(Some(&managed), &reverting);
    assert_eq!(changed.template, Deployment::plain().image("v2").template);
    let reverted = Deployment::plain();
    assert_eq!(reverted.sent(Some(&managed), &reverting).template, None, "the controller's own write passes");

    let graceful = Deployment::plain().annotated("graceful", "true");
    assert_eq!(graceful.clone().admitted(None, &reverting).drain(), Some(10));
    assert_eq!(graceful.image("v2").admitted(Some(&managed), &reverting).drain(), Some(10));
    let rendered = Deployment::plain().rendered(&policy(20), false);
    assert_eq!(rendered.clone().image("v2").sent(Some(&rendered), &reverting).template, None);
}
