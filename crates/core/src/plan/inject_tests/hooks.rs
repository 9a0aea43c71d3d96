//! Methods of the preStop hook.

use super::*;

#[test]
fn pre_stop_method_selects_the_hook() {
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
        let settings = with(|s| s.pre_stop_method = set(method));
        let context = NamespaceContext { native_sleep, ..NamespaceContext::default() };
        let injection = InjectionContext::of(&workload, &context, false, &Source::WorkloadAnnotation);
        let result = inject(&PodTemplate::new(&template), None, &settings, &injection);
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
fn http_get_hook_goes_to_containers_that_declare_the_port() {
    for port in [json!(8081), json!("admin")] {
        let http_get = serde_json::from_value(json!({"path": "/prestop", "port": port})).unwrap();
        let settings = with(|s| {
            s.pre_stop_method = set(PreStopMethod::HttpGet);
            s.http_get = set(Some(http_get));
        });
        let result = inject_with(&two_containers(), &settings, &[], false);
        let request = json!({"httpGet": {"path": "/prestop", "port": port, "scheme": "HTTP"}});
        assert_eq!(hook(&result.template, 0), &request);
        assert_eq!(hook(&result.template, 1), &json!({"sleep": {"seconds": 10}}));
        assert_eq!(result.template["spec"]["terminationGracePeriodSeconds"], 45);
    }
    let settings = with(|s| s.pre_stop_method = set(PreStopMethod::HttpGet));
    let result = inject_with(&two_containers(), &settings, &[], false);
    assert!(result.warnings[0].contains("no policy sets its path and port"), "{:?}", result.warnings);
    assert_eq!(hook(&result.template, 0), &json!({"sleep": {"seconds": 10}}));
}

#[test]
fn http_get_hook_needs_a_tcp_port() {
    let http_get = serde_json::from_value(json!({"path": "/prestop", "port": 8081})).unwrap();
    let settings = with(|s| {
        s.pre_stop_method = set(PreStopMethod::HttpGet);
        s.http_get = set(Some(http_get));
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
