use serde_json::json;

use super::*;
use crate::{
    api::ExistingHookPolicy,
    plan::{Injected, InjectionContext, Kind, NamespaceContext, PodTemplate, Workload, inject},
};

fn set<T>(value: T) -> Setting<T> {
    Setting { value, from: Source::WorkloadAnnotation }
}

fn with(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings);
    settings
}

fn injected(template: &Value, settings: &Settings) -> Injected {
    let (annotations, context) = (std::collections::BTreeMap::new(), NamespaceContext::default());
    let workload = Workload::new(Kind::StatefulSet, &annotations, template);
    inject(
        &PodTemplate::new(template),
        None,
        settings,
        &InjectionContext::of(&workload, &context, true, &Source::WorkloadAnnotation),
    )
}

fn seconds(injected: &Injected) -> Option<i64> {
    injected.template["spec"][GRACE_PERIOD].as_i64()
}

/// A pod with hooks of these commands in its containers.
fn pod(commands: &[Option<&[&str]>], grace_period: Option<Value>) -> Value {
    let containers = commands.iter().zip(["a", "b", "c"]).map(|(command, name)| match command {
        Some(command) => json!({"name": name, "lifecycle": {"preStop": {"exec": {"command": command}}}}),
        None => json!({"name": name}),
    });
    let mut template = json!({"spec": {"containers": containers.collect::<Vec<_>>()}});
    if let Some(grace_period) = grace_period {
        template["spec"][GRACE_PERIOD] = grace_period;
    }
    template
}

fn only_warning(injected: &Injected) -> &str {
    let [warning] = injected.warnings.as_slice() else { unreachable!("{:?}", injected.warnings) };
    assert!(warning.chars().count() <= 256, "the API server would cut it: {warning}");
    warning
}

#[test]
fn grace_period_of_0_is_never_injected() {
    let zero = |policy| {
        with(|s| {
            s.drain_seconds = set(0);
            s.shutdown_timeout_seconds = Setting { value: 0, from: Source::ClusterPolicy("fast".into()) };
            s.margin_seconds = Setting { value: 0, from: Source::ClusterPolicy("fast".into()) };
            s.grace_period = set(policy);
        })
    };
    for policy in [GracePeriodPolicy::Exact, GracePeriodPolicy::AtLeast] {
        let template = pod(&[None], Some(json!(30)));
        let result = injected(&template, &zero(policy));
        assert_eq!((&result.template, result.unsatisfiable), (&template, true));
        for part in [
            "all 0 (annotation, cluster policy fast)",
            "kills pods immediately",
            "adieu.dev/shutdown-timeout-seconds",
        ] {
            assert!(only_warning(&result).contains(part), "{:?}", result.warnings);
        }
        let enough = Settings { margin_seconds: set(1), ..zero(policy) };
        assert!(!injected(&template, &enough).unsatisfiable);
        // The drain is not 0, and no hook waits for it.
        let drain = Settings { drain_seconds: set(15), ..zero(policy) };
        let excluded = Settings { exclude: set(vec!["a".into()]), ..drain.clone() };
        let opted_out = pod(&[Some(&["sleep", "0"])], Some(json!(30)));
        for (template, settings) in [(&template, &excluded), (&opted_out, &drain)] {
            let result = injected(template, settings);
            assert_eq!((&result.template, result.unsatisfiable), (template, true), "{policy:?}");
            assert!(
                only_warning(&result).contains("margin are 0 (cluster policy fast)"),
                "{:?}",
                result.warnings
            );
        }
    }
}

#[test]
fn invalid_grace_period_prevents_injection() {
    for value in [json!("${GRACE:=30}"), json!("20"), json!(20.5), json!(true), json!({}), json!(1e30)] {
        let template = pod(&[None], Some(value.clone()));
        let result = injected(&template, &Settings::default());
        assert_eq!((&result.template, result.unsatisfiable), (&template, true), "{value}");
        let named = format!("terminationGracePeriodSeconds: Invalid value: {value}: must be a whole number");
        assert!(only_warning(&result).contains(&named), "{:?}", result.warnings);
    }
    for value in [json!(null), json!(0), json!(-1)] {
        let result = injected(&pod(&[None], Some(value.clone())), &Settings::default());
        assert_eq!((seconds(&result), result.warnings), (Some(45), vec![]), "{value}");
    }
}

