use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Service;
use serde_json::json;

use super::*;
use crate::{
    api::{ExistingHookPolicy, GracePeriodPolicy, PreStopMethod, ProbeMode, TopologySpread},
    plan::{Kind, NamespaceContext, ProbeChoice, Setting, Source, Workload, record::Field},
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
    inject(template, None, settings, &injection)
}

fn injected(template: &Value) -> Value {
    inject_with(template, &settings(10, 30, 5), &[], true).template
}

fn without_record(mut template: Value) -> Value {
    template["metadata"]["annotations"].as_object_mut().map(|annotations| annotations.remove(INJECTED));
    template
}

#[test]
fn a_plain_template_gets_hook_probe_and_grace_period() {
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
fn what_the_user_wrote_stays_and_counts() {
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
fn a_longer_grace_period_stays() {
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
fn a_hook_of_unknown_duration_counts_as_the_drain_with_a_warning() {
    let template = json!({"spec": {"containers": [
        {"name": "a", "lifecycle": {"preStop": {"exec": {"command": ["/bin/drain.sh"]}}}},
    ]}});
    let result = inject_with(&template, &settings(10, 30, 5), &[], true);
    assert_eq!(result.template["spec"]["terminationGracePeriodSeconds"], 45);
    assert!(result.warnings[0].contains("container \"a\""), "{:?}", result.warnings);
}

#[test]
fn other_settings_replace_what_was_injected_before() {
    let template = json!({"spec": {"containers": [{"name": "a"}], "terminationGracePeriodSeconds": 30}});
    let once = injected(&template);
    let again = inject_with(&once, &settings(20, 40, 5), &[], true).template;
    assert_eq!(again, inject_with(&template, &settings(20, 40, 5), &[], true).template);
    assert_eq!(opt_out(&again, None), template);
}

#[test]
fn the_record_is_rewritten_only_with_a_value() {
    let template = json!({"spec": {"containers": [{"name": "a"}], "terminationGracePeriodSeconds": 120}});
    let once = injected(&template);
    let other_margin = inject_with(&once, &settings(10, 30, 6), &[], true).template;
    assert_eq!(other_margin, once, "a margin that changes no injected value must not change the template");
}

#[test]
fn a_users_handler_beside_the_injected_one_takes_its_place() {
    let http_get = json!({"path": "/prestop", "port": 8081});
    let by_request = with(|s| {
        s.pre_stop_method = said(PreStopMethod::HttpGet);
        s.http_get = said(serde_json::from_value(http_get).ok());
    });
    let by_exec = with(|s| s.pre_stop_method = said(PreStopMethod::Exec));
    let handlers = [
        ("exec", json!({"command": ["sh", "-c", "sleep 20"]})),
        ("httpGet", json!({"path": "/quit", "port": 1})),
        ("sleep", json!({"seconds": 20})),
        ("tcpSocket", json!({"port": 1})),
    ];
    for settings in [with(|_| ()), by_exec, by_request] {
        let once = inject_with(&two_containers(), &settings, &[], false).template;
        for (key, handler) in handlers.iter().filter(|(key, _)| hook(&once, 0).get(*key).is_none()) {
            let mut merged = once.clone();
            merged["spec"]["containers"][0]["lifecycle"]["preStop"][key] = handler.clone();
            let own = json!({*key: handler});
            assert_eq!(hook(&inject_with(&merged, &settings, &[], false).template, 0), &own);
            assert_eq!(hook(&opt_out(&merged, None), 0), &own);
        }
    }
    let mut merged = injected(&two_containers());
    merged["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"] = handlers[0].1.clone();
    assert_eq!(injected(&merged)["spec"]["terminationGracePeriodSeconds"], 55);
}

#[test]
fn a_users_probe_handler_beside_the_injected_one_takes_its_place() {
    let probes = [
        json!({"exec": {"command": ["true"]}}),
        json!({"grpc": {"port": 8081}}),
        json!({"httpGet": {"path": "/ready", "port": 8081}}),
        json!({"tcpSocket": {"port": 8081}}),
    ];
    for given in &probes[1..] {
        let choice =
            ProbeChoice { probe: serde_json::from_value(given.clone()).unwrap(), ..ProbeChoice::default() };
        let settings = with(|s| s.readiness_probe = said(choice));
        let once = inject_with(&two_containers(), &settings, &[], false).template;
        for own in probes.iter().filter(|own| *own != given) {
            let mut merged = once.clone();
            let (key, handler) = own.as_object().unwrap().iter().next().unwrap();
            merged["spec"]["containers"][0]["readinessProbe"][key] = handler.clone();
            for template in [inject_with(&merged, &settings, &[], false).template, opt_out(&merged, None)] {
                let probe = template["spec"]["containers"][0]["readinessProbe"].as_object().unwrap();
                let actions = ["exec", "grpc", "httpGet", "tcpSocket"].map(|action| probe.get(action));
                assert_eq!(actions.into_iter().flatten().collect::<Vec<_>>(), [handler], "{given} and {own}");
            }
        }
    }
}

#[test]
fn a_users_later_value_survives_the_opt_out() {
    let mut edited = injected(&json!({"spec": {
        "containers": [{"name": "a"}, {"name": "b"}], "terminationGracePeriodSeconds": 30,
    }}));
    edited["spec"]["terminationGracePeriodSeconds"] = json!(90);
    edited["spec"]["containers"][0]["lifecycle"]["preStop"] = json!({"sleep": {"seconds": 3}});
    assert_eq!(
        opt_out(&edited, None),
        json!({"spec": {
            "containers": [{"name": "a", "lifecycle": {"preStop": {"sleep": {"seconds": 3}}}}, {"name": "b"}],
            "terminationGracePeriodSeconds": 90,
        }})
    );
}

#[test]
fn the_record_of_the_object_before_serves_a_template_that_lost_its_own() {
    let old =
        injected(&json!({"spec": {"containers": [{"name": "a"}], "terminationGracePeriodSeconds": 30}}));
    let mut new = without_record(old.clone());
    assert_eq!(opt_out(&new, Some(&old))["spec"]["terminationGracePeriodSeconds"], 30);
    new["spec"]["containers"][0]["image"] = json!("v2");
    let (annotations, context) = (BTreeMap::new(), NamespaceContext::default());
    let workload = Workload::new(Kind::Deployment, &annotations, &new);
    let injection = InjectionContext::of(&workload, &context, false, &Source::WorkloadAnnotation);
    let result = inject(&new, Some(&old), &settings(10, 30, 5), &injection).template;
    let record: Record =
        serde_json::from_str(result["metadata"]["annotations"][INJECTED].as_str().unwrap()).unwrap();
    assert_eq!(record.grace_period, Some(Field { injected: json!(45), before: Some(json!(30)) }));
}

fn with(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = settings(10, 30, 5);
    change(&mut settings);
    settings
}

fn said<T>(value: T) -> Setting<T> {
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
fn the_method_decides_on_the_hook() {
    let sleep = json!({"sleep": {"seconds": 10}});
    let exec = json!({"exec": {"command": ["sleep", "10"]}});
    let (template, annotations) = (two_containers(), BTreeMap::new());
    let workload = Workload::new(Kind::Deployment, &annotations, &template);
    for (method, native_sleep, expected, warns) in [
        (PreStopMethod::Auto, true, &sleep, false),
        (PreStopMethod::Sleep, true, &sleep, false),
        (PreStopMethod::Exec, true, &exec, false),
        (PreStopMethod::Auto, false, &exec, false),
        (PreStopMethod::Sleep, false, &sleep, true),
        (PreStopMethod::Exec, false, &exec, false),
    ] {
        let settings = with(|s| s.pre_stop_method = said(method));
        let context = NamespaceContext { native_sleep, ..NamespaceContext::default() };
        let injection = InjectionContext::of(&workload, &context, false, &Source::WorkloadAnnotation);
        let result = inject(&template, None, &settings, &injection);
        assert_eq!(hook(&result.template, 0), expected, "{method:?}");
        let warnings = result.warnings.join("; ");
        assert_eq!(
            warnings.contains("the preStop method is Sleep (policy p)"),
            warns,
            "{method:?}: {warnings}"
        );
    }
}

#[test]
fn a_request_goes_to_who_declares_the_port_and_the_others_sleep() {
    for port in [json!(8081), json!("admin")] {
        let http_get = serde_json::from_value(json!({"path": "/prestop", "port": port})).unwrap();
        let settings = with(|s| {
            s.pre_stop_method = said(PreStopMethod::HttpGet);
            s.http_get = said(Some(http_get));
        });
        let result = inject_with(&two_containers(), &settings, &[], false);
        let request = json!({"httpGet": {"path": "/prestop", "port": port, "scheme": "HTTP"}});
        assert_eq!(hook(&result.template, 0), &request);
        assert_eq!(hook(&result.template, 1), &json!({"sleep": {"seconds": 10}}));
        assert_eq!(result.template["spec"]["terminationGracePeriodSeconds"], 45);
    }
    let settings = with(|s| s.pre_stop_method = said(PreStopMethod::HttpGet));
    let result = inject_with(&two_containers(), &settings, &[], false);
    assert!(result.warnings[0].contains("no policy says which path and port"), "{:?}", result.warnings);
    assert_eq!(hook(&result.template, 0), &json!({"sleep": {"seconds": 10}}));
}

#[test]
fn a_request_goes_to_no_port_of_another_protocol() {
    let http_get = serde_json::from_value(json!({"path": "/prestop", "port": 8081})).unwrap();
    let settings = with(|s| {
        s.pre_stop_method = said(PreStopMethod::HttpGet);
        s.http_get = said(Some(http_get));
    });
    let port = |protocol: &str| {
        json!({"spec": {"containers": [
            {"name": "a", "ports": [{"containerPort": 8081, "protocol": protocol}]},
        ]}})
    };
    let given = |protocol| inject_with(&port(protocol), &settings, &[], false).template;
    assert_eq!(hook(&given("UDP"), 0), &json!({"sleep": {"seconds": 10}}));
    assert_eq!(hook(&given("TCP"), 0)["httpGet"]["port"], 8081);
}

#[test]
fn a_users_hook_is_replaced_where_a_policy_says_so_and_comes_back() {
    let own =
        |handler: Value| json!({"spec": {"containers": [{"name": "a", "lifecycle": {"preStop": handler}}]}});
    let settings = with(|s| s.existing = said(ExistingHookPolicy::Replace));
    let template = own(json!({"exec": {"command": ["/drain.sh"]}}));
    let result = inject_with(&template, &settings, &[], false);
    assert_eq!(hook(&result.template, 0), &json!({"sleep": {"seconds": 10}}));
    assert!(result.warnings.is_empty(), "{:?}", result.warnings);
    assert_eq!(opt_out(&result.template, None), template);
    let again = inject_with(&result.template, &settings, &[], false).template;
    assert_eq!(again, result.template);
    let zero = own(json!({"sleep": {"seconds": 0}}));
    assert_eq!(
        hook(&inject_with(&zero, &settings, &[], false).template, 0),
        &json!({"sleep": {"seconds": 0}})
    );
}

/// The chart's guard makes the same line of the hook that stands in the container, and so knows what may be
/// restored.
#[test]
fn what_was_replaced_has_a_line_of_its_own_in_the_record() {
    let settings = with(|s| s.existing = said(ExistingHookPolicy::Replace));
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
        assert_eq!(opt_out(&injected, None), template);
    }
}

#[test]
fn a_hook_that_somebody_wrote_into_the_record_is_not_restored() {
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
    assert_eq!(opt_out(&forged, None), template);
}

#[test]
fn a_sleep_of_zero_and_exclusion_opt_a_container_out() {
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
    assert_eq!(result.template["spec"]["terminationGracePeriodSeconds"], 40, "nobody drains");
    let [warning] = result.warnings.as_slice() else { unreachable!("{:?}", result.warnings) };
    assert!(warning.contains("\"typo\"") && warning.contains("unless it is added to the pods"), "{warning}");
}

#[test]
fn exact_also_lowers_the_grace_period_but_leaves_room_for_a_sidecars_hook() {
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
        s.grace_period = said(GracePeriodPolicy::Exact);
        s.sidecar_seconds = said(7);
    });
    let grace = |seconds| {
        let result = inject_with(&sidecar(seconds), &settings, &[], false).template;
        result["spec"]["terminationGracePeriodSeconds"].as_i64()
    };
    assert_eq!((grace(5), grace(200)), (Some(10 + 30 + 7 + 5), Some(200 + 7 + 5)));
}

#[test]
fn a_given_probe_is_used_as_it_is_for_any_kind() {
    let probe = json!({"httpGet": {"path": "/ready", "port": "admin"}, "periodSeconds": 2});
    let choice = ProbeChoice { probe: serde_json::from_value(probe).unwrap(), ..ProbeChoice::default() };
    let settings = with(|s| s.readiness_probe = said(choice));
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
    let settings = with(|s| s.readiness_probe = said(never));
    let single = json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80}]}]}});
    let result = inject_with(&single, &settings, &[], true).template;
    assert_eq!(result["spec"]["containers"][0].get("readinessProbe"), None);
}

