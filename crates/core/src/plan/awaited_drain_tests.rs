use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::plan::{
    Admission, DrainOrigin, Kind, NamespaceContext, Workload, admit, auto_drain::tests::exposed, evaluate,
};

/// The warnings about a workload of this kind whose exposures need a drain.
fn warnings(kind: Kind, drain: &str, needed: i64, spec: &Value) -> Vec<String> {
    let annotations = BTreeMap::from([
        ("adieu.dev/graceful".to_owned(), "true".to_owned()),
        ("adieu.dev/drain-seconds".to_owned(), drain.to_owned()),
    ]);
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"}]}});
    let workload = Workload {
        recreates: spec["strategy"]["type"] == "Recreate",
        replaces_terminated: crate::plan::is_replaced_terminated(spec),
        ..Workload::new(kind, &annotations, &template)
    };
    let context = exposed(&NamespaceContext::default(), needed, DrainOrigin::BuiltIn);
    let Admission { warnings, .. } = admit(&workload, None, &context);
    assert_eq!(evaluate(&workload, &context).warnings, warnings, "{kind:?}");
    warnings
}

#[test]
fn a_long_automatic_drain_that_a_rollout_waits_for_causes_a_warning() {
    let recreate = json!({"strategy": {"type": "Recreate"}});
    let complete = json!({"podReplacementPolicy": "TerminationComplete"});
    for (kind, drain, needed, spec, expected) in [
        (Kind::StatefulSet, "auto", 300, &json!({}), "a rollout of 10 pods takes 50 min or more"),
        (Kind::DaemonSet, "auto", 90, &json!({}), "a rollout on 10 nodes takes 15 min or more"),
        (Kind::Deployment, "auto", 300, &recreate, "with strategy Recreate no new pod starts before that"),
        (Kind::Deployment, "auto", 300, &complete, "podReplacementPolicy TerminationComplete"),
        (Kind::Deployment, "auto", 300, &json!({}), ""),
        (Kind::StatefulSet, "auto", 60, &json!({}), ""),
        // A number is the user's decision.
        (Kind::StatefulSet, "300", 300, &json!({}), ""),
    ] {
        let found = warnings(kind, drain, needed, spec);
        if expected.is_empty() {
            assert_eq!(found, [""; 0], "{kind:?}, {drain}, {needed}");
            continue;
        }
        let [warning] = found.as_slice() else { unreachable!("{expected}: {found:?}") };
        assert!(warning.starts_with(&format!("each pod drains for {needed} s, and ")), "{warning}");
        assert!(warning.contains(expected) && warning.contains("needs"), "{warning}");
        assert!(warning.chars().count() <= 256, "the API server would cut it: {warning}");
    }
}
