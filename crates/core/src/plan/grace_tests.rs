use serde_json::json;

use super::*;
use crate::{
    api::ExistingHookPolicy,
    plan::{Injected, InjectionContext, Kind, NamespaceContext, Workload, inject},
};

fn said<T>(value: T) -> Setting<T> {
    Setting { value, from: Source::WorkloadAnnotation }
}

fn with(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings);
    settings
}

fn injected(template: &Value, settings: &Settings) -> Injected {
    let (annotations, around) = (std::collections::BTreeMap::new(), NamespaceContext::default());
    let workload = Workload::new(Kind::StatefulSet, &annotations, template);
    inject(
        template,
        None,
        settings,
        &InjectionContext::of(&workload, &around, true, &Source::WorkloadAnnotation),
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
fn a_grace_period_of_0_is_never_injected() {
    let zero = |policy| {
        with(|s| {
            s.drain_seconds = said(0);
            s.shutdown_timeout_seconds = Setting { value: 0, from: Source::ClusterPolicy("fast".into()) };
            s.margin_seconds = Setting { value: 0, from: Source::ClusterPolicy("fast".into()) };
            s.grace_period = said(policy);
        })
    };
    for policy in [GracePeriodPolicy::Exact, GracePeriodPolicy::AtLeast] {
        let template = pod(&[None], Some(json!(30)));
        let result = injected(&template, &zero(policy));
        assert_eq!((&result.template, result.prevented), (&template, true));
        for part in [
            "all 0 (annotation, cluster policy fast)",
            "kills pods at once",
            "adieu.dev/shutdown-timeout-seconds",
        ] {
            assert!(only_warning(&result).contains(part), "{:?}", result.warnings);
        }
        let enough = Settings { margin_seconds: said(1), ..zero(policy) };
        assert!(!injected(&template, &enough).prevented);
        // The drain is not 0, and no hook waits for it.
        let drain = Settings { drain_seconds: said(15), ..zero(policy) };
        let excluded = Settings { exclude: said(vec!["a".into()]), ..drain.clone() };
        let opted_out = pod(&[Some(&["sleep", "0"])], Some(json!(30)));
        for (template, settings) in [(&template, &excluded), (&opted_out, &drain)] {
            let result = injected(template, settings);
            assert_eq!((&result.template, result.prevented), (template, true), "{policy:?}");
            assert!(
                only_warning(&result).contains("margin are 0 (cluster policy fast)"),
                "{:?}",
                result.warnings
            );
        }
    }
}

#[test]
fn where_the_grace_period_is_no_whole_number_nothing_is_injected() {
    for value in [json!("${GRACE:=30}"), json!("20"), json!(20.5), json!(true), json!({}), json!(1e30)] {
        let template = pod(&[None], Some(value.clone()));
        let result = injected(&template, &Settings::default());
        assert_eq!((&result.template, result.prevented), (&template, true), "{value}");
        let named = format!("terminationGracePeriodSeconds: Invalid value: {value}: must be a whole number");
        assert!(only_warning(&result).contains(&named), "{:?}", result.warnings);
    }
    for value in [json!(null), json!(0), json!(-1)] {
        let result = injected(&pod(&[None], Some(value.clone())), &Settings::default());
        assert_eq!((seconds(&result), result.warnings), (Some(45), vec![]), "{value}");
    }
}

#[test]
fn a_users_hook_that_is_shorter_than_the_drain_that_was_asked_for_is_told() {
    let template = pod(&[Some(&["sleep", "2"])], None);
    let asked = with(|s| s.drain_seconds = said(60));
    let result = injected(&template, &asked);
    assert_eq!(result.template["spec"]["containers"], template["spec"]["containers"], "it stays");
    assert_eq!(seconds(&result), Some(37));
    assert!(only_warning(&result).contains("takes 2 s, less than the drain of 60 s (annotation)"));
    let by_policy = with(|s| s.drain_seconds = Setting { value: 60, from: Source::Policy("slow".into()) });
    assert!(only_warning(&injected(&template, &by_policy)).contains("(policy slow)"));

    let silent =
        |template: &Value, settings: &Settings| assert_eq!(injected(template, settings).warnings, [""; 0]);
    silent(&template, &Settings::default());
    silent(&pod(&[Some(&["sleep", "60"])], None), &asked);
    silent(&pod(&[Some(&["sleep", "0"])], None), &asked);
    silent(&template, &Settings { existing: said(ExistingHookPolicy::Replace), ..asked.clone() });
    silent(&template, &Settings { exclude: said(vec!["a".into()]), ..asked.clone() });

    let unknown = pod(&[Some(&["/drain"])], None);
    assert!(
        only_warning(&injected(&unknown, &asked)).ends_with("if it takes less, remove it to get that drain")
    );
    for settings in [Settings::default(), Settings { exclude: said(vec!["a".into()]), ..asked }] {
        assert!(!only_warning(&injected(&unknown, &settings)).contains("if it takes less"));
    }
}

#[test]
fn a_native_sidecars_hook_runs_from_the_start_and_counts() {
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
    let drain = with(|s| s.drain_seconds = said(100));
    let unknown = injected(&sidecar(json!({"httpGet": {"path": "/drain", "port": 15020}})), &drain);
    assert_eq!(seconds(&unknown), Some(100 + 30 + 2 * 5 + 5));
    assert!(only_warning(&unknown).starts_with("native sidecar \"proxy\": how long its own preStop takes"));
}

#[test]
fn a_hook_of_unknown_duration_counts_as_what_is_certain_of_it() {
    let template = |script| pod(&[Some(&["sh", "-c", script])], None);
    let result = injected(&template("sleep 5; /drain --timeout=300s"), &Settings::default());
    assert_eq!(seconds(&result), Some(45));
    assert!(only_warning(&result).contains("it counts as the drain of 10 s"), "{:?}", result.warnings);
    let result = injected(&template("sleep 50; /drain --timeout=300s"), &Settings::default());
    assert_eq!(seconds(&result), Some(85));
    assert!(only_warning(&result).contains("it counts as 50 s"), "{:?}", result.warnings);
}

#[test]
fn a_grace_period_is_never_lowered_on_a_guess() {
    let exact = with(|s| s.grace_period = said(GracePeriodPolicy::Exact));
    let unknown: &[&str] = &["/bin/sh", "-c", "queue-upgrade await_quorum -t 604800"];
    for (command, present, expected) in [
        (unknown, 604_800, 604_800),
        (unknown, 20, 45),
        (&["sleep", "10"], 604_800, 45),
        (&["sh", "-c", "sleep 10; /drain"], 604_800, 604_800),
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
fn a_longer_grace_period_that_the_user_set_is_not_capped() {
    let own: &[&str] = &["sh", "-c", "sleep 900"];
    for policy in [GracePeriodPolicy::AtLeast, GracePeriodPolicy::Exact] {
        let settings = with(|s| s.grace_period = said(policy));
        let result = injected(&pod(&[Some(own), None], Some(json!(3600))), &settings);
        assert_eq!((seconds(&result), result.prevented), (Some(3600), false), "{policy:?}");
        let hook = &result.template["spec"]["containers"][1]["lifecycle"]["preStop"];
        assert_eq!(hook["sleep"]["seconds"], 10, "{policy:?}");
        assert_eq!(result.warnings, [""; 0]);
    }
}

#[test]
fn over_the_maximum_the_real_cause_is_named() {
    let (own, short): (&[&str], &[&str]) = (&["sh", "-c", "sleep 900"], &["sleep", "20"]);
    let template = pod(&[Some(own), Some(short)], Some(json!(60)));
    let result = injected(&template, &Settings::default());
    assert_eq!((&result.template, result.prevented), (&template, true));
    for part in
        ["container \"a\": its own preStop takes 900 s", "more than the maximum of 600 s", "to 935 or more"]
    {
        assert!(only_warning(&result).contains(part), "{:?}", result.warnings);
    }
    let slow = with(|s| s.shutdown_timeout_seconds = said(900));
    let result = injected(&pod(&[Some(short)], None), &slow);
    assert!(only_warning(&result).starts_with("needs a grace period of 925 s"), "{:?}", result.warnings);
    assert!(
        only_warning(&result).contains("raise maxGracePeriodSeconds in a policy"),
        "{:?}",
        result.warnings
    );
    let from = Source::ClusterPolicy("cap".into());
    let capped = Settings { max_grace_period_seconds: Setting { value: 60, from }, ..slow };
    let result = injected(&pod(&[Some(short)], None), &capped);
    let says = "maximum of 60 s (cluster policy cap): nothing is injected; lower the drain or the shutdown timeout, \
                raise maxGracePeriodSeconds there";
    assert!(only_warning(&result).contains(says), "{:?}", result.warnings);
    let sidecar = json!({"spec": {
        "containers": [{"name": "app"}],
        "initContainers": [
            {"name": "proxy", "restartPolicy": "Always", "lifecycle": {"preStop": {"sleep": {"seconds": 900}}}},
        ],
    }});
    let result = injected(&sidecar, &Settings::default());
    assert!(only_warning(&result).contains("native sidecar \"proxy\": its own preStop takes 900 s"));
}