#[test]
fn warning_for_a_hook_shorter_than_the_configured_drain() {
    let template = pod(&[Some(&["sleep", "2"])], None);
    let configured = with(|s| s.drain_seconds = set(60));
    let result = injected(&template, &configured);
    assert_eq!(result.template["spec"]["containers"], template["spec"]["containers"], "it is kept");
    assert_eq!(seconds(&result), Some(37));
    assert!(only_warning(&result).contains("takes 2 s, less than the drain of 60 s (annotation)"));
    let by_policy = with(|s| s.drain_seconds = Setting { value: 60, from: Source::Policy("slow".into()) });
    assert!(only_warning(&injected(&template, &by_policy)).contains("(policy slow)"));

    let silent =
        |template: &Value, settings: &Settings| assert_eq!(injected(template, settings).warnings, [""; 0]);
    silent(&template, &Settings::default());
    silent(&pod(&[Some(&["sleep", "60"])], None), &configured);
    silent(&pod(&[Some(&["sleep", "0"])], None), &configured);
    silent(&template, &Settings { existing: set(ExistingHookPolicy::Replace), ..configured.clone() });
    silent(&template, &Settings { exclude: set(vec!["a".into()]), ..configured.clone() });

    let unknown = pod(&[Some(&["/drain"])], None);
    assert!(
        only_warning(&injected(&unknown, &configured))
            .ends_with("if it takes less, remove it to get that drain")
    );
    for settings in [Settings::default(), Settings { exclude: set(vec!["a".into()]), ..configured }] {
        assert!(!only_warning(&injected(&unknown, &settings)).contains("if it takes less"));
    }
}

#[test]
fn hook_of_a_native_sidecar_counts_from_the_start_of_termination() {
    let sidecar = |hook: Value| {
        json!({"spec": {
            "containers": [{"name": "app"}],
            "initContainers": [
                {"name": "proxy", "restartPolicy": "Always", "lifecycle": {"preStop": hook}},
                {"name": "dns", "restartPolicy": "Always"},
                {"name": "setup", "lifecycle": {"preStop": {"sleep": {"seconds": 500}}}},
            ],
        }})
    };
    for (hook, expected) in [
        (json!({"exec": {"command": ["/bin/sleep", "120"]}}), 120 + 2 * 5 + 5),
        (json!({"sleep": {"seconds": 120}}), 120 + 2 * 5 + 5),
        // It ends while the application shuts down.
        (json!({"sleep": {"seconds": 30}}), 10 + 30 + 2 * 5 + 5),
    ] {
        let result = injected(&sidecar(hook.clone()), &Settings::default());
        assert_eq!((seconds(&result), result.warnings), (Some(expected), vec![]), "{hook}");
    }
    let drain = with(|s| s.drain_seconds = set(100));
    let unknown = injected(&sidecar(json!({"httpGet": {"path": "/drain", "port": 15020}})), &drain);
    assert_eq!(seconds(&unknown), Some(100 + 30 + 2 * 5 + 5));
    assert!(
        only_warning(&unknown)
            .starts_with("native sidecar \"proxy\": the duration of its own preStop is unknown")
    );
}

#[test]
fn hook_of_unknown_duration_counts_at_least_its_sleeps() {
    let template = |script| pod(&[Some(&["sh", "-c", script])], None);
    let result = injected(&template("sleep 5; /drain --timeout=300s"), &Settings::default());
    assert_eq!(seconds(&result), Some(45));
    assert!(only_warning(&result).contains("it counts as the drain of 10 s"), "{:?}", result.warnings);
    let result = injected(&template("sleep 50; /drain --timeout=300s"), &Settings::default());
    assert_eq!(seconds(&result), Some(85));
    assert!(only_warning(&result).contains("it counts as 50 s"), "{:?}", result.warnings);
}

#[test]
fn grace_period_is_not_lowered_if_a_hook_duration_is_unknown() {
    let exact = with(|s| s.grace_period = set(GracePeriodPolicy::Exact));
    let unknown: &[&str] = &["/bin/sh", "-c", "queue-upgrade await_quorum -t 604800"];
    for (command, present, expected) in [
        (unknown, 604_800, 604_800),
        (unknown, 20, 45),
        (&["sleep", "10"], 604_800, 45),
        (&["sh", "-c", "sleep 10; /drain"], 604_800, 604_800),
        (&["sh", "-c", "sleep 5; killall -w app"], 600, 600),
        (&["sh", "-c", "echo drain > /run/ctl; sleep 5"], 600, 600),
        (&["powershell", "Start-Sleep 5; Write-Output (Wait-Process -Name app)"], 600, 600),
        (&["sleep", "infinity"], 600, 600),
        (&["sleep", "infinity"], 20, 45),
    ] {
        let template = pod(&[Some(command), None], Some(json!(present)));
        assert_eq!(seconds(&injected(&template, &exact)), Some(expected), "{command:?}");
    }
    let sidecar = json!({"spec": {
        "containers": [{"name": "app"}],
        "initContainers": [
            {"name": "proxy", "restartPolicy": "Always", "lifecycle": {"preStop": {"exec": {"command": unknown}}}},
        ],
        "terminationGracePeriodSeconds": 900,
    }});
    assert_eq!(seconds(&injected(&sidecar, &exact)), Some(900));
}

