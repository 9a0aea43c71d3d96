//! Rollbacks and opt-outs.

use super::*;

/// The request of `kubectl rollout undo`: the template of an earlier revision, with the annotations of that revision and
/// the number of the present one.
fn roll_back(to: &Deployment, from: &Deployment) -> Deployment {
    let mut sent = to.clone();
    sent.annotations.insert(REVISION.into(), from.annotations[REVISION].clone());
    sent
}

#[test]
fn rollback_is_not_an_opt_out() {
    let mut before = Deployment::plain();
    before.annotations.insert(REVISION.into(), "1".into());
    let mut managed = before.clone().annotated("graceful", "true").admitted(Some(&before), &no_policies());
    managed.annotations.insert(REVISION.into(), "2".into());
    let mut next = managed.clone().image("v2").admitted(Some(&managed), &no_policies());
    next.annotations.insert(REVISION.into(), "3".into());
    let sent = roll_back(&before, &next);
    let (annotations, template) = preserve_opt_in_on_rollback(&sent.workload(), &next.workload()).unwrap();
    let kept = Deployment { annotations, template }.admitted(Some(&next), &no_policies());
    assert_eq!(kept.template, managed.template, "the earlier image, injected");
    assert_eq!(
        preserve_opt_in_on_rollback(&roll_back(&managed, &next).workload(), &next.workload()),
        None,
        "nothing is lost"
    );
}

#[test]
fn git_sync_of_an_earlier_injection_causes_no_rollout_and_a_rollback_restores_it() {
    let exported = Deployment::plain().admitted(None, &policy(10));
    let managed = Deployment::plain().admitted(None, &policy(20));
    assert_eq!(exported.clone().admitted(Some(&managed), &policy(20)).template, managed.template);
    let rollback = admit_without_field_manager(&exported.workload(), Some(&managed.workload()), &policy(20));
    assert_eq!(rollback.template, None, "the earlier revision, unchanged");
    let changed = exported.image("v2").admitted(Some(&managed), &policy(20));
    assert_eq!(changed.drain(), Some(20));
}

#[test]
fn rollback_keeps_the_instructions_of_the_template() {
    let mut old = Deployment::plain();
    old.template["metadata"]["annotations"] = json!({"adieu.dev/graceful": "true"});
    let old = old.admitted(None, &no_policies());
    let earlier = Deployment::plain().image("v0");
    let sent = Workload { kind: Some(Kind::StatefulSet), ..earlier.workload() };
    let old = Workload { kind: Some(Kind::StatefulSet), ..old.workload() };
    let (_, template) = preserve_opt_in_on_rollback(&sent, &old).unwrap();
    assert_eq!(template["metadata"]["annotations"], json!({"adieu.dev/graceful": "true"}));
}

#[test]
fn replacing_a_stateful_set_without_its_annotation_is_an_opt_out() {
    let managed = Deployment::plain().annotated("graceful", "true").admitted(None, &no_policies());
    let plain = Deployment::plain();
    for kind in [Kind::StatefulSet, Kind::DaemonSet] {
        let sent = Workload { kind: Some(kind), ..plain.workload() };
        let old = Workload { kind: Some(kind), ..managed.workload() };
        assert_eq!(preserve_opt_in_on_rollback(&sent, &old), None, "{kind:?}");
        assert_eq!(admit(&sent, Some(&old), &no_policies()).template, None, "{kind:?}");
    }
}

#[test]
fn removing_the_annotation_is_an_opt_out() {
    let mut before = Deployment::plain();
    before.annotations.insert(REVISION.into(), "1".into());
    let managed = before.clone().annotated("graceful", "true").admitted(Some(&before), &no_policies());
    let mut unannotated = managed.clone();
    unannotated.annotations.remove("adieu.dev/graceful");
    assert_eq!(preserve_opt_in_on_rollback(&unannotated.workload(), &managed.workload()), None);
    assert_eq!(
        preserve_opt_in_on_rollback(&Deployment::plain().workload(), &managed.workload()),
        None,
        "a manifest without the revision"
    );
}

/// A client that names no field manager reads, changes and replaces the object.
#[test]
fn removing_only_adieus_fields_is_an_opt_out() {
    let mut plain = Deployment::plain();
    plain.annotations.insert(REVISION.into(), "2".into());
    plain.template["metadata"]["annotations"] = json!({"team": "shop"});
    let annotated = plain.clone().annotated("graceful", "true").annotated("drain-seconds", "20");
    let mut on_template = plain.clone();
    on_template.template["metadata"]["annotations"]["adieu.dev/graceful"] = json!("true");
    for opted_in in [annotated, on_template] {
        let managed = opted_in.admitted(Some(&plain), &no_policies());
        assert!(managed.drain().is_some());
        for kind in [Kind::Deployment, Kind::StatefulSet] {
            let sent = Workload { kind: Some(kind), ..plain.workload() };
            let old = Workload { kind: Some(kind), ..managed.workload() };
            assert_eq!(preserve_opt_in_on_rollback(&sent, &old), None, "{kind:?}");
            assert_eq!(
                admit_without_field_manager(&sent, Some(&old), &no_policies()).template,
                None,
                "{kind:?}: it stays out"
            );
        }
        // A leftover label is removed.
        let mut labelled = plain.clone();
        labelled.template["metadata"]["labels"]["adieu.dev/injection"] = json!("enabled");
        let (sent, old) = (labelled.workload(), managed.workload());
        assert_eq!(preserve_opt_in_on_rollback(&sent, &old), None);
        let admitted = admit_without_field_manager(&sent, Some(&old), &no_policies()).template;
        assert_eq!(admitted.as_ref(), Some(&plain.template));
        // With the image of an earlier revision it is a rollback to the time before the opt-in.
        assert!(
            preserve_opt_in_on_rollback(&plain.clone().image("v0").workload(), &managed.workload()).is_some()
        );
    }
}
