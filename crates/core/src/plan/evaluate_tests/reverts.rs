//! Policies with the rollout mode `Revert`.

use super::*;

#[test]
fn reverting_policy_reverts_injections_in_rollout_slots() {
    let none = annotated(&[]);
    let injected = evaluated(&plain(), &none, &policy(20)).template.unwrap();
    let found = evaluated(&injected, &none, &reverting());
    assert_eq!((found.template.as_ref(), found.state), (Some(&plain()), InjectionState::Pending));
    assert_eq!(
        (found.timing, found.requested_by),
        (RolloutTiming::Queued, [(Source::Policy("all".into()), 2)].into())
    );

    let reverted = evaluated(&plain(), &none, &reverting());
    assert_eq!((reverted.template.as_ref(), reverted.state), (None, InjectionState::Reverted));
}

#[test]
fn reverting_policy_reverts_workloads_that_name_it_unless_annotated_as_graceful() {
    let names = annotated(&[("policy", "all")]);
    let injected = evaluated(&plain(), &names, &policy(20)).template.unwrap();
    let named = evaluated(&injected, &names, &reverting());
    assert_eq!((named.template, named.timing), (Some(plain()), RolloutTiming::Queued));
    for instructions in
        [annotated(&[("graceful", "true")]), annotated(&[("graceful", "true"), ("policy", "all")])]
    {
        let injected = evaluated(&plain(), &instructions, &policy(20)).template.unwrap();
        let stays = evaluated(&injected, &instructions, &reverting());
        assert_eq!((stays.template, stays.state), (None, InjectionState::Injected), "{instructions:?}");
        assert!(evaluated(&plain(), &instructions, &reverting()).template.is_some());
    }
}

#[test]
fn cluster_policy_reverts_all_workloads_that_policies_opt_in() {
    let none = annotated(&[]);
    let mut context = policy(20);
    let injected = evaluated(&plain(), &none, &context).template.unwrap();
    let platform = json!({"rollout": {"mode": "Revert", "maxConcurrent": 3}});
    context.cluster_policies = cluster_policies([platform]).cluster_policies;
    let found = evaluated(&injected, &none, &context);
    assert_eq!(found.template, Some(plain()));
    let asking = [(Source::Policy("all".into()), 3), (Source::ClusterPolicy("policy-0".into()), 3)];
    assert_eq!(found.requested_by, asking.into());
    // What the command line injected is the manifest's own.
    let rendered = render(&Workload::new(Kind::Deployment, &none, &plain()), &policy(20), false).template;
    assert_eq!(evaluated(&rendered.unwrap(), &none, &context).state, InjectionState::Injected);
}