#[test]
fn a_soft_spread_is_added_where_there_is_none() {
    let selector = json!({"matchLabels": {"app": "a"}});
    let settings = with(|s| s.spread = said(Some(TopologySpread { topology_key: "zone".into() })));
    let (annotations, context) = (BTreeMap::new(), NamespaceContext::default());
    let spread = |template: &Value| {
        let workload =
            Workload { selector: Some(&selector), ..Workload::new(Kind::Deployment, &annotations, template) };
        let injection = InjectionContext::of(&workload, &context, false, &Source::WorkloadAnnotation);
        inject(template, None, &settings, &injection).template
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
        assert_eq!(opt_out(&result, None), template);
    }
    let own = json!([{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]);
    let template = json!({"spec": {"containers": [{"name": "a"}], "topologySpreadConstraints": own}});
    assert_eq!(spread(&template)["spec"]["topologySpreadConstraints"], own);
}

#[test]
fn a_users_probe_merged_over_the_injected_one_takes_its_place() {
    let ports = json!([{"containerPort": 80, "name": "http"}]);
    let mut merged = injected(&json!({"spec": {"containers": [{"name": "a", "ports": ports}]}}));
    let probe = &mut merged["spec"]["containers"][0]["readinessProbe"];
    assert_eq!(probe["tcpSocket"]["port"], 80);
    probe["httpGet"] = json!({"path": "/ready", "port": 80});
    probe["failureThreshold"] = json!(2);
    // What is as adieu set it may be what the user wrote.
    let own = json!({
        "httpGet": {"path": "/ready", "port": 80},
        "periodSeconds": 5, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 2,
    });
    let again = injected(&merged);
    assert_eq!(again["spec"]["containers"][0]["readinessProbe"], own);
    assert_eq!(opt_out(&again, None)["spec"]["containers"][0]["readinessProbe"], own);
}

#[test]
fn a_users_constraint_merged_beside_the_injected_one_takes_its_place() {
    let settings = with(|s| s.spread = said(Some(TopologySpread { topology_key: "host".into() })));
    let (annotations, context) = (BTreeMap::new(), NamespaceContext::default());
    let (template, selector) = (json!({"spec": {"containers": [{"name": "a"}]}}), json!({}));
    let spread = |template: &Value| {
        let workload =
            Workload { selector: Some(&selector), ..Workload::new(Kind::Deployment, &annotations, template) };
        let injection = InjectionContext::of(&workload, &context, false, &Source::WorkloadAnnotation);
        inject(template, None, &settings, &injection).template
    };
    let mut merged = spread(&template);
    let own = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
    merged["spec"]["topologySpreadConstraints"].as_array_mut().unwrap().insert(0, own.clone());
    assert_eq!(spread(&merged)["spec"]["topologySpreadConstraints"], json!([own]));
}

#[test]
fn a_given_probe_is_recognized_as_the_api_server_stores_it() {
    let probe = json!({
        "httpGet": {"path": "", "port": 80, "httpHeaders": []}, "initialDelaySeconds": 0, "periodSeconds": 0,
    });
    let choice = ProbeChoice { probe: serde_json::from_value(probe).unwrap(), ..ProbeChoice::default() };
    let settings = with(|s| s.readiness_probe = said(choice));
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
fn exact_leaves_room_for_a_sleep_after_the_start() {
    let template = json!({"spec": {
        "containers": [{"name": "a", "lifecycle": {"postStart": {"sleep": {"seconds": 60}}}}],
        "terminationGracePeriodSeconds": 90,
    }});
    let settings = with(|s| s.grace_period = said(GracePeriodPolicy::Exact));
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
fn taking_back_leaves_room_for_a_sleep_that_the_user_wrote_since() {
    let template = json!({"spec": {"containers": [{"name": "a"}], "terminationGracePeriodSeconds": 30}});
    let mut edited = inject_with(&template, &settings(60, 30, 5), &[], false).template;
    edited["spec"]["containers"][0]["lifecycle"]["preStop"] = json!({"sleep": {"seconds": 50}});
    assert_eq!(opt_out(&edited, None)["spec"]["terminationGracePeriodSeconds"], 95);
    let negative = json!({"spec": {"containers": [{"name": "a"}], "terminationGracePeriodSeconds": -1}});
    assert_eq!(opt_out(&injected(&negative), None), negative);
}

#[test]
fn opting_out_leaves_room_for_a_sleep_that_was_longer_than_the_grace_period() {
    let hooked = |hook: &str| json!({"name": "a", "lifecycle": {hook: {"sleep": {"seconds": 50}}}});
    let sidecar = |hook| {
        let mut sidecar = hooked(hook);
        sidecar["restartPolicy"] = json!("Always");
        json!({"containers": [{"name": "b"}], "initContainers": [sidecar]})
    };
    for spec in [
        json!({"containers": [hooked("preStop")]}),
        json!({"containers": [hooked("postStart")]}),
        sidecar("preStop"),
        sidecar("postStart"),
    ] {
        let template = json!({"spec": spec});
        let injected = injected(&template);
        let mut accepted = template.clone();
        accepted["spec"]["terminationGracePeriodSeconds"] =
            injected["spec"]["terminationGracePeriodSeconds"].clone();
        assert_eq!(opt_out(&injected, None), accepted);
        let over_the_maximum = inject_with(&injected, &settings(10, 900, 5), &[], false);
        assert!(over_the_maximum.prevented);
        assert_eq!(over_the_maximum.template, accepted);
        assert_eq!(original(&injected, None), template, "a manifest comes back as it was");
    }
}

#[test]
fn a_grace_period_that_the_api_server_fills_in_is_never_lowered() {
    let template = json!({"spec": {"containers": [{"name": "a"}]}});
    let result = inject_with(&template, &settings(5, 10, 5), &[], false).template;
    assert_eq!(result["spec"].get("terminationGracePeriodSeconds"), None);
}

#[test]
fn a_record_that_would_not_fit_prevents_injection() {
    let template = json!({
        "metadata": {"annotations": {"huge": "x".repeat(ANNOTATIONS_LIMIT - 10)}},
        "spec": {"containers": [{"name": "a"}]},
    });
    let result = inject_with(&template, &settings(10, 30, 5), &[], false);
    assert_eq!((result.template, result.prevented), (template, true));
    assert!(result.warnings[0].contains("256 KiB"), "{:?}", result.warnings);
}

#[test]
fn a_record_of_a_version_that_knows_more_still_takes_back() {
    let template = json!({"metadata": {"annotations": {}}, "spec": {"containers": [{"name": "a"}]}});
    let mut newer = injected(&template);
    let record = newer["metadata"]["annotations"][INJECTED].as_str().unwrap();
    let mut record: Value = serde_json::from_str(record).unwrap();
    record["settings"]["preStopMethod"] = json!({"value": "Telepathy", "from": "annotation"});
    newer["metadata"]["annotations"][INJECTED] = json!(record.to_string());
    assert_eq!(opt_out(&newer, None), template);
}

#[test]
fn whatever_somebody_writes_for_a_record_is_taken_for_none() {
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
        assert_eq!(opt_out(&template, None)["spec"], template["spec"], "{text:?}");
        let injected = injected(&template);
        assert_eq!(injected["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 10);
        assert_eq!(opt_out(&injected, None)["spec"], template["spec"], "{text:?}");
    }
}

#[test]
fn a_record_that_takes_too_much_memory_is_not_read_and_never_written() {
    let plain = json!({"spec": {"containers": [{"name": "a"}]}});
    for (numbers, is_read) in [(1_000, true), (100_000, false)] {
        let mut template = injected(&plain);
        let mut record: Value = serde_json::from_str(record::text(&template).unwrap()).unwrap();
        record["containers"]["gone"] = json!({"preStop": {"injected": vec![0; numbers]}});
        template["metadata"]["annotations"][INJECTED] = record.to_string().into();
        let restored = opt_out(&template, None)["spec"] == plain["spec"];
        assert_eq!(restored, is_read, "{numbers}");
    }
    for (count, prevented) in [(500, false), (900, true)] {
        let containers: Vec<_> = (0..count).map(|number| json!({"name": number.to_string()})).collect();
        let template = json!({"spec": {"containers": containers}});
        let injected = inject_with(&template, &settings(10, 30, 5), &[], true);
        assert_eq!(injected.prevented, prevented, "{count}: {:?}", injected.warnings);
        assert_eq!(opt_out(&injected.template, None), template, "{count}");
    }
}

#[test]
fn what_has_no_name_keeps_its_hook_which_counts() {
    let template = json!({"spec": {"containers": [{"lifecycle": {"preStop": {"sleep": {"seconds": 47}}}}]}});
    let settings = with(|s| {
        s.existing = said(ExistingHookPolicy::Replace);
        s.shutdown_timeout_seconds = said(0);
    });
    let result = inject_with(&template, &settings, &[], true).template;
    assert_eq!(result["spec"]["containers"], template["spec"]["containers"]);
    assert_eq!(result["spec"]["terminationGracePeriodSeconds"], 47 + 5);
}

#[test]
fn without_a_place_for_the_record_nothing_is_injected() {
    for template in [
        json!({"metadata": [], "spec": {"containers": [{"name": "a"}]}}),
        json!({"metadata": {"annotations": "none"}, "spec": {"containers": [{"name": "a"}]}}),
    ] {
        let result = inject_with(&template, &settings(10, 30, 5), &[], false);
        assert_eq!((result.template, result.prevented), (template, true));
        assert!(result.warnings[0].contains("must be objects"), "{:?}", result.warnings);
    }
}

#[test]
fn the_template_is_labelled_so_that_its_pods_reach_the_webhook() {
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
        // Set by the user: left alone, and still there after the opt-out.
        (Some(ours.clone()), ours.clone()),
        (Some(json!({"adieu.dev/injection": "disabled"})), json!({"adieu.dev/injection": "disabled"})),
        (Some(json!("no object")), json!("no object")),
    ] {
        let template = with(labels);
        let labelled = injected(&template);
        assert_eq!(labelled["metadata"]["labels"], becomes, "{template}");
        assert_eq!(injected(&labelled), labelled, "{template}");
        assert_eq!(original(&labelled, None), template);
    }
    // Its value is adieu's only as long as it is the one that adieu set.
    let mut changed = injected(&with(None));
    changed["metadata"]["labels"]["adieu.dev/injection"] = json!("disabled");
    assert_eq!(original(&changed, None)["metadata"]["labels"], json!({"adieu.dev/injection": "disabled"}));
}
