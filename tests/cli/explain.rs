//! `adieu explain`.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{adieu, kubeconfig, run, server, succeed};

const MANIFESTS: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  annotations: {adieu.dev/margin-seconds: \"9\"}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: web}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: system}
spec:
  template: {spec: {containers: [{name: agent, image: agent}]}}
---
apiVersion: adieu.dev/v1alpha1
kind: GracefulPolicy
metadata: {name: checkout}
spec: {selector: {}, drainSeconds: 20}
";

const EXPOSURES: &str = "\
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec: {ingressClassName: public, defaultBackend: {service: {name: web, port: {number: 80}}}}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: public}
spec: {controller: k8s.io/ingress-nginx}
";

fn drain(explained: &Value) -> (&Value, &Value, &Value) {
    let settings = explained["settings"].as_array().unwrap();
    let drain = settings.iter().find(|setting| setting["field"] == "drainSeconds").unwrap();
    (&drain["value"], &drain["from"], &drain["overridden"])
}

#[test]
fn workloads_of_manifests_are_explained() {
    let (text, _) = succeed(&["explain", "-f", "-", "deploy/web"], MANIFESTS);
    for expected in
        ["Deployment default/web: opted in by policy checkout", "policy checkout  Auto (default)", "to   59"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains("agent") && !text.contains('\u{1b}'), "{text}");

    let (text, _) = succeed(&["explain", "-f", "-", "-o", "json"], MANIFESTS);
    let all: Value = serde_json::from_str(&text).unwrap();
    let names: Vec<_> = all.as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["web", "agent"]);
    let lost = json!([{"value": "Auto", "from": "default"}]);
    assert_eq!(drain(&all[0]), (&json!(20), &json!("policy checkout"), &lost));
    assert_eq!(all[0]["termination"]["gracePeriodSeconds"], 59);
    assert_eq!(all[0]["pending"], pending());
    assert_eq!((&all[1]["namespace"], &all[1]["optedIn"]["value"]), (&json!("system"), &json!(false)));
    assert_eq!(all[1]["pending"], Value::Null);

    let missing = adieu(&["explain", "-f", "-", "sts/web"], MANIFESTS);
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.contains("StatefulSet \"web\" is not in the input"), "{}", missing.stderr);
}

/// The pending change of the first workload of [`MANIFESTS`].
fn pending() -> Value {
    let setting = |field: &str, value: i64, from: &str| json!({"field": field, "value": value, "from": from});
    let drain = || setting("drainSeconds", 20, "policy checkout");
    json!({
        "timing": "Queued",
        "changes": [
            {
                "field": "preStop", "container": "web", "before": null, "after": {"sleep": {"seconds": 20}},
                "settings": [drain()],
            },
            {
                "field": "terminationGracePeriodSeconds", "before": 30, "after": 59,
                "settings": [
                    drain(), setting("shutdownTimeoutSeconds", 30, "default"), setting("marginSeconds", 9, "annotation"),
                ],
            },
        ],
    })
}

#[test]
fn the_changes_of_a_workload_are_explained_until_it_is_up_to_date() {
    let explain = |manifests: &str| succeed(&["explain", "-f", "-", "deploy/web"], manifests).0;
    let text = explain(MANIFESTS);
    let grace = "grace period 30 s → 59 s: drainSeconds 20 (policy checkout), shutdownTimeoutSeconds 30 (default), \
                 marginSeconds 9 (annotation)";
    for expected in ["  change: drain none → 20 s: drainSeconds 20 (policy checkout)\n", grace] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let text = explain(&succeed(&["inject", "-f", "-"], MANIFESTS).0);
    assert!(text.contains("\n  no change: its pod template is up to date\n"), "{text}");
}

/// A line with the grace period and the seconds of each container's preStop hook: `+` if it takes at least as long, and `*`
/// for a native sidecar.
fn termination(explained: &Value) -> String {
    let Value::Array(containers) = &explained["termination"]["containers"] else { panic!("{explained}") };
    let hooks = containers.iter().map(|container| {
        let sidecar = if container["nativeSidecar"] == true { "*" } else { "" };
        let longer = if container["isExact"] == true { "" } else { "+" };
        format!("{}{sidecar} {}{longer}", container["name"].as_str().unwrap(), container["preStopSeconds"])
    });
    let hooks = hooks.collect::<Vec<_>>().join(", ");
    let opted_in = if explained["optedIn"]["value"] == true { "opted in, " } else { "" };
    let [kind, namespace, name] = ["kind", "namespace", "name"].map(|key| explained[key].as_str().unwrap());
    let grace = &explained["termination"]["gracePeriodSeconds"];
    format!("{kind} {namespace}/{name}: {opted_in}grace period {grace} s: {hooks}").trim_end().to_owned()
}

#[test]
fn the_manifests_of_the_tests_have_the_expected_terminations() {
    let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests");
    let (text, _) = succeed(&["explain", "-f", manifests, "-R", "-o", "json"], "");
    let mut found: Vec<_> =
        serde_json::from_str::<Vec<Value>>(&text).unwrap().iter().map(termination).collect();
    found.sort();
    let expected: Vec<_> = include_str!("explain_terminations.txt").lines().collect();
    assert_eq!(found, expected);
}

