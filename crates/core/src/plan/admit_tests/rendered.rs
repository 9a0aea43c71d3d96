//! Manifests that the command line injected.

use super::*;

#[test]
fn audit_keeps_an_injection_by_the_command_line() {
    let rendered = Deployment::plain().rendered(&policy(20), false);
    assert_eq!(rendered.sent(None, &auditing()).template, None);
    assert_eq!(rendered.clone().image("v2").sent(Some(&rendered), &auditing()).template, None);
}

#[test]
fn injection_by_the_command_line_is_admitted_unchanged() {
    // By a policy that the cluster doesn't have, or not yet; by one that it has; for all workloads.
    let by_policy = Deployment::plain().rendered(&policy(20), false);
    let for_all = Deployment::plain().rendered(&no_policies(), true);
    assert_eq!((by_policy.drain(), for_all.drain()), (Some(20), Some(10)));
    for (rendered, context) in
        [(&by_policy, no_policies()), (&by_policy, policy(20)), (&for_all, no_policies())]
    {
        assert_eq!(rendered.sent(None, &context).template, None);
        assert_eq!(rendered.sent(Some(rendered), &context).template, None);
        // An edit in the cluster keeps it.
        let edited = rendered.clone().image("v2").admitted(Some(rendered), &context);
        assert_eq!(edited.drain(), rendered.drain());
    }
    let named = Deployment::plain().annotated("policy", "all").rendered(&policy(20), false);
    assert_eq!(named.sent(None, &no_policies()).template, None, "the policy may follow");
}

#[test]
fn injection_removed_by_the_command_line_is_reverted() {
    let rendered = Deployment::plain().rendered(&policy(20), false);
    let plain = Deployment::plain();
    assert_eq!(plain.clone().admitted(Some(&rendered), &no_policies()).template, plain.template);
    let opted_out = rendered.clone().annotated("graceful", "false");
    assert_eq!(opted_out.admitted(Some(&rendered), &no_policies()).template, plain.template);
    let annotated = Deployment::plain().annotated("graceful", "true").rendered(&no_policies(), false);
    let mut unannotated = annotated.clone();
    unannotated.annotations.clear();
    assert_eq!(unannotated.admitted(Some(&annotated), &no_policies()).template, plain.template);
}

#[test]
fn cluster_policies_win_over_the_command_line_without_a_second_rollout() {
    let rendered = Deployment::plain().annotated("graceful", "true").rendered(&no_policies(), false);
    let admitted = rendered.clone().admitted(None, &policy(20));
    assert_eq!((rendered.drain(), admitted.drain()), (Some(10), Some(20)));
    // A Git sync applies the same manifest repeatedly.
    assert_eq!(rendered.clone().admitted(Some(&admitted), &policy(20)).template, admitted.template);
    // A manifest that was rendered again, without policies in the cluster.
    let again = Deployment::plain().rendered(&policy(15), false);
    let before = Deployment::plain().rendered(&policy(10), false);
    assert_eq!(again.sent(Some(&before), &no_policies()).template, None);
}

#[test]
fn rendering_an_injected_workload_causes_no_rollout() {
    let sent = Deployment::plain().annotated("graceful", "true");
    let admitted = sent.clone().admitted(None, &no_policies());
    let mut manifest = sent;
    manifest.template["spec"].as_object_mut().unwrap().remove("terminationGracePeriodSeconds");
    let rendered = manifest.rendered(&no_policies(), false);
    assert_ne!(rendered.template, admitted.template, "the records differ");
    assert_eq!(rendered.admitted(Some(&admitted), &no_policies()).template, admitted.template);
}

#[test]
fn probe_chosen_on_creation_is_kept() {
    let mut plain = Deployment::plain().annotated("graceful", "true");
    plain.template["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8080, "name": "http"}]);
    let rendered = plain.rendered(&no_policies(), false);
    let probe =
        |deployment: &Deployment| deployment.template["spec"]["containers"][0]["readinessProbe"].clone();
    assert_eq!(probe(&rendered)["tcpSocket"]["port"], 8080);
    let updated = rendered.clone().image("v2");
    assert_eq!(updated.sent(Some(&rendered), &no_policies()).template, None);
}

#[test]
fn manifest_of_an_older_command_line_is_kept() {
    let empty = no_policies();
    let rendered = Deployment::plain().annotated("graceful", "true").rendered(&empty, false);
    let older = without_label(rendered.clone());
    let created = older.clone().admitted(None, &empty);
    assert_eq!(created.template, older.template);
    assert_eq!(older.sent(Some(&created), &empty).template, None);
    assert_eq!(evaluate(&created.workload(), &empty).template, None);
    // Rendered again, it has the label.
    assert_eq!(older.rendered(&empty, false).template, rendered.template);
}
