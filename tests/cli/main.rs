//! The command line, run as a program.

#![allow(clippy::panic, clippy::unwrap_used)]

mod audit;
mod audit_of_cluster;
mod calibrate;
mod connection;
mod controller;
mod diff;
mod drains;
mod explain;
#[path = "../manifests/files.rs"]
mod files;
mod output;
mod profiles;
mod properties;
mod recommend;
mod revert;
mod shell;
mod status;
mod support;
mod text;
mod unaffected;
mod verify;

use std::fs;

use serde_json::{Value, json};
use support::{adieu, documents, folder, succeed};

const HELM: &str = include_str!("helm.yaml");

/// A Deployment that is opted in by annotation.
const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  annotations:
    adieu.dev/graceful: \"true\"
spec:
  template:
    metadata:
      labels:
        app: web
    spec:
      containers:
      - name: web
        image: web
";

const POLICY: &str = "\
apiVersion: adieu.dev/v1alpha1
kind: GracefulPolicy
metadata:
  name: all
spec:
  selector: {}
";

fn inject(input: &str) -> String {
    succeed(&["inject", "-f", "-"], input).0
}

fn revert(input: &str) -> String {
    succeed(&["revert", "-f", "-"], input).0
}

#[test]
fn only_the_opted_in_workload_of_a_release_changes() {
    let (injected, told) = succeed(&["inject", "-f", "-"], HELM);
    assert_eq!(told, "adieu: 1 injected, 1 unchanged, 0 skipped\n");
    // All documents except the Deployment that the policy selects are unchanged, byte for byte.
    let source = "# Source: shop/templates/deployment.yaml\n";
    let parts =
        |text: &str| -> Vec<String> { text.split("---\n# ").map(|part| format!("# {part}")).collect() };
    let (before, after) = (parts(HELM), parts(&injected));
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before == after, !before.starts_with(source), "{after}");
    }
    // Of that, every line stays, in its order.
    let mut lines = injected.lines();
    for line in HELM.lines() {
        assert!(lines.any(|injected| injected == line), "{line}");
    }
    let spec = &documents(&injected)[3]["spec"]["template"]["spec"];
    assert_eq!(spec["terminationGracePeriodSeconds"], 55);
    for container in spec["containers"].as_array().unwrap() {
        assert_eq!(container["lifecycle"]["preStop"], json!({"sleep": {"seconds": 20}}));
    }
    assert_eq!(spec["containers"][0]["readinessProbe"]["tcpSocket"]["port"], 8080);
    assert_eq!(inject(&injected), injected, "injecting again changes nothing");
    assert_eq!(revert(&injected), HELM);
}

#[test]
fn documents_without_opt_in_stay_byte_for_byte() {
    let plain = WEB.replace("graceful: \"true\"", "graceful: \"false\"");
    for input in [
        "",
        "# only a comment\n",
        "---\n---\n",
        &plain,
        "\n\n# c\napiVersion: v1\nkind: ConfigMap # d\ndata: {a: yes, \"b\": 012, c: 1_000, d: ~}\n...\n---\nkind: X",
        "a: &x {k: 1}\nb:\n  <<: *x\na: 2\n",
        "apiVersion: v1\r\nkind: ConfigMap\r\ndata:\r\n  a: |\r\n    x\r\n    y\r\n",
        "values: 1\n---\n- a list\n---\ntext\n",
        "kind: Job\napiVersion: batch/v1\nspec: {template: {spec: {containers: [{name: a}]}}}\n",
    ] {
        assert_eq!(inject(input), input);
        assert_eq!(succeed(&["inject", "--all", "-f", "-"], input).0, input);
        assert_eq!(revert(input), input);
    }
}

#[test]
fn an_injected_workload_is_formatted_like_its_input() {
    let injected = inject(&format!("{WEB}# the end\n"));
    let (before_record, record) = injected.split_once("        adieu.dev/injected: '").unwrap();
    let (record, after_record) = record.split_once("'\n").unwrap();
    assert_eq!(
        format!("{before_record}{after_record}"),
        WEB.replace(
            "        app: web\n",
            "        app: web\n        adieu.dev/injection: enabled\n      annotations:\n"
        )
        .replace(
            "        image: web\n",
            "        image: web\n        lifecycle:\n          preStop:\n            sleep:\n              seconds: 10\n      terminationGracePeriodSeconds: 45\n# the end\n"
        )
    );
    assert_eq!(serde_json::from_str::<Value>(record).unwrap()["optedInBy"], "annotation");
    assert_eq!(revert(&injected), format!("{WEB}# the end\n"));
}

