//! Objects that stay unchanged despite adieu's annotations or labels, which is reported once.

use crate::{
    POLICY, WEB, inject, revert,
    support::{adieu, documents, succeed},
};

/// The lines of standard error, without the last one, which is the summary.
fn warnings(input: &str) -> (Vec<String>, String) {
    let (_, reported) = succeed(&["inject", "-f", "-"], input);
    let mut lines: Vec<String> = reported.lines().map(str::to_owned).collect();
    let summary = lines.pop().unwrap();
    (lines, summary)
}

#[test]
fn annotated_objects_of_other_kinds_stay_with_a_warning_each() {
    let other = |api_version: &str, kind: &str| {
        WEB.replace("apps/v1", api_version).replace("kind: Deployment", &format!("kind: {kind}"))
    };
    let cron_job = "\
apiVersion: batch/v1
kind: CronJob
metadata: {name: web}
spec:
  jobTemplate:
    spec:
      template:
        metadata: {annotations: {adieu.dev/drain-seconds: \"ten\"}}
        spec: {containers: [{name: web}]}
";
    for (input, line, says) in [
        (other("argoproj.io/v1alpha1", "Rollout"), 6, "spec.template.metadata.annotations"),
        (other("apps.kruise.io/v1alpha1", "CloneSet"), 6, "spec.template.metadata.annotations"),
        (other("batch/v1", "Job"), 6, "the pods of this Job when they are created"),
        (other("apps/v1", "ReplicaSet"), 6, "the pods of this ReplicaSet when they are created"),
        (other("apps/v1beta2", "Deployment"), 6, "use apps/v1"),
        (cron_job.to_owned(), 8, "Invalid value: \"ten\": must be a whole number"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  annotations:\n    adieu.dev/graceful: \"true\"\nspec: {containers: [{name: web}]}\n".into(),
            6,
            "injects an annotated Pod when it is created",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  labels:\n    adieu.dev/graceful: \"true\"\n".into(),
            6,
            "finds no pod template in this Service",
        ),
    ] {
        assert_eq!(inject(&input), input);
        let (reported, summary) = warnings(&input);
        assert_eq!(reported.len(), 1, "{reported:?}");
        let title = format!("warning: standard input, document 1, line {line}: ");
        assert!(reported[0].starts_with(&title) && reported[0].contains(" web: "), "{reported:?}");
        assert!(reported[0].contains(says), "{reported:?}");
        assert_eq!(summary, "adieu: 0 injected, 0 unchanged, 1 skipped");
        assert_eq!(revert(&input), input);
    }
}

#[test]
fn labels_and_misplaced_annotations_of_workloads_are_reported() {
    let unsaid = WEB.replace("  annotations:\n    adieu.dev/graceful: \"true\"\n", "");
    for (input, place) in [
        (
            unsaid.replace("        app: web\n", "        app: web\n        adieu.dev/graceful: \"true\"\n"),
            "line 10: Deployment web: spec.template.metadata.labels[adieu.dev/graceful] has no effect",
        ),
        (
            unsaid.replace(
                "spec:\n  template:",
                "spec:\n  annotations: {adieu.dev/graceful: \"true\"}\n  template:",
            ),
            "line 6: Deployment web: spec.annotations[adieu.dev/graceful] has no effect",
        ),
    ] {
        assert_eq!(inject(&input), input);
        let (reported, summary) = warnings(&input);
        assert_eq!(reported.len(), 1, "{reported:?}");
        assert!(reported[0].contains(place) && reported[0].contains("move it there"), "{reported:?}");
        assert_eq!(summary, "adieu: 0 injected, 1 unchanged, 0 skipped");
    }
}

#[test]
fn policies_that_apply_to_no_workload_are_reported() {
    let unsaid = WEB.replace("  annotations:\n    adieu.dev/graceful: \"true\"\n", "  namespace: shop\n");
    let cluster = POLICY.replace("GracefulPolicy", "ClusterGracefulPolicy");
    let of = |policy: &str| {
        let input = format!("{policy}---\n{unsaid}");
        assert_eq!(inject(&input), input);
        warnings(&input).0
    };
    let reported = of(POLICY);
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert!(
        reported[0].starts_with(
            "warning: standard input, document 1, line 1: GracefulPolicy all: applies to no workload in the input: it is in namespace \"default\""
        ),
        "{reported:?}"
    );
    assert!(reported[0].contains("matches are in \"shop\": set its metadata.namespace"), "{reported:?}");
    for (policy, says) in [
        (
            POLICY.replace("selector: {}", "selector: {matchLabels: {app: api}}"),
            "spec.selector (labels of the pod template)",
        ),
        (POLICY.replace("selector: {}", "kinds: [StatefulSet]\n  selector: {}"), "and spec.kinds"),
        (POLICY.replace("selector: {}", "drainSeconds: 5"), "no workload in namespace \"default\" names it"),
        (
            cluster.replace("selector: {}", "selector: {matchLabels: {app: api}}"),
            "check spec.namespaceSelector",
        ),
    ] {
        let reported = of(&policy);
        assert_eq!(reported.len(), 1, "{reported:?}");
        assert!(reported[0].contains(says), "{reported:?}");
    }
    // They apply, set defaults, or there is no workload.
    let defaults = cluster.replace("selector: {}", "drainSeconds: 5");
    for input in [
        format!("{}---\n{unsaid}", POLICY.replace("name: all", "name: all\n  namespace: shop")),
        format!("{cluster}---\n{unsaid}"),
        format!("{defaults}---\n{unsaid}"),
        format!("{POLICY}---\n{cluster}"),
    ] {
        assert_eq!(warnings(&input).0, [""; 0]);
    }
}

#[test]
fn the_last_of_two_definitions_of_a_policy_applies_with_a_warning() {
    let drain = |seconds: u8| format!("{POLICY}  drainSeconds: {seconds}\n");
    let unsaid = WEB.replace("  annotations:\n    adieu.dev/graceful: \"true\"\n", "");
    let input = format!("{}---\n{unsaid}---\n{}", drain(10), drain(45));
    let (reported, _) = warnings(&input);
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert!(
        reported[0]
            .starts_with("warning: standard input, document 3, line 23: GracefulPolicy all: defined twice"),
        "{reported:?}"
    );
    let seconds = |input: &str| {
        let spec = &documents(&inject(input))[1]["spec"]["template"]["spec"];
        spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].clone()
    };
    assert_eq!(seconds(&input), 45);
    // An identical definition is no error, and another namespace has another policy.
    assert_eq!(warnings(&format!("{}---\n{unsaid}---\n{}", drain(10), drain(10))).0, [""; 0]);
    let elsewhere = drain(45).replace("name: all", "name: all\n  namespace: shop");
    assert_eq!(seconds(&format!("{}---\n{unsaid}---\n{elsewhere}", drain(10))), 10);
    // The same applies to Services and Namespaces.
    let service = |port: u16| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: {port}}}]}}\n"
        )
    };
    let input = format!("{}---\n{WEB}---\n{}", service(8080), service(9090));
    assert!(warnings(&input).0[0].contains("Service web: defined twice"));
    let probe = &documents(&inject(&input))[1]["spec"]["template"]["spec"]["containers"][0]["readinessProbe"];
    assert_eq!(probe["tcpSocket"]["port"], 9090);
}

