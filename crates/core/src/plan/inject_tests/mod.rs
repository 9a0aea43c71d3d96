mod hooks;
mod records;
mod reverts;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Service;
use serde_json::json;

use super::*;
use crate::{
    api::{ExistingHookPolicy, GracePeriodPolicy, PreStopMethod, ProbeMode, TopologySpread},
    plan::{Kind, NamespaceContext, ProbeChoice, Setting, Source, Workload, record::InjectedField},
};

fn settings(drain: i64, shutdown: i64, margin: i64) -> Settings {
    let setting = |value| Setting { value, from: Source::Default };
    Settings {
        drain_seconds: setting(drain),
        shutdown_timeout_seconds: setting(shutdown),
        margin_seconds: setting(margin),
        ..Settings::default()
    }
}

fn inject_with(template: &Value, settings: &Settings, services: &[Arc<Service>], creating: bool) -> Injected {
    let context = NamespaceContext { services: services.to_vec(), ..NamespaceContext::default() };
    let annotations = BTreeMap::new();
    let workload = Workload::new(Kind::Deployment, &annotations, template);
    let injection = InjectionContext::of(&workload, &context, creating, &Source::WorkloadAnnotation);
    inject(&PodTemplate::new(template), None, settings, &injection)
}

fn injected(template: &Value) -> Value {
    inject_with(template, &settings(10, 30, 5), &[], true).template
}

fn without_record(mut template: Value) -> Value {
    template["metadata"]["annotations"].as_object_mut().map(|annotations| annotations.remove(INJECTED));
    template
}

#[test]
fn plain_template_gets_hook_probe_and_grace_period() {
    let template = json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "containers": [{"name": "web", "ports": [{"containerPort": 8080, "name": "http"}]}],
            "terminationGracePeriodSeconds": 30,
        },
    });
    assert_eq!(
        without_record(injected(&template)),
        json!({
            "metadata": {"labels": {"app": "web", "adieu.dev/injection": "enabled"}, "annotations": {}},
            "spec": {
                "containers": [{
                    "name": "web",
                    "ports": [{"containerPort": 8080, "name": "http"}],
                    "lifecycle": {"preStop": {"sleep": {"seconds": 10}}},
                    "readinessProbe": {
                        "tcpSocket": {"port": 8080}, "periodSeconds": 5, "timeoutSeconds": 1,
                        "successThreshold": 1, "failureThreshold": 3,
                    },
                }],
                "terminationGracePeriodSeconds": 45,
            },
        })
    );
}

#[test]
fn users_hooks_are_kept_and_count() {
    let template = json!({"spec": {
        "containers": [
            {"name": "own", "lifecycle": {"preStop": {"exec": {"command": ["sleep", "25"]}}}},
            {"name": "other", "lifecycle": {"postStart": {"sleep": {"seconds": 1}}}},
        ],
        "initContainers": [{"name": "proxy", "restartPolicy": "Always"}, {"name": "setup"}],
        "terminationGracePeriodSeconds": 20,
    }});
    let result = injected(&template);
    assert_eq!(result["spec"]["containers"][0], template["spec"]["containers"][0]);
    assert_eq!(
        result["spec"]["containers"][1]["lifecycle"],
        json!({"postStart": {"sleep": {"seconds": 1}}, "preStop": {"sleep": {"seconds": 10}}})
    );
    assert_eq!(result["spec"]["initContainers"], template["spec"]["initContainers"]);
    assert_eq!(result["spec"]["terminationGracePeriodSeconds"], 25 + 30 + 5 + 5);
}