#[test]
fn hook_that_never_ends_gets_a_warning() {
    for command in [&["sleep", "infinity"][..], &["sleep", "99999999999999999999"]] {
        let result = injected(&pod(&[Some(command), None], None), &Settings::default());
        assert_eq!((seconds(&result), result.unsatisfiable), (Some(45), false));
        assert!(only_warning(&result).contains("its own preStop never ends"), "{:?}", result.warnings);
    }
}

#[test]
fn longer_grace_period_of_the_user_is_not_capped() {
    let own: &[&str] = &["sh", "-c", "sleep 900"];
    for policy in [GracePeriodPolicy::AtLeast, GracePeriodPolicy::Exact] {
        let settings = with(|s| s.grace_period = set(policy));
        let result = injected(&pod(&[Some(own), None], Some(json!(3600))), &settings);
        assert_eq!((seconds(&result), result.unsatisfiable), (Some(3600), false), "{policy:?}");
        let hook = &result.template["spec"]["containers"][1]["lifecycle"]["preStop"];
        assert_eq!(hook["sleep"]["seconds"], 10, "{policy:?}");
        assert_eq!(result.warnings, [""; 0]);
    }
}

#[test]
fn over_the_maximum_the_warning_names_the_cause() {
    let (own, short): (&[&str], &[&str]) = (&["sh", "-c", "sleep 900"], &["sleep", "20"]);
    let template = pod(&[Some(own), Some(short)], Some(json!(60)));
    let result = injected(&template, &Settings::default());
    assert_eq!((&result.template, result.unsatisfiable), (&template, true));
    for part in
        ["container \"a\": its own preStop takes 900 s", "more than the maximum of 600 s", "to 935 or more"]
    {
        assert!(only_warning(&result).contains(part), "{:?}", result.warnings);
    }
    let slow = with(|s| s.shutdown_timeout_seconds = set(900));
    let result = injected(&pod(&[Some(short)], None), &slow);
    assert!(
        only_warning(&result).starts_with("the pod needs a grace period of 925 s"),
        "{:?}",
        result.warnings
    );
    assert!(
        only_warning(&result).contains("raise maxGracePeriodSeconds in a policy"),
        "{:?}",
        result.warnings
    );
    let from = Source::ClusterPolicy("cap".into());
    let capped = Settings { max_grace_period_seconds: Setting { value: 60, from }, ..slow };
    let result = injected(&pod(&[Some(short)], None), &capped);
    let part = "maximum of 60 s (cluster policy cap): nothing is injected; lower the drain or the shutdown timeout, \
                raise maxGracePeriodSeconds in that policy";
    assert!(only_warning(&result).contains(part), "{:?}", result.warnings);
    let sidecar = json!({"spec": {
        "containers": [{"name": "app"}],
        "initContainers": [
            {"name": "proxy", "restartPolicy": "Always", "lifecycle": {"preStop": {"sleep": {"seconds": 900}}}},
        ],
    }});
    let result = injected(&sidecar, &Settings::default());
    assert!(only_warning(&result).contains("native sidecar \"proxy\": its own preStop takes 900 s"));
}

#[test]
fn grace_period_may_be_the_maximum() {
    let at_the_maximum = with(|s| s.shutdown_timeout_seconds = set(585));
    assert_eq!(seconds(&injected(&pod(&[None], None), &at_the_maximum)), Some(600));
    let above = with(|s| s.shutdown_timeout_seconds = set(586));
    assert!(injected(&pod(&[None], Some(json!(600))), &above).unsatisfiable);
    let sufficient = injected(&pod(&[None], Some(json!(601))), &above);
    assert_eq!((seconds(&sufficient), sufficient.unsatisfiable), (Some(601), false));
}
