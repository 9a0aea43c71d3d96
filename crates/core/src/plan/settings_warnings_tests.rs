use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{
    api::{ExistingHookPolicy, GracefulPolicy, HttpGet, IntOrString, PreStopMethod},
    plan::{
        Admission, InjectionContext, Kind, NamespaceContext, PodTemplate, Setting, Source, admit, inject,
        render,
    },
};

fn set<T>(value: T) -> Setting<T> {
    Setting { value, from: Source::WorkloadAnnotation }
}

fn with(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings);
    settings
}

fn injected(spec: &Value, settings: &Settings, native_sleep: bool) -> Injected {
    let template = json!({"spec": spec});
    let (annotations, context) =
        (BTreeMap::new(), NamespaceContext { native_sleep, ..NamespaceContext::default() });
    let workload = Workload::new(Kind::Deployment, &annotations, &template);
    let injection = InjectionContext::of(&workload, &context, false, &Source::WorkloadAnnotation);
    inject(&PodTemplate::new(&template), None, settings, &injection)
}

fn rendered(workload: &Workload<'_>, context: &NamespaceContext) -> (Option<Value>, Vec<String>) {
    let Admission { template, warnings, .. } = render(workload, context, false);
    (template, warnings)
}

fn policies<const N: usize>(specs: [(&str, Value); N]) -> NamespaceContext {
    let policy = |(name, spec): (&str, Value)| {
        Arc::new(GracefulPolicy::new(name, serde_json::from_value(spec).unwrap()))
    };
    NamespaceContext { policies: specs.into_iter().map(policy).collect(), ..NamespaceContext::default() }
}

fn plain() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"}]}})
}

fn annotated(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (format!("adieu.dev/{key}"), (*value).to_owned())).collect()
}

fn assert_warning(warnings: &[String], parts: &[&str]) {
    let [warning] = warnings else { unreachable!("{parts:?}: {warnings:?}") };
    for part in parts {
        assert!(warning.contains(part), "{part}: {warning}");
    }
    assert!(warning.chars().count() <= 256, "the API server would cut it: {warning}");
}

#[test]
fn warning_for_settings_without_an_opt_in() {
    let (template, empty) = (plain(), NamespaceContext::default());
    for on_workload in [true, false] {
        let tuned = annotated(&[("drain-seconds", "20"), ("shutdown-timeout-seconds", "60")]);
        let (mut template, mut annotations) = (template.clone(), BTreeMap::new());
        if on_workload {
            annotations = tuned;
        } else {
            template["metadata"]["annotations"] = json!(tuned);
        }
        let workload = Workload::new(Kind::Deployment, &annotations, &template);
        let (changed, warnings) = rendered(&workload, &empty);
        assert_eq!(changed, None);
        assert_warning(
            &warnings,
            &["adieu.dev/drain-seconds, adieu.dev/shutdown-timeout-seconds", "adieu.dev/graceful: \"true\""],
        );
        assert_eq!(render(&workload, &empty, true).warnings, [""; 0], "the command line opts it in");
    }
}

#[test]
fn warning_for_a_label_instead_of_an_annotation() {
    let (none, labels) = (BTreeMap::new(), annotated(&[("graceful", "true"), ("injection", "enabled")]));
    let (template, context) = (plain(), NamespaceContext::default());
    let workload = Workload { labels: &labels, ..Workload::new(Kind::Deployment, &none, &template) };
    let admission = admit(&workload, None, &context);
    assert_eq!(admission.template, None);
    assert_warning(&admission.warnings, &["metadata.labels[adieu.dev/graceful]", "to metadata.annotations"]);
    let mut template = plain();
    template["metadata"]["labels"]["adieu.dev/policy"] = json!("all");
    let warnings = admit(&Workload::new(Kind::Deployment, &none, &template), None, &context).warnings;
    let named = "spec.template.metadata.labels[adieu.dev/policy] has no effect";
    assert_warning(&warnings, &[named, "to spec.template.metadata.annotations"]);
}