#[test]
fn longer_grace_period_is_kept() {
    let template = json!({"spec": {"containers": [{"name": "a"}], "terminationGracePeriodSeconds": 120}});
    let result = injected(&template);
    assert_eq!(result["spec"]["terminationGracePeriodSeconds"], 120);
    assert_eq!(result["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 10);
}

#[test]
fn over_the_maximum_nothing_is_injected() {
    let template = json!({"spec": {"containers": [{"name": "a"}]}});
    let result = inject_with(&template, &settings(10, 586, 5), &[], true);
    assert_eq!(result.template, template);
    assert!(result.warnings[0].contains("601 s, more than the maximum of 600 s"), "{:?}", result.warnings);
}

#[test]
fn hook_of_unknown_duration_counts_as_the_drain_with_a_warning() {
    let template = json!({"spec": {"containers": [
        {"name": "a", "lifecycle": {"preStop": {"exec": {"command": ["/bin/drain.sh"]}}}},
    ]}});
    let result = inject_with(&template, &settings(10, 30, 5), &[], true);
    assert_eq!(result.template["spec"]["terminationGracePeriodSeconds"], 45);
    assert!(result.warnings[0].contains("container \"a\""), "{:?}", result.warnings);
}

#[test]
fn changed_settings_replace_the_injection() {
    let template = json!({"spec": {"containers": [{"name": "a"}], "terminationGracePeriodSeconds": 30}});
    let once = injected(&template);
    let again = inject_with(&once, &settings(20, 40, 5), &[], true).template;
    assert_eq!(again, inject_with(&template, &settings(20, 40, 5), &[], true).template);
    assert_eq!(opt_out(&PodTemplate::new(&again), None), template);
}

fn with(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = settings(10, 30, 5);
    change(&mut settings);
    settings
}

fn set<T>(value: T) -> Setting<T> {
    Setting { value, from: Source::Policy("p".into()) }
}

fn two_containers() -> Value {
    json!({"spec": {"containers": [
        {"name": "web", "ports": [{"containerPort": 8081, "name": "admin"}]},
        {"name": "proxy"},
    ]}})
}

fn hook(result: &Value, container: usize) -> &Value {
    &result["spec"]["containers"][container]["lifecycle"]["preStop"]
}

#[test]
fn replaced_hook_is_restored_on_opt_out() {
    let own =
        |handler: Value| json!({"spec": {"containers": [{"name": "a", "lifecycle": {"preStop": handler}}]}});
    let settings = with(|s| s.existing = set(ExistingHookPolicy::Replace));
    let template = own(json!({"exec": {"command": ["/drain.sh"]}}));
    let result = inject_with(&template, &settings, &[], false);
    assert_eq!(hook(&result.template, 0), &json!({"sleep": {"seconds": 10}}));
    assert!(result.warnings.is_empty(), "{:?}", result.warnings);
    assert_eq!(opt_out(&PodTemplate::new(&result.template), None), template);
    let again = inject_with(&result.template, &settings, &[], false).template;
    assert_eq!(again, result.template);
    let zero = own(json!({"sleep": {"seconds": 0}}));
    assert_eq!(
        hook(&inject_with(&zero, &settings, &[], false).template, 0),
        &json!({"sleep": {"seconds": 0}})
    );
}

#[test]
fn sleep_of_zero_and_exclusion_opt_a_container_out() {
    let template = json!({"spec": {"containers": [
        {"name": "a", "lifecycle": {"preStop": {"sleep": {"seconds": 0}}}},
        {"name": "log-shipper", "ports": [{"containerPort": 80}]},
    ], "initContainers": [{"name": "istio-proxy", "restartPolicy": "Always"}]}});
    let settings = with(|s| {
        let names = ["log-shipper", "istio-proxy", "typo"].map(str::to_owned);
        s.exclude = Setting { value: names.to_vec(), from: Source::WorkloadAnnotation };
    });
    let result = inject_with(&template, &settings, &[], true);
    assert_eq!(result.template["spec"]["containers"], template["spec"]["containers"]);
    assert_eq!(result.template["spec"]["terminationGracePeriodSeconds"], 40, "no container drains");
    let [warning] = result.warnings.as_slice() else { unreachable!("{:?}", result.warnings) };
    assert!(warning.contains("\"typo\"") && warning.contains("unless it is added to the pods"), "{warning}");
}

#[test]
fn exact_lowers_the_grace_period_down_to_a_sidecars_hook() {
    let sidecar = |seconds: i64| {
        json!({"spec": {
            "containers": [{"name": "a"}],
            "initContainers": [
                {"name": "proxy", "restartPolicy": "Always", "lifecycle": {"preStop": {"sleep": {"seconds": seconds}}}},
            ],
            "terminationGracePeriodSeconds": 300,
        }})
    };
    let settings = with(|s| {
        s.grace_period = set(GracePeriodPolicy::Exact);
        s.sidecar_seconds = set(7);
    });
    let grace = |seconds| {
        let result = inject_with(&sidecar(seconds), &settings, &[], false).template;
        result["spec"]["terminationGracePeriodSeconds"].as_i64()
    };
    assert_eq!((grace(5), grace(200)), (Some(10 + 30 + 7 + 5), Some(200 + 7 + 5)));
}

#[test]
fn exact_keeps_the_time_of_a_post_start_sleep() {
    let template = json!({"spec": {
        "containers": [{"name": "a", "lifecycle": {"postStart": {"sleep": {"seconds": 60}}}}],
        "terminationGracePeriodSeconds": 90,
    }});
    let settings = with(|s| s.grace_period = set(GracePeriodPolicy::Exact));
    let result = inject_with(&template, &settings, &[], false).template;
    assert_eq!(result["spec"]["terminationGracePeriodSeconds"], 60);
    let sidecar = json!({"spec": {
        "containers": [{"name": "a"}],
        "initContainers": [
            {"name": "b", "restartPolicy": "Always", "lifecycle": {"postStart": {"sleep": {"seconds": 60}}}},
        ],
        "terminationGracePeriodSeconds": 90,
    }});
    let result = inject_with(&sidecar, &settings, &[], false).template;
    assert_eq!(result["spec"]["terminationGracePeriodSeconds"], 60);
}

#[test]
fn default_grace_period_is_never_lowered() {
    let template = json!({"spec": {"containers": [{"name": "a"}]}});
    let result = inject_with(&template, &settings(5, 10, 5), &[], false).template;
    assert_eq!(result["spec"].get("terminationGracePeriodSeconds"), None);
}

#[test]
fn hook_of_an_unnamed_container_is_kept_and_counts() {
    let template = json!({"spec": {"containers": [{"lifecycle": {"preStop": {"sleep": {"seconds": 47}}}}]}});
    let settings = with(|s| {
        s.existing = set(ExistingHookPolicy::Replace);
        s.shutdown_timeout_seconds = set(0);
    });
    let result = inject_with(&template, &settings, &[], true).template;
    assert_eq!(result["spec"]["containers"], template["spec"]["containers"]);
    assert_eq!(result["spec"]["terminationGracePeriodSeconds"], 47 + 5);
}

#[test]
fn injected_template_gets_the_injection_label() {
    let with = |labels: Option<Value>| {
        let mut template = json!({"metadata": {}, "spec": {"containers": [{"name": "web"}]}});
        if let Some(labels) = labels {
            template["metadata"]["labels"] = labels;
        }
        template
    };
    let ours = json!({"adieu.dev/injection": "enabled"});
    for (labels, becomes) in [
        (None, ours.clone()),
        (Some(Value::Null), ours.clone()),
        (Some(json!({})), ours.clone()),
        (Some(json!({"app": "web"})), json!({"app": "web", "adieu.dev/injection": "enabled"})),
        // Set by the user: kept, also after the opt-out.
        (Some(ours.clone()), ours.clone()),
        (Some(json!({"adieu.dev/injection": "disabled"})), json!({"adieu.dev/injection": "disabled"})),
        (Some(json!("no object")), json!("no object")),
    ] {
        let template = with(labels);
        let labelled = injected(&template);
        assert_eq!(labelled["metadata"]["labels"], becomes, "{template}");
        assert_eq!(injected(&labelled), labelled, "{template}");
        assert_eq!(original(&PodTemplate::new(&labelled), None), template);
    }
    // Its value is adieu's only as long as it is the one that adieu set.
    let mut changed = injected(&with(None));
    changed["metadata"]["labels"]["adieu.dev/injection"] = json!("disabled");
    assert_eq!(
        original(&PodTemplate::new(&changed), None)["metadata"]["labels"],
        json!({"adieu.dev/injection": "disabled"})
    );
}

#[test]
fn configured_probe_is_used_unchanged() {
    let probe = json!({"httpGet": {"path": "/ready", "port": "admin"}, "periodSeconds": 2});
    let choice = ProbeChoice { probe: serde_json::from_value(probe).unwrap(), ..ProbeChoice::default() };
    let settings = with(|s| s.readiness_probe = set(choice));
    let result = inject_with(&two_containers(), &settings, &[], false).template;
    assert_eq!(
        result["spec"]["containers"][0]["readinessProbe"],
        json!({
            "httpGet": {"path": "/ready", "port": "admin", "scheme": "HTTP"}, "periodSeconds": 2,
            "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3,
        })
    );
    assert_eq!(result["spec"]["containers"][1].get("readinessProbe"), None);

    let never = ProbeChoice { mode: ProbeMode::Never, probe: None };
    let settings = with(|s| s.readiness_probe = set(never));
    let single = json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80}]}]}});
    let result = inject_with(&single, &settings, &[], true).template;
    assert_eq!(result["spec"]["containers"][0].get("readinessProbe"), None);
}