#[test]
fn all_opts_in_workloads_without_a_setting() {
    let unsaid = WEB.replace("  annotations:\n    adieu.dev/graceful: \"true\"\n", "");
    let declined = WEB.replace("\"true\"", "\"false\"");
    let input = format!("{unsaid}---\n{declined}");
    assert_eq!(inject(&input), input);
    let injected = succeed(&["inject", "--all", "-f", "-"], &input).0;
    let [first, second] = documents(&injected).try_into().unwrap();
    assert_eq!(first["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], 45);
    assert_eq!(second, documents(&declined)[0]);
    // The record keeps it opted in without --all.
    assert_eq!(inject(&injected), injected);
    assert_eq!(revert(&injected), input);
}

#[test]
fn lists_and_json_are_injected_and_reverted() {
    let item = documents(WEB).remove(0);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [item, {"no": "kind"}]});
    let mut untyped = item.clone();
    untyped.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
    let typed = json!({"apiVersion": "apps/v1", "kind": "DeploymentList", "items": [untyped]});
    for document in [&list, &typed, &item] {
        let one = if document == &item { "" } else { "/items/0" };
        for input in [
            serde_json::to_string(document).unwrap(),
            serde_json::to_string_pretty(document).unwrap().replace("  ", "\t"),
            serde_saphyr::to_string(document).unwrap(),
        ] {
            let injected = inject(&input);
            let value = &documents(&injected)[0];
            let grace = format!("{one}/spec/template/spec/terminationGracePeriodSeconds");
            assert_eq!(value.pointer(&grace), Some(&json!(45)), "{injected}");
            assert_eq!(&documents(&revert(&injected))[0], document);
            let as_json = succeed(&["inject", "-o", "json", "-f", "-"], &input).0;
            assert_eq!(&serde_json::from_str::<Value>(&as_json).unwrap(), value);
            let back = succeed(&["revert", "-o", "json", "-f", "-"], &as_json).0;
            assert_eq!(&serde_json::from_str::<Value>(&back).unwrap(), document);
        }
    }
}

#[test]
fn json_of_several_documents_is_one_list_in_the_order_of_the_input() {
    let input = format!(
        "z: yes\na: 012\n---\n{POLICY}---\nkind: List\napiVersion: v1\nitems: [{{kind: A}}, {{kind: B}}]\n"
    );
    let json = succeed(&["inject", "-o", "json", "-f", "-"], &input).0;
    let list: Value = serde_json::from_str(&json).unwrap();
    let kinds: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| &item["kind"]).collect();
    assert_eq!(list["kind"], "List");
    assert_eq!(kinds, [&Value::Null, &json!("GracefulPolicy"), &json!("A"), &json!("B")]);
    assert_eq!(list["items"][0], json!({"z": true, "a": 10}), "parsed like kubectl");
    assert!(json.find("\"z\"").unwrap() < json.find("\"a\"").unwrap());
    assert_eq!(succeed(&["inject", "-o", "json", "-f", "-"], "# nothing\n").0, "");
}

#[test]
fn policies_services_and_namespaces_apply_across_files_in_any_order() {
    let unsaid = WEB.replace("  annotations:\n    adieu.dev/graceful: \"true\"\n", "  namespace: shop\n");
    let cluster = "\
apiVersion: adieu.dev/v1alpha1
kind: ClusterGracefulPolicy
metadata: {name: shops}
spec: {selector: {}, namespaceSelector: {matchLabels: {team: shop}}, drainSeconds: 7}
";
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: shop}}\n";
    let service = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 9090}]}
";
    let folder = folder(
        "across-files",
        &[
            ("1-web.yaml", &unsaid),
            ("2-policy.yml", cluster),
            ("3-namespace.json", &serde_json::to_string(&documents(namespace)[0]).unwrap()),
            ("sub/4-service.yaml", service),
            ("notes.txt", "not: [a manifest"),
        ],
    );
    let folder = folder.to_str().unwrap();
    let flat = documents(&succeed(&["inject", "-f", folder], "").0);
    let names = |documents: &[Value]| -> Vec<Value> { documents.iter().map(|d| d["kind"].clone()).collect() };
    assert_eq!(names(&flat), ["Deployment", "ClusterGracefulPolicy", "Namespace"]);
    let container = |documents: &[Value]| documents[0]["spec"]["template"]["spec"]["containers"][0].clone();
    assert_eq!(container(&flat)["lifecycle"]["preStop"]["sleep"]["seconds"], 7);
    assert_eq!(container(&flat)["readinessProbe"], Value::Null);

    let alone = format!("{unsaid}---\n{cluster}");
    let (untouched, warnings) = succeed(&["inject", "-f", "-"], &alone);
    assert_eq!(untouched, alone);
    assert!(warnings.contains("whose labels are not in the input: add the Namespace"), "{warnings}");

    let deep = documents(&succeed(&["inject", "-R", "-f", folder], "").0);
    assert_eq!(names(&deep), ["Deployment", "ClusterGracefulPolicy", "Namespace", "Service"]);
    assert_eq!(container(&deep)["readinessProbe"]["tcpSocket"]["port"], 9090);
    let several =
        ["inject", "-f", &format!("{folder}/1-web.yaml"), "-f", "-", "-f", &format!("{folder}/2-policy.yml")];
    let several = documents(&succeed(&several, namespace).0);
    assert_eq!(names(&several), ["Deployment", "Namespace", "ClusterGracefulPolicy"]);
    assert_eq!(container(&several)["lifecycle"]["preStop"]["sleep"]["seconds"], 7);
}