#[test]
fn labels_instead_of_annotations_cause_one_warning_when_they_are_set() {
    let all: BTreeMap<_, _> = annotations::KEYS.map(|key| (key.to_owned(), "true".to_owned())).into();
    let (none, template, context) = (BTreeMap::new(), plain(), NamespaceContext::default());
    let unlabelled = Workload::new(Kind::Deployment, &none, &template);
    let labels = annotated(&[("graceful", "true")]);
    let labelled = Workload { labels: &labels, ..unlabelled.clone() };
    let warnings = |new: &Workload<'_>, old: &Workload<'_>| admit(new, Some(old), &context).warnings;
    assert_warning(&warnings(&labelled, &unlabelled), &["metadata.labels[adieu.dev/graceful] has no effect"]);
    assert_eq!(warnings(&labelled, &labelled), [""; 0], "an unrelated change");
    let with_labels = |labels: &BTreeMap<String, String>| {
        let mut template = plain();
        template["metadata"]["labels"] = json!(labels);
        template
    };
    let (few, many) = (with_labels(&labels), with_labels(&all));
    let both = labelled.with_template(&few);
    let named = "metadata.labels[adieu.dev/graceful], spec.template.metadata.labels[adieu.dev/graceful] have no effect";
    assert_warning(&warnings(&both, &labelled), &[named, "move them to metadata.annotations"]);
    let every = Workload { labels: &all, ..Workload::new(Kind::Deployment, &none, &many) };
    assert_warning(&admit(&every, None, &context).warnings, &[" and 14 more have no effect"]);
}