#[test]
fn configured_probe_is_stored_as_the_api_server_stores_it() {
    let probe = json!({
        "httpGet": {"path": "", "port": 80, "httpHeaders": []}, "initialDelaySeconds": 0, "periodSeconds": 0,
    });
    let choice = ProbeChoice { probe: serde_json::from_value(probe).unwrap(), ..ProbeChoice::default() };
    let settings = with(|s| s.readiness_probe = set(choice));
    let single = json!({"spec": {"containers": [{"name": "a"}]}});
    assert_eq!(
        inject_with(&single, &settings, &[], false).template["spec"]["containers"][0]["readinessProbe"],
        json!({
            "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
            "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
        })
    );
}

#[test]
fn spread_constraint_is_added_if_there_is_none() {
    let selector = json!({"matchLabels": {"app": "a"}});
    let settings = with(|s| s.spread = set(Some(TopologySpread { topology_key: "zone".into() })));
    let (annotations, context) = (BTreeMap::new(), NamespaceContext::default());
    let spread = |template: &Value| {
        let workload =
            Workload { selector: Some(&selector), ..Workload::new(Kind::Deployment, &annotations, template) };
        let injection = InjectionContext::of(&workload, &context, false, &Source::WorkloadAnnotation);
        inject(&PodTemplate::new(template), None, &settings, &injection).template
    };
    for before in [None, Some(Value::Null), Some(json!([]))] {
        let mut template = json!({"spec": {"containers": [{"name": "a"}]}});
        if let Some(before) = before {
            template["spec"]["topologySpreadConstraints"] = before;
        }
        let result = spread(&template);
        assert_eq!(
            result["spec"]["topologySpreadConstraints"],
            json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector}])
        );
        assert_eq!(opt_out(&PodTemplate::new(&result), None), template);
    }
    let own = json!([{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]);
    let template = json!({"spec": {"containers": [{"name": "a"}], "topologySpreadConstraints": own}});
    assert_eq!(spread(&template)["spec"]["topologySpreadConstraints"], own);
}

#[test]
fn configured_grpc_probe_gets_the_defaults_of_the_api_server() {
    let probe = json!({"grpc": {"port": 9000}, "initialDelaySeconds": 5, "failureThreshold": 7});
    let choice = ProbeChoice { probe: serde_json::from_value(probe).unwrap(), ..ProbeChoice::default() };
    let settings = with(|s| s.readiness_probe = set(choice));
    let single = json!({"spec": {"containers": [{"name": "a"}]}});
    assert_eq!(
        inject_with(&single, &settings, &[], false).template["spec"]["containers"][0]["readinessProbe"],
        json!({
            "grpc": {"port": 9000, "service": ""}, "initialDelaySeconds": 5,
            "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 7,
        })
    );
}