#[test]
fn objects_without_a_namespace_are_in_the_given_one() {
    let unsaid = WEB.replace("  annotations:\n    adieu.dev/graceful: \"true\"\n", "");
    let elsewhere = POLICY.replace("  name: all\n", "  name: all\n  namespace: shop\n");
    let input = format!("{unsaid}---\n{elsewhere}");
    assert_eq!(inject(&input), input);
    assert_ne!(succeed(&["inject", "-n", "shop", "-f", "-"], &input).0, input);
    let together = format!("{unsaid}---\n{POLICY}");
    assert_ne!(inject(&together), together);
}

#[test]
fn the_kubernetes_version_determines_the_form_of_the_sleep() {
    let hook = |version: &[&str]| {
        let injected = succeed(&[&["inject", "-f", "-"], version].concat(), WEB).0;
        documents(&injected)[0]["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"].clone()
    };
    let native = json!({"sleep": {"seconds": 10}});
    let exec = json!({"exec": {"command": ["sleep", "10"]}});
    assert_eq!(hook(&[]), native);
    assert_eq!(hook(&["--kube-version", "v1.30.2-gke.1"]), native);
    assert_eq!(hook(&["--kube-version", "1.29"]), exec);
    let wrong = adieu(&["inject", "-f", "-", "--kube-version", "latest"], WEB);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (2, ""));
    assert!(wrong.stderr.contains("for example 1.30"), "{}", wrong.stderr);

    // The default is the version of the cluster tests.
    let tested = include_str!("../cluster/kubernetes/go.mod");
    let tested = tested.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v1.")).unwrap();
    let (minor, _) = tested.split_once('.').unwrap();
    let help = succeed(&["inject", "--help"], "").0;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains(&format!("[default: 1.{minor}]")), "{help}");
}

#[test]
fn incomplete_manifests_and_those_of_kube_system_are_injected() {
    let bare = "kind: Deployment\napiVersion: apps/v1\nmetadata: {namespace: kube-system}\nspec:\n  template:\n    spec:\n      containers:\n      - {name: a}\n";
    let injected = succeed(&["inject", "--all", "-f", "-"], bare).0;
    let spec = &documents(&injected)[0]["spec"]["template"]["spec"];
    assert_eq!(spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 10);
    assert_eq!(documents(&revert(&injected)), documents(bare));
    for nothing in [
        "kind: Deployment\napiVersion: apps/v1\n",
        "kind: Deployment\napiVersion: apps/v1\nspec: {template: }\n",
    ] {
        assert_eq!(succeed(&["inject", "--all", "-f", "-"], nothing).0, nothing);
    }
}

#[test]
fn every_manifest_is_injected_and_reverted() {
    let (mut opted_in, mut injected) = (0, 0);
    for file in files::files() {
        let text = fs::read_to_string(&file).unwrap();
        let at = file.display();
        let plain = succeed(&["inject", "-f", "-"], &text).0;
        if text.contains("adieu.dev/") {
            opted_in += 1;
        } else {
            assert_eq!(plain, text, "{at}");
        }
        let all = succeed(&["inject", "--all", "-f", "-"], &text).0;
        injected += usize::from(all != text);
        let reverted = revert(&all);
        if text.contains("labels: *") {
            // The labels with an added one are no longer equal to the alias.
            assert_eq!(documents(&reverted), documents(&text), "{at}");
        } else {
            assert_eq!(reverted, text, "{at}");
        }
    }
    assert!(opted_in >= 2 && injected >= 20, "{opted_in} opted in, {injected} injected");
}

#[test]
fn the_crds_are_printed() {
    let crds = documents(&succeed(&["crd"], "").0);
    let names: Vec<_> = crds.iter().map(|crd| crd["spec"]["names"]["kind"].as_str().unwrap()).collect();
    assert_eq!(names, ["GracefulPolicy", "ClusterGracefulPolicy", "TerminationProfile"]);
}