#[test]
fn warning_names_an_overridden_policy() {
    let context = policies([
        ("a-team", json!({"selector": {"matchLabels": {"app": "web"}}})),
        ("b-team", json!({"selector": {}, "drainSeconds": 45})),
    ]);
    let (none, template) = (BTreeMap::new(), plain());
    let workload = Workload::new(Kind::Deployment, &none, &template);
    let (changed, warnings) = rendered(&workload, &context);
    assert!(changed.is_some());
    assert_warning(&warnings, &["policy b-team also applies to this workload", "spec.priority"]);
    let out = annotated(&[("graceful", "false")]);
    let (_, warnings) = rendered(&Workload { annotations: &out, ..workload }, &context);
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn at_most_eight_overridden_policies_are_named() {
    let policy = |name: String| {
        Arc::new(GracefulPolicy::new(&name, serde_json::from_value(json!({"selector": {}})).unwrap()))
    };
    let policies = (0..=2 * MAX_OVERRIDDEN).map(|number| policy(format!("policy-{number}"))).collect();
    let context = NamespaceContext { policies, ..NamespaceContext::default() };
    let (none, template) = (BTreeMap::new(), plain());
    let (_, warnings) = rendered(&Workload::new(Kind::Deployment, &none, &template), &context);
    assert_eq!(warnings.len(), MAX_OVERRIDDEN, "{warnings:?}");
    assert!(warnings.iter().all(|warning| warning.contains("another policy overrides it")), "{warnings:?}");
}

#[test]
fn audited_manifest_gets_a_warning_with_the_injection() {
    let context = policies([("watch", json!({"selector": {}, "mode": "Audit"}))]);
    let (annotations, template) = (annotated(&[("graceful", "true")]), plain());
    let (changed, warnings) = rendered(&Workload::new(Kind::Deployment, &annotations, &template), &context);
    assert_eq!(changed, None);
    assert_warning(
        &warnings,
        &["policy watch has mode Audit", "a preStop in 1 container, a grace period of 45 s"],
    );
}

#[test]
fn manifest_injected_by_pod_gets_a_warning_with_the_reason() {
    let (annotations, template) = (annotated(&[("graceful", "true")]), plain());
    let workload = Workload::new(Kind::Deployment, &annotations, &template);
    let controlled = Workload { controlled: true, ..workload.clone() };
    let (changed, warnings) = rendered(&controlled, &NamespaceContext::default());
    assert_eq!(changed, None);
    let label = "the namespace or the pod template has the label adieu.dev/injection=enabled";
    assert_warning(&warnings, &["another controller owns this workload", label]);
    assert!(
        !warnings[0].contains("annotation"),
        "an annotation alone routes no pod to the webhook: {warnings:?}"
    );
    let by_pod = policies([("pods", json!({"selector": {}, "injectionTarget": "Pod"}))]);
    assert_warning(&rendered(&workload, &by_pod).1, &["policy pods sets injectionTarget: Pod"]);
}

#[test]
fn warning_names_a_container_renamed_after_its_injection() {
    let (annotations, empty) = (annotated(&[("graceful", "true")]), NamespaceContext::default());
    let template = plain();
    let workload = Workload::new(Kind::Deployment, &annotations, &template);
    let mut renamed = rendered(&workload, &empty).0.unwrap();
    assert_eq!(rendered(&workload.with_template(&renamed), &empty).1, [""; 0]);
    renamed["spec"]["containers"][0]["name"] = json!("new");
    let workload = workload.with_template(&renamed);
    assert_warning(&rendered(&workload, &empty).1, &["container \"new\" has the injection of \"web\""]);
    assert_warning(
        &super::super::revert(&workload).warnings,
        &["container \"new\" has the injection of \"web\""],
    );
    let mut other = renamed.clone();
    other["spec"]["containers"][0]["lifecycle"]["preStop"] = json!({"sleep": {"seconds": 11}});
    let workload = workload.with_template(&other);
    assert_eq!(rendered(&workload, &empty).1, [""; 0], "it is another hook");
}

#[test]
fn warning_for_the_sleep_command_on_old_kubelets() {
    let spec = json!({"containers": [{"name": "web"}]});
    assert_warning(
        &injected(&spec, &Settings::default(), false).warnings,
        &["runs the command sleep", "check the images"],
    );
    let configured = with(|s| s.pre_stop_method = set(PreStopMethod::Exec));
    let own =
        json!({"containers": [{"name": "web", "lifecycle": {"preStop": {"exec": {"command": ["/drain"]}}}}]});
    for (spec, settings, native_sleep) in [
        (&spec, &Settings::default(), true),
        (&spec, &with(|s| s.drain_seconds = set(0)), false),
        (&spec, &Settings { exclude: set(vec!["web".into()]), ..configured }, true),
    ] {
        assert_eq!(injected(spec, settings, native_sleep).warnings, [""; 0]);
    }
    assert_eq!(injected(&own, &Settings::default(), false).warnings.len(), 1, "only of its unknown duration");
}

#[test]
fn warning_for_a_configured_sleep_command() {
    let spec = json!({"containers": [{"name": "web"}]});
    let configured = with(|s| s.pre_stop_method = set(PreStopMethod::Exec));
    let parts = ["the method is Exec (annotation)", "in an image without that command the hook fails"];
    assert_warning(
        &injected(&spec, &configured, true).warnings,
        &[parts[0], parts[1], "check the images, or use Auto"],
    );
    let warnings = injected(&spec, &configured, false).warnings;
    assert_warning(&warnings, &parts);
    assert!(warnings[0].ends_with("check the images"), "Auto would be an exec, too: {warnings:?}");
}

#[test]
fn warning_for_an_http_get_port_that_no_container_declares() {
    let request = |port| HttpGet { path: "/prestop".into(), port };
    let configured = with(|s| {
        s.pre_stop_method = set(PreStopMethod::HttpGet);
        s.http_get =
            Setting { value: Some(request(IntOrString::Int(8081))), from: Source::Policy("drainer".into()) };
    });
    let spec = |port: u16| json!({"containers": [{"name": "web", "ports": [{"containerPort": port}]}, {"name": "log"}]});
    let result = injected(&spec(8080), &configured, true);
    assert_warning(
        &result.warnings,
        &["HTTPGet (annotation)", "no container declares the TCP port 8081", "the drain is a sleep"],
    );
    assert_eq!(injected(&spec(8081), &configured, true).warnings, [""; 0]);
}

#[test]
fn reverted_manifest_gets_a_warning_with_the_policy() {
    let context = policies([("leaving", json!({"selector": {}, "rollout": {"mode": "Revert"}}))]);
    let (mut annotations, template) = (BTreeMap::new(), plain());
    let (changed, warnings) = rendered(&Workload::new(Kind::Deployment, &annotations, &template), &context);
    assert_eq!(changed, None);
    assert_warning(&warnings, &["nothing is injected, because policy leaving has rollout mode Revert"]);
    annotations = annotated(&[("graceful", "true")]);
    let (changed, warnings) = rendered(&Workload::new(Kind::Deployment, &annotations, &template), &context);
    assert!(changed.is_some() && warnings.is_empty(), "{warnings:?}");
}

#[test]
fn warning_for_a_native_sleep_on_old_kubelets() {
    let hook = json!({"preStop": {"sleep": {"seconds": 20}}});
    let regular = json!({"containers": [{"name": "web", "lifecycle": hook}]});
    let own = json!({"preStop": {"exec": {"command": ["sleep", "10"]}}});
    let sidecar = json!({
        "containers": [{"name": "app", "lifecycle": own}],
        "initContainers": [{"name": "web", "restartPolicy": "Always", "lifecycle": hook}],
    });
    for spec in [&regular, &sidecar] {
        let warnings = injected(spec, &Settings::default(), false).warnings;
        assert_warning(&warnings, &["container \"web\": its own preStop is the native sleep", "1.30"]);
        assert_eq!(injected(spec, &Settings::default(), true).warnings, [""; 0]);
    }
    let replaced = with(|s| s.existing = set(ExistingHookPolicy::Replace));
    assert_warning(&injected(&regular, &replaced, false).warnings, &["runs the command sleep"]);
}

#[test]
fn windows_pods_get_the_native_sleep_or_no_injection() {
    let affine = |operator: &str| {
        let term = json!({"matchExpressions": [{"key": "kubernetes.io/os", "operator": operator, "values": ["linux"]}]});
        json!({"containers": [{"name": "iis"}], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]},
        }}})
    };
    let host_process = json!({"windowsOptions": {"hostProcess": true}});
    let windows = [
        json!({"os": {"name": "windows"}, "containers": [{"name": "iis"}]}),
        json!({"nodeSelector": {"kubernetes.io/os": "windows"}, "containers": [{"name": "iis"}]}),
        affine("NotIn"),
        json!({"securityContext": host_process, "containers": [{"name": "iis"}]}),
        json!({"containers": [{"name": "iis", "securityContext": host_process}]}),
    ];
    let exec = with(|s| s.pre_stop_method = set(PreStopMethod::Exec));
    for spec in &windows {
        let native = injected(spec, &Settings::default(), true);
        assert_eq!(native.template["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 10);
        for (settings, native_sleep) in [(&exec, true), (&Settings::default(), false)] {
            let result = injected(spec, settings, native_sleep);
            assert_eq!((&result.template["spec"], result.unsatisfiable), (spec, true));
            let why = result.warnings.last().cloned().unwrap();
            assert_warning(&[why], &["on Windows", "nothing is injected"]);
        }
    }
    let own = json!({"os": {"name": "windows"}, "containers": [{"name": "iis", "lifecycle": {"preStop": {
        "exec": {"command": ["powershell.exe", "-Command", "Start-Sleep -Seconds 90"]},
    }}}]});
    let result = injected(&own, &exec, false);
    assert_eq!(result.template["spec"]["terminationGracePeriodSeconds"], 125);
    for linux in
        [json!({"nodeSelector": {"kubernetes.io/os": "linux"}, "containers": [{"name": "a"}]}), affine("In")]
    {
        assert!(!injected(&linux, &exec, false).unsatisfiable, "{linux}");
    }
}

#[test]
fn warning_for_a_linux_hook_on_windows() {
    let pod = |os: &str, command: Value| {
        json!({"os": {"name": os}, "containers": [
            {"name": "iis", "lifecycle": {"preStop": {"exec": {"command": command}}}},
        ]})
    };
    for command in [json!(["sleep", "10"]), json!(["/bin/sh", "-c", "sleep 10"])] {
        let warnings = injected(&pod("windows", command.clone()), &Settings::default(), true).warnings;
        assert_warning(&warnings, &["container \"iis\": its own preStop runs", "Windows", "Start-Sleep"]);
        assert_eq!(injected(&pod("linux", command), &Settings::default(), true).warnings, [""; 0]);
    }
    let powershell = json!(["powershell.exe", "-Command", "Start-Sleep 10"]);
    assert_eq!(injected(&pod("windows", powershell), &Settings::default(), true).warnings, [""; 0]);
}

#[test]
fn warning_for_a_probe_grace_period_shorter_than_the_drain() {
    let with_probe = |probe: &str, seconds: i64| json!({"containers": [{"name": "web", probe: {"terminationGracePeriodSeconds": seconds}}]});
    for probe in ["livenessProbe", "startupProbe"] {
        for seconds in [1, 5, 10] {
            let warnings = injected(&with_probe(probe, seconds), &Settings::default(), true).warnings;
            let named = format!("container \"web\": {probe}.terminationGracePeriodSeconds is {seconds} s");
            assert_warning(&warnings, &[&named, "raise it above 10"]);
        }
        let longer = injected(&with_probe(probe, 11), &Settings::default(), true);
        assert_eq!(longer.warnings, [""; 0]);
    }
    let mut sidecar = with_probe("livenessProbe", 5)["containers"][0].take();
    sidecar["restartPolicy"] = json!("Always");
    let beside = |sidecar: &Value| json!({"containers": [{"name": "app"}], "initContainers": [sidecar]});
    let without_hook = injected(&beside(&sidecar), &Settings::default(), true);
    assert_eq!(without_hook.warnings, [""; 0], "a native sidecar gets no hook");
    sidecar["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 20}}});
    assert_warning(
        &injected(&beside(&sidecar), &Settings::default(), true).warnings,
        &[
            "container \"web\": livenessProbe.terminationGracePeriodSeconds is 5 s, and the preStop takes 20 s",
        ],
    );
    for (hook, expected) in [
        (json!({"sleep": {"seconds": 20}}), Some("the preStop takes 20 s")),
        (json!({"sleep": {"seconds": 4}}), None),
        (json!({"sleep": {"seconds": 0}}), None),
        // Its duration is unknown, which is another warning.
        (json!({"exec": {"command": ["drain"]}}), None),
    ] {
        let mut own = with_probe("livenessProbe", 5);
        own["containers"][0]["lifecycle"] = json!({ "preStop": hook });
        let warnings = injected(&own, &Settings::default(), true).warnings;
        let warned = warnings.iter().find(|warning| warning.contains("livenessProbe"));
        assert_eq!(warned.is_some(), expected.is_some(), "{hook}: {warnings:?}");
        assert!(
            expected.is_none_or(|text| warned.is_some_and(|warning| warning.contains(text))),
            "{warnings:?}"
        );
    }
}

#[test]
fn counts_in_warnings_agree() {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
    let none = BTreeMap::new();
    let audit = policies([("watch", json!({"selector": {}, "mode": "Audit"}))]);
    let warnings = rendered(&Workload::new(Kind::Deployment, &none, &template), &audit).1;
    assert_warning(&warnings, &["a preStop in 2 containers"]);
    let tuned = annotated(&[("drain-seconds", "20")]);
    let workload = Workload::new(Kind::Deployment, &tuned, &template);
    let warnings = rendered(&workload, &NamespaceContext::default()).1;
    assert_warning(&warnings, &["adieu.dev/drain-seconds has no effect"]);
}
