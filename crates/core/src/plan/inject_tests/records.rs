//! The record of an injection.

use super::*;

#[test]
fn record_is_rewritten_only_with_a_value() {
    let template = json!({"spec": {"containers": [{"name": "a"}], "terminationGracePeriodSeconds": 120}});
    let once = injected(&template);
    let other_margin = inject_with(&once, &settings(10, 30, 6), &[], true).template;
    assert_eq!(other_margin, once, "a margin that changes no injected value must not change the template");
}

#[test]
fn record_of_the_old_object_is_used_if_the_new_one_lost_it() {
    let old =
        injected(&json!({"spec": {"containers": [{"name": "a"}], "terminationGracePeriodSeconds": 30}}));
    let mut new = without_record(old.clone());
    assert_eq!(
        opt_out(&PodTemplate::new(&new), Some(&PodTemplate::new(&old)))["spec"]["terminationGracePeriodSeconds"],
        30
    );
    new["spec"]["containers"][0]["image"] = json!("v2");
    let (annotations, context) = (BTreeMap::new(), NamespaceContext::default());
    let workload = Workload::new(Kind::Deployment, &annotations, &new);
    let injection = InjectionContext::of(&workload, &context, false, &Source::WorkloadAnnotation);
    let result =
        inject(&PodTemplate::new(&new), Some(&PodTemplate::new(&old)), &settings(10, 30, 5), &injection)
            .template;
    let record: Record =
        serde_json::from_str(result["metadata"]["annotations"][INJECTED].as_str().unwrap()).unwrap();
    assert_eq!(record.grace_period, Some(InjectedField { injected: json!(45), before: Some(json!(30)) }));
}

