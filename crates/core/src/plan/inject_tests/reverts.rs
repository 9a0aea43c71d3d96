//! Opting out, and values that users set after an injection.

use super::*;

#[test]
fn users_handler_replaces_the_injected_one() {
    let http_get = json!({"path": "/prestop", "port": 8081});
    let by_request = with(|s| {
        s.pre_stop_method = set(PreStopMethod::HttpGet);
        s.http_get = set(serde_json::from_value(http_get).ok());
    });
    let by_exec = with(|s| s.pre_stop_method = set(PreStopMethod::Exec));
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
            assert_eq!(hook(&opt_out(&PodTemplate::new(&merged), None), 0), &own);
        }
    }
    let mut merged = injected(&two_containers());
    merged["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"] = handlers[0].1.clone();
    assert_eq!(injected(&merged)["spec"]["terminationGracePeriodSeconds"], 55);
}

#[test]
fn users_probe_handler_replaces_the_injected_one() {
    let probes = [
        json!({"exec": {"command": ["true"]}}),
        json!({"grpc": {"port": 8081}}),
        json!({"httpGet": {"path": "/ready", "port": 8081}}),
        json!({"tcpSocket": {"port": 8081}}),
    ];
    for given in &probes[1..] {
        let choice =
            ProbeChoice { probe: serde_json::from_value(given.clone()).unwrap(), ..ProbeChoice::default() };
        let settings = with(|s| s.readiness_probe = set(choice));
        let once = inject_with(&two_containers(), &settings, &[], false).template;
        for own in probes.iter().filter(|own| *own != given) {
            let mut merged = once.clone();
            let (key, handler) = own.as_object().unwrap().iter().next().unwrap();
            merged["spec"]["containers"][0]["readinessProbe"][key] = handler.clone();
            for template in [
                inject_with(&merged, &settings, &[], false).template,
                opt_out(&PodTemplate::new(&merged), None),
            ] {
                let probe = template["spec"]["containers"][0]["readinessProbe"].as_object().unwrap();
                let actions = ["exec", "grpc", "httpGet", "tcpSocket"].map(|action| probe.get(action));
                assert_eq!(actions.into_iter().flatten().collect::<Vec<_>>(), [handler], "{given} and {own}");
            }
        }
    }
}

#[test]
fn users_later_value_survives_the_opt_out() {
    let mut edited = injected(&json!({"spec": {
        "containers": [{"name": "a"}, {"name": "b"}], "terminationGracePeriodSeconds": 30,
    }}));
    edited["spec"]["terminationGracePeriodSeconds"] = json!(90);
    edited["spec"]["containers"][0]["lifecycle"]["preStop"] = json!({"sleep": {"seconds": 3}});
    assert_eq!(
        opt_out(&PodTemplate::new(&edited), None),
        json!({"spec": {
            "containers": [{"name": "a", "lifecycle": {"preStop": {"sleep": {"seconds": 3}}}}, {"name": "b"}],
            "terminationGracePeriodSeconds": 90,
        }})
    );
}

#[test]
fn users_merged_probe_replaces_the_injected_one() {
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
    assert_eq!(opt_out(&PodTemplate::new(&again), None)["spec"]["containers"][0]["readinessProbe"], own);
}

#[test]
fn users_constraint_replaces_the_injected_one() {
    let settings = with(|s| s.spread = set(Some(TopologySpread { topology_key: "host".into() })));
    let (annotations, context) = (BTreeMap::new(), NamespaceContext::default());
    let (template, selector) = (json!({"spec": {"containers": [{"name": "a"}]}}), json!({}));
    let spread = |template: &Value| {
        let workload =
            Workload { selector: Some(&selector), ..Workload::new(Kind::Deployment, &annotations, template) };
        let injection = InjectionContext::of(&workload, &context, false, &Source::WorkloadAnnotation);
        inject(&PodTemplate::new(template), None, &settings, &injection).template
    };
    let mut merged = spread(&template);
    let own = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
    merged["spec"]["topologySpreadConstraints"].as_array_mut().unwrap().insert(0, own.clone());
    assert_eq!(spread(&merged)["spec"]["topologySpreadConstraints"], json!([own]));
}

#[test]
fn revert_keeps_the_grace_period_for_a_users_later_sleep() {
    let template = json!({"spec": {"containers": [{"name": "a"}], "terminationGracePeriodSeconds": 30}});
    let mut edited = inject_with(&template, &settings(60, 30, 5), &[], false).template;
    edited["spec"]["containers"][0]["lifecycle"]["preStop"] = json!({"sleep": {"seconds": 50}});
    assert_eq!(opt_out(&PodTemplate::new(&edited), None)["spec"]["terminationGracePeriodSeconds"], 95);
    let negative = json!({"spec": {"containers": [{"name": "a"}], "terminationGracePeriodSeconds": -1}});
    assert_eq!(opt_out(&PodTemplate::new(&injected(&negative)), None), negative);
}

#[test]
fn opt_out_keeps_the_grace_period_of_a_longer_sleep() {
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
        assert_eq!(opt_out(&PodTemplate::new(&injected), None), accepted);
        let over_the_maximum = inject_with(&injected, &settings(10, 900, 5), &[], false);
        assert!(over_the_maximum.unsatisfiable);
        assert_eq!(over_the_maximum.template, accepted);
        assert_eq!(original(&PodTemplate::new(&injected), None), template, "a manifest is restored");
    }
}

#[test]
fn revert_restores_the_grace_period_if_a_users_later_sleep_fits() {
    let template = json!({"spec": {"containers": [{"name": "a"}], "terminationGracePeriodSeconds": 30}});
    for (seconds, expected) in [(30, 30), (31, 95)] {
        let mut edited = inject_with(&template, &settings(60, 30, 5), &[], false).template;
        edited["spec"]["containers"][0]["lifecycle"]["preStop"] = json!({"sleep": {"seconds": seconds}});
        assert_eq!(
            opt_out(&PodTemplate::new(&edited), None)["spec"]["terminationGracePeriodSeconds"],
            expected,
            "{seconds} s"
        );
    }
}