#[test]
fn the_items_of_a_list_of_policies_may_omit_their_kind() {
    let unsaid = WEB.replace("  annotations:\n    adieu.dev/graceful: \"true\"\n", "");
    for kind in ["GracefulPolicy", "ClusterGracefulPolicy"] {
        let list = format!(
            "apiVersion: adieu.dev/v1alpha1\nkind: {kind}List\nitems:\n- metadata: {{name: all}}\n  spec: {{selector: {{}}, drainSeconds: 20}}\n"
        );
        let injected = inject(&format!("{list}---\n{unsaid}"));
        let spec = &documents(&injected)[1]["spec"]["template"]["spec"];
        assert_eq!(spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 20, "{injected}");
        let wrong = adieu(&["inject", "-f", "-"], &list.replace("20", "4000"));
        assert!(
            wrong.stderr.contains(&format!("line 5: {kind} all: spec.drainSeconds: Invalid value")),
            "{}",
            wrong.stderr
        );
        let empty = format!("apiVersion: adieu.dev/v1alpha1\nkind: {kind}List\nitems:\n");
        assert_eq!(inject(&empty), empty);
    }
}

#[test]
fn the_summary_on_standard_error_counts_changes() {
    let unsaid = WEB.replace("\"true\"", "\"false\"");
    let rollout = WEB.replace("apps/v1", "argoproj.io/v1alpha1").replace("Deployment", "Rollout");
    let input = format!("{WEB}---\n{unsaid}---\n{rollout}---\n{WEB}---\nkind: ConfigMap\n");
    let summary = |command: &str, input: &str| {
        let (out, reported) = succeed(&[command, "-f", "-"], input);
        (out, reported.lines().last().unwrap().to_owned())
    };
    let (injected, reported) = summary("inject", &input);
    assert_eq!(reported, "adieu: 2 injected, 1 unchanged, 1 skipped");
    assert!(!injected.contains(&reported));
    assert_eq!(summary("inject", &injected).1, "adieu: 0 injected, 3 unchanged, 1 skipped");
    assert_eq!(
        summary("revert", &injected),
        (input.clone(), "adieu: 2 reverted, 1 unchanged, 0 skipped".into())
    );
    // A workload that was opted out again.
    let declined = inject(WEB).replace("adieu.dev/graceful: \"true\"", "adieu.dev/graceful: \"false\"");
    assert_eq!(
        summary("inject", &declined),
        (unsaid, "adieu: 0 injected, 1 reverted, 0 unchanged, 0 skipped".into())
    );
    // A record that can't be reverted.
    let copied = inject(WEB).replace("apps/v1", "argoproj.io/v1alpha1").replace("Deployment", "Rollout");
    let (out, reported) = succeed(&["revert", "-f", "-"], &copied);
    assert_eq!(out, copied);
    assert!(
        reported
            .contains("Rollout web: spec.template.metadata.annotations[adieu.dev/injected]: not reverted"),
        "{reported}"
    );
    assert!(reported.ends_with("adieu: 0 reverted, 0 unchanged, 1 skipped\n"), "{reported}");
    assert_eq!(succeed(&["inject", "--quiet", "-f", "-"], WEB).1, "");
    assert_eq!(succeed(&["inject", "-f", "-"], "").1, "adieu: 0 injected, 0 unchanged, 0 skipped\n");
}