/// The chart's guard makes the same line of the hook that stands in the container, and so knows what may be
/// restored.
#[test]
fn replaced_hook_is_a_separate_line_of_the_record() {
    let settings = with(|s| s.existing = set(ExistingHookPolicy::Replace));
    for (hook, line) in [
        (
            json!({"exec": {"command": ["sh", "-c", "echo \"a\\b\"\n\tsleep 5"]}}),
            r#"{"a":{"exec":{"command":["sh","-c","echo \"a\\b\"\n\tsleep 5"]}}}"#,
        ),
        (json!({"sleep": {"seconds": 5}}), r#"{"a":{"sleep":{"seconds":5}}}"#),
        (
            json!({"httpGet": {
                "scheme": "HTTP", "port": "http", "path": "/", "host": "h",
                "httpHeaders": [{"value": "b", "name": "a"}],
            }}),
            r#"{"a":{"httpGet":{"host":"h","httpHeaders":[{"name":"a","value":"b"}],"path":"/","port":"http","scheme":"HTTP"}}}"#,
        ),
    ] {
        let template = json!({"spec": {"containers": [{"name": "a", "lifecycle": {"preStop": hook}}]}});
        let injected = inject_with(&template, &settings, &[], false).template;
        let record = injected["metadata"]["annotations"][INJECTED].as_str().unwrap();
        assert_eq!(record.split_once('\n').unwrap().1, line);
        assert_eq!(opt_out(&PodTemplate::new(&injected), None), template);
    }
}

#[test]
fn forged_hook_in_the_record_is_not_restored() {
    let template = json!({"spec": {"containers": [{"name": "a"}]}});
    let injected = inject_with(&template, &settings(10, 30, 5), &[], false).template;
    let mut record: Value =
        serde_json::from_str(injected["metadata"]["annotations"][INJECTED].as_str().unwrap()).unwrap();
    let evil = json!({"exec": {"command": ["/bin/evil"]}});
    let of_container = &mut record["containers"]["a"];
    of_container["preStop"]["before"] = evil.clone();
    of_container["readinessProbe"] = json!({"injected": {"tcpSocket": {"port": 1}}, "before": evil});
    let mut forged = injected.clone();
    forged["metadata"]["annotations"][INJECTED] = json!(record.to_string());
    forged["spec"]["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 1}});
    assert_eq!(opt_out(&PodTemplate::new(&forged), None), template);
}

#[test]
fn record_over_the_annotation_limit_prevents_injection() {
    let template = json!({
        "metadata": {"annotations": {"huge": "x".repeat(ANNOTATIONS_LIMIT - 10)}},
        "spec": {"containers": [{"name": "a"}]},
    });
    let result = inject_with(&template, &settings(10, 30, 5), &[], false);
    assert_eq!((result.template, result.unsatisfiable), (template, true));
    assert!(result.warnings[0].contains("256 KiB"), "{:?}", result.warnings);
}

#[test]
fn record_of_a_newer_version_can_be_reverted() {
    let template = json!({"metadata": {"annotations": {}}, "spec": {"containers": [{"name": "a"}]}});
    let mut newer = injected(&template);
    let record = newer["metadata"]["annotations"][INJECTED].as_str().unwrap();
    let mut record: Value = serde_json::from_str(record).unwrap();
    record["settings"]["preStopMethod"] = json!({"value": "Telepathy", "from": "annotation"});
    newer["metadata"]["annotations"][INJECTED] = json!(record.to_string());
    assert_eq!(opt_out(&PodTemplate::new(&newer), None), template);
}

#[test]
fn invalid_record_is_ignored() {
    for text in [
        "",
        "true",
        "1",
        "null",
        "\"web\"",
        "[]",
        "[{}]",
        "{}",
        "{\"settings\":1}",
        "{\"containers\":[]}",
        "{",
        "no",
        "\n",
        "{}\ntrue",
        "{}\n{\"a\":1}",
        "true\n{\"a\":{\"sleep\":{\"seconds\":1}}}",
    ] {
        let template = json!({
            "metadata": {"annotations": {INJECTED: text}}, "spec": {"containers": [{"name": "a"}]},
        });
        assert_eq!(opt_out(&PodTemplate::new(&template), None)["spec"], template["spec"], "{text:?}");
        let injected = injected(&template);
        assert_eq!(injected["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 10);
        assert_eq!(opt_out(&PodTemplate::new(&injected), None)["spec"], template["spec"], "{text:?}");
    }
}

#[test]
fn oversized_record_is_not_read_and_never_written() {
    let plain = json!({"spec": {"containers": [{"name": "a"}]}});
    for (numbers, is_read) in [(1_000, true), (100_000, false)] {
        let mut template = injected(&plain);
        let mut record: Value = serde_json::from_str(record::text(&template).unwrap()).unwrap();
        record["containers"]["gone"] = json!({"preStop": {"injected": vec![0; numbers]}});
        template["metadata"]["annotations"][INJECTED] = record.to_string().into();
        let restored = opt_out(&PodTemplate::new(&template), None)["spec"] == plain["spec"];
        assert_eq!(restored, is_read, "{numbers}");
    }
    for (count, unsatisfiable) in [(500, false), (900, true)] {
        let containers: Vec<_> = (0..count).map(|number| json!({"name": number.to_string()})).collect();
        let template = json!({"spec": {"containers": containers}});
        let injected = inject_with(&template, &settings(10, 30, 5), &[], true);
        assert_eq!(injected.unsatisfiable, unsatisfiable, "{count}: {:?}", injected.warnings);
        assert_eq!(opt_out(&PodTemplate::new(&injected.template), None), template, "{count}");
    }
}

#[test]
fn without_an_annotations_object_nothing_is_injected() {
    for template in [
        json!({"metadata": [], "spec": {"containers": [{"name": "a"}]}}),
        json!({"metadata": {"annotations": "none"}, "spec": {"containers": [{"name": "a"}]}}),
    ] {
        let result = inject_with(&template, &settings(10, 30, 5), &[], false);
        assert_eq!((result.template, result.unsatisfiable), (template, true));
        assert!(result.warnings[0].contains("must be objects"), "{:?}", result.warnings);
    }
}

#[test]
fn record_over_the_text_limit_is_not_read() {
    let plain = json!({"spec": {"containers": [{"name": "a"}]}});
    let text = injected(&plain)["metadata"]["annotations"][INJECTED].as_str().unwrap().to_owned();
    for (length, is_read) in [(ANNOTATIONS_LIMIT, true), (ANNOTATIONS_LIMIT + 1, false)] {
        let mut template = injected(&plain);
        template["metadata"]["annotations"][INJECTED] =
            json!(text.clone() + &" ".repeat(length - text.len()));
        assert_eq!(record::read(&template).is_some(), is_read, "{length}");
    }
}

#[test]
fn a_template_with_too_many_containers_is_not_injected() {
    let with = |count: usize| {
        let containers: Vec<_> = (0..count).map(|number| json!({"name": format!("c{number}")})).collect();
        let template = json!({"spec": {"containers": containers, "initContainers": [{"name": "init"}]}});
        inject_with(&template, &settings(10, 30, 5), &[], true)
    };
    assert!(!with(499).unsatisfiable);
    let injected = with(500);
    assert!(injected.unsatisfiable && record::read(&injected.template).is_none());
    assert_eq!(
        injected.warnings,
        ["nothing is injected: the pod has 501 containers and init containers, at most 500 are allowed"]
    );
}

#[test]
fn a_template_with_long_commands_is_not_injected() {
    let with = |length: usize| {
        let hook = json!({"exec": {"command": ["sh", "-c", "x".repeat(length / 10 - 4)]}});
        let container = |number: usize| json!({"name": format!("c{number}"), "lifecycle": {"preStop": hook}});
        let containers: Vec<_> = (0..10).map(container).collect();
        inject_with(&json!({"spec": {"containers": containers}}), &settings(10, 30, 5), &[], true)
    };
    assert!(!with(128 * 1024 - 10).unsatisfiable);
    let injected = with(128 * 1024 + 10);
    assert!(injected.unsatisfiable, "{:?}", injected.warnings);
    let reason = "nothing is injected: the preStop commands have 129 KiB, at most 128 KiB are allowed: use a script in the image";
    assert_eq!(injected.warnings, [reason]);
}

#[test]
fn texts_in_a_record_that_no_injection_writes_are_ignored() {
    let template = json!({"spec": {"containers": [{"name": "web"}]}});
    let mut template = injected(&template);
    let text = record::text(&template).unwrap();
    let mut forged: Value = serde_json::from_str(text).unwrap();
    forged["containers"]["a".repeat(64)] = forged["containers"]["web"].clone();
    forged["settings"] =
        json!({"httpGet": {"value": {"path": "/".repeat(1025), "port": 1}, "from": "command line"}});
    template["metadata"]["annotations"][INJECTED] = forged.to_string().into();
    let read = record::read(&template).unwrap();
    assert_eq!(read.containers.keys().collect::<Vec<_>>(), ["web"]);
    assert_eq!(read.settings, Settings::default());
}