#[test]
fn exposures_of_manifests_are_explained_with_a_warning_if_the_drain_is_too_short() {
    let manifests = format!("{MANIFESTS}{EXPOSURES}");
    let explain = |format: &str, manifests: &str| {
        succeed(&["explain", "-f", "-", "deploy/web", "-o", format], manifests).0
    };
    let warning = "the pods drain for 20 s, but Ingress default/shop (ingress-nginx) needs 30 s, so requests may arrive after \
                   SIGTERM and be lost: annotate the workload with adieu.dev/drain-seconds: \"30\", or set drainSeconds: 30 in \
                   policy checkout";
    let source = "https://github.com/kubernetes/kubernetes/issues/20473";

    let text = explain("text", &manifests);
    assert!(text.contains(&format!("  warning: {warning}\n")), "{text}");
    for expected in ["Ingress default/shop, IngressClass/public  30 s", source, "network: ingress-nginx  █"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }

    let all: Value = serde_json::from_str(&explain("json", &manifests)).unwrap();
    let exposures = all[0]["exposures"].as_array().unwrap();
    assert_eq!(exposures.len(), 2);
    let short = |exposure: &Value| (exposure["name"].clone(), exposure["drainTooShort"].clone());
    assert_eq!(short(&exposures[0]), (json!("cluster-ip"), json!(false)));
    let expected = json!({
        "name": "ingress-nginx", "class": "IngressClass/public", "drainSeconds": 30, "drainTooShort": true,
        "object": {"kind": "Ingress", "namespace": "default", "name": "shop"},
        "reason": "it may take 15 to 30 s to notice that a pod terminates", "source": source,
    });
    assert_eq!(exposures[1], expected);
    assert!(all[0]["warnings"].as_array().unwrap().contains(&json!(warning)), "{all}");

    let svg = explain("svg", &manifests);
    for expected in
        ["network: ingress-nginx", "20 to 30 s: ingress-nginx: requests still arrive after SIGTERM"]
    {
        assert!(svg.contains(expected), "{expected}: {svg}");
    }

    let enough = manifests.replace("drainSeconds: 20", "drainSeconds: 30");
    let text = explain("text", &enough);
    assert!(text.contains("ingress-nginx: requests still arrive\n"), "{text}");
    assert!(!text.contains("too short") && !text.contains("needs 30 s"), "{text}");
}

#[test]
fn a_workload_of_a_cluster_is_explained_with_its_policies_and_services() {
    let address = server(answer);
    let explain = |workload: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
        command
            .env("KUBECONFIG", kubeconfig("explain", address))
            .args(["explain", workload, "-n", "shop", "-o", "json"]);
        run(&mut command, "")
    };
    let finished = explain("deployment/web");
    let all: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{}", finished.stderr));
    assert_eq!(all[0]["namespace"], "shop");
    assert_eq!(drain(&all[0]).1, "policy checkout");
    assert_eq!(all[0]["state"], "Pending");
    let exposures = all[0]["exposures"].as_array().unwrap().iter();
    let exposures: Vec<_> =
        exposures.map(|exposure| (&exposure["name"], &exposure["drainSeconds"])).collect();
    let expected = [("cluster-ip", 10), ("aws-nlb-ip", 190), ("ingress-nginx", 30)]
        .map(|(name, seconds)| (json!(name), json!(seconds)));
    assert_eq!(exposures, expected.each_ref().map(|(name, seconds)| (name, seconds)));
    let skipped: Vec<_> = finished.stderr.lines().filter(|line| line.contains("incomplete")).collect();
    let [line] = skipped.as_slice() else { panic!("{}", finished.stderr) };
    let expected = "warning: the exposures are incomplete: you may not list IngressClass.networking.k8s.io";
    assert_eq!(*line, expected);
    let missing = explain("ds/agent");
    assert_eq!(missing.code, 1);
    assert!(
        missing.stderr.contains("DaemonSet \"agent\" not found in namespace \"shop\""),
        "{}",
        missing.stderr
    );
}

/// The answers of a cluster that has the first workload and the policy of [`MANIFESTS`].
fn answer(target: &str) -> (u16, Value) {
    let list = |items: Value| (200, json!({"metadata": {}, "items": items}));
    let failure = |code: u16, reason: &str| {
        let status =
            json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "no"});
        (code, status)
    };
    let [mut deployment, mut policy] =
        [0, 2].map(|number| crate::support::documents(MANIFESTS)[number].clone());
    let path = target.split('?').next().unwrap();
    match path.rsplit('/').next().unwrap() {
        "web" => {
            deployment["metadata"]["managedFields"] =
                json!([{"manager": "kubectl", "fieldsV1": {"f:a": {}}}]);
            (200, deployment)
        }
        "gracefulpolicies" => {
            policy["metadata"]["namespace"] = json!("shop");
            list(json!([policy]))
        }
        "services" => {
            let annotations = json!({
                "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type": "ip",
                "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes":
                    "deregistration_delay.timeout_seconds=180",
            });
            let spec = json!({"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}]});
            list(json!([{"metadata": {"name": "web", "annotations": annotations}, "spec": spec}]))
        }
        "version" => (
            200,
            json!({
                "major": "1", "minor": "29+", "gitVersion": "v1.29.0", "gitCommit": "", "gitTreeState": "", "buildDate": "",
                "goVersion": "", "compiler": "", "platform": "",
            }),
        ),
        "clustergracefulpolicies" => list(json!([])),
        "apis" => {
            let versions = json!([{"groupVersion": "networking.k8s.io/v1", "version": "v1"}]);
            (200, json!({"groups": [{"name": "networking.k8s.io", "versions": versions}]}))
        }
        "v1" => {
            let kind = |kind: &str, name: &str| json!({"kind": kind, "name": name, "verbs": ["list"]});
            let resources = [kind("Ingress", "ingresses"), kind("IngressClass", "ingressclasses")];
            (200, json!({"groupVersion": "networking.k8s.io/v1", "resources": resources}))
        }
        "ingresses" => list(json!([{
            "metadata": {"name": "shop", "namespace": "shop"},
            "spec": {"ingressClassName": "nginx", "defaultBackend": {"service": {"name": "web"}}},
        }])),
        "ingressclasses" => failure(403, "Forbidden"),
        _ => failure(404, "NotFound"),
    }
}
