//! The command line on manifests, run as people run it.

#![allow(clippy::panic, clippy::unwrap_used)]

mod controller;
#[path = "../manifests/files.rs"]
mod files;
mod properties;
mod revert;
mod support;
mod text;
mod unaffected;
mod verify;

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use support::{adieu, documents, succeed};

const HELM: &str = include_str!("helm.yaml");

/// A Deployment that opts itself in.
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

/// A folder of its own for a test, with these files in it.
fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    drop(fs::remove_dir_all(&folder));
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

#[test]
fn a_release_keeps_its_text_but_for_the_workload_that_is_opted_in() {
    let (injected, told) = succeed(&["inject", "-f", "-"], HELM);
    assert_eq!(told, "adieu: 1 injected, 1 unchanged, 0 skipped\n");
    // Everything but the Deployment that the policy selects is there byte for byte.
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
fn what_is_not_opted_in_comes_out_byte_for_byte() {
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
fn an_annotated_workload_reads_well() {
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
fn all_opts_in_whoever_says_nothing() {
    let unsaid = WEB.replace("  annotations:\n    adieu.dev/graceful: \"true\"\n", "");
    let declined = WEB.replace("\"true\"", "\"false\"");
    let input = format!("{unsaid}---\n{declined}");
    assert_eq!(inject(&input), input);
    let injected = succeed(&["inject", "--all", "-f", "-"], &input).0;
    let [first, second] = documents(&injected).try_into().unwrap();
    assert_eq!(first["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], 45);
    assert_eq!(second, documents(&declined)[0]);
    // The record keeps it opted in, whoever asks next.
    assert_eq!(inject(&injected), injected);
    assert_eq!(revert(&injected), input);
}

#[test]
fn lists_and_json_are_injected_and_come_back() {
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
    assert_eq!(list["items"][0], json!({"z": true, "a": 10}), "read as kubectl reads it");
    assert!(json.find("\"z\"").unwrap() < json.find("\"a\"").unwrap());
    assert_eq!(succeed(&["inject", "-o", "json", "-f", "-"], "# nothing\n").0, "");
}

#[test]
fn policies_services_and_namespaces_count_across_files_in_any_order() {
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
fn objects_without_a_namespace_are_in_the_one_that_is_given() {
    let unsaid = WEB.replace("  annotations:\n    adieu.dev/graceful: \"true\"\n", "");
    let elsewhere = POLICY.replace("  name: all\n", "  name: all\n  namespace: shop\n");
    let input = format!("{unsaid}---\n{elsewhere}");
    assert_eq!(inject(&input), input);
    assert_ne!(succeed(&["inject", "-n", "shop", "-f", "-"], &input).0, input);
    let together = format!("{unsaid}---\n{POLICY}");
    assert_ne!(inject(&together), together);
}

#[test]
fn the_version_of_kubernetes_decides_how_to_sleep() {
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

    // By default it is the one that the cluster tests run.
    let tested = include_str!("../cluster/kubernetes/go.mod");
    let tested = tested.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v1.")).unwrap();
    let (minor, _) = tested.split_once('.').unwrap();
    let help = succeed(&["inject", "--help"], "").0;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains(&format!("[default: 1.{minor}]")), "{help}");
}

#[test]
fn mistakes_are_named_with_file_document_and_line_and_nothing_is_written() {
    let drain =
        |value: &str| WEB.replace("\"true\"", &format!("\"true\"\n    adieu.dev/drain-seconds: {value}"));
    let on_template = WEB.replace(
        "      labels:",
        "      annotations:\n        adieu.dev/pre-stop-method: nap\n      labels:",
    );
    let in_list =
        format!("kind: List\napiVersion: v1\nitems:\n- {}\n", drain("ten").trim_end().replace('\n', "\n  "));
    for (input, place, says) in [
        (
            format!("{POLICY}---\n{}", drain("ten")),
            "document 2, line 14",
            "Deployment web: metadata.annotations[adieu.dev/drain-seconds]: Invalid value: \"ten\": must be a whole number",
        ),
        (drain("10"), "document 1, line 7", "must be a string: put it in quotes"),
        (WEB.replace("\"true\"", "yes"), "document 1, line 6", "Invalid value: true: must be a string"),
        (on_template, "document 1, line 11", "spec.template.metadata.annotations[adieu.dev/pre-stop-method]"),
        (in_list, "document 1, line 10", "must be a whole number"),
        (
            format!("{WEB}---\n{POLICY}  drainSeconds: 4000\n"),
            "document 2, line 23",
            "GracefulPolicy all: spec.drainSeconds: Invalid value: 4000: must be at most 3600",
        ),
        (
            format!("{POLICY}  drainSecond: 4\n"),
            "document 1, line 7",
            "spec.drainSecond: Invalid value: 4: unknown field",
        ),
        (
            format!("{POLICY}  drainSeconds: 600\n  marginSeconds: 1\n"),
            "document 1, line 5",
            "must not exceed maxGracePeriodSeconds",
        ),
        ("a: 1\n---\nb: c: d\n".into(), "document 2, line 3", "mapping values are not allowed"),
        ("a:\n\t- b\n".into(), "document 1, line 2", "tab"),
        ("a: 1\n...\nb: 2\n".into(), "document 1, line 3", "begin it with `---`"),
    ] {
        let folder = folder("mistakes", &[("x.yaml", &input)]);
        let file = folder.join("x.yaml");
        let ran = adieu(&["inject", "-f", file.to_str().unwrap()], "");
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{input}");
        let place = format!("{}, {place}: ", file.display());
        assert!(ran.stderr.starts_with(&format!("adieu: {place}")), "{}", ran.stderr);
        assert!(ran.stderr.contains(says), "{}", ran.stderr);
    }
}

#[test]
fn every_mistake_is_named_at_once() {
    let bad = WEB.replace("\"true\"", "\"maybe\"");
    let ran = adieu(&["inject", "-f", "-"], &format!("{bad}---\n{bad}---\n{WEB}"));
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    let lines: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", ran.stderr);
    assert!(lines[0].starts_with("adieu: standard input, document 1, line 6: "), "{}", ran.stderr);
    assert!(lines[1].starts_with("adieu: standard input, document 2, line 22: "), "{}", ran.stderr);
}

#[test]
fn warnings_go_to_standard_error_and_the_exit_code_is_0() {
    let named = WEB.replace("graceful: \"true\"", "policy: missing");
    let (injected, warnings) = succeed(&["inject", "-f", "-"], &named);
    assert_ne!(injected, named);
    assert!(
        warnings.starts_with("warning: standard input, document 1, line 1: Deployment web: "),
        "{warnings}"
    );
    assert!(warnings.contains("\"missing\" doesn't exist"), "{warnings}");
    let broken = inject(WEB).replace("{\"optedInBy\"", "{\"opted");
    let (reverted, warnings) = succeed(&["revert", "-f", "-"], &broken);
    assert_eq!(reverted, broken);
    assert!(warnings.contains("can't be read, so nothing is taken back"), "{warnings}");
}

#[test]
fn incomplete_manifests_and_those_of_kube_system_are_injected_too() {
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
fn what_can_not_be_read_is_an_error() {
    let empty = folder("empty", &[("notes.txt", "")]);
    let binary = folder("binary", &[]);
    fs::create_dir_all(&binary).unwrap();
    let binary = binary.join("x.yaml");
    fs::write(&binary, b"a: 1\nb:\xff\n").unwrap();
    for (arguments, code, says) in [
        (vec!["inject"], 2, "--filename"),
        (vec!["inject", "-f", "-", "-o", "toml"], 2, "yaml"),
        (vec!["inject", "-f", "no-such-file.yaml"], 1, "no-such-file.yaml: "),
        (vec!["inject", "-f", "-", "-f", "-"], 1, "only once"),
        (vec!["revert", "-f", empty.to_str().unwrap()], 1, "--recursive"),
        (vec!["revert", "-f", binary.to_str().unwrap()], 1, "x.yaml: not UTF-8 (line 2, byte 7)"),
        (vec!["inject", "-f", "/dev/zero"], 1, "/dev/zero: with it, the input is larger than 64 MiB"),
    ] {
        let ran = adieu(&arguments, "");
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{arguments:?}");
        assert!(ran.stderr.contains(says), "{}", ran.stderr);
    }
}

#[test]
fn every_manifest_is_injected_and_comes_back() {
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
            // The labels that get one more are no longer those that the alias names.
            assert_eq!(documents(&reverted), documents(&text), "{at}");
        } else {
            assert_eq!(reverted, text, "{at}");
        }
    }
    assert!(opted_in >= 2 && injected >= 20, "{opted_in} opted in, {injected} injected");
}

#[test]
fn the_result_can_go_to_a_file() {
    let folder = folder("output-file", &[("web.yaml", WEB)]);
    let (input, output) = (folder.join("web.yaml"), folder.join("out.yaml"));
    let arguments = ["inject", "-f", input.to_str().unwrap(), "--output-file", output.to_str().unwrap()];
    assert_eq!(succeed(&arguments, "").0, "");
    assert_eq!(fs::read_to_string(&output).unwrap(), inject(WEB));
}

#[test]
fn a_full_disk_leaves_the_file_and_nothing_beside_it() {
    let folder = folder("full-disk", &[("web.yaml", WEB)]);
    let file = folder.join("web.yaml");
    let name = file.to_str().unwrap();
    // A limit on the size of files stands for a full disk.
    let script = "ulimit -f 1; trap '' XFSZ; exec \"$@\"";
    let input = format!("{WEB}---\n").repeat(10);
    fs::write(&file, &input).unwrap();
    let arguments =
        ["-c", script, "sh", env!("CARGO_BIN_EXE_adieu"), "inject", "-f", name, "--output-file", name];
    let ran = support::run(std::process::Command::new("sh").args(arguments), "");
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("writing {name}: ")), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), input);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_file_is_replaced_with_its_mode_and_through_a_link() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let folder = folder("replaced", &[("web.yaml", WEB)]);
    let (file, link) = (folder.join("web.yaml"), folder.join("link.yaml"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let _ = fs::remove_file(&link);
    symlink("web.yaml", &link).unwrap();
    succeed(&["inject", "-f", link.to_str().unwrap(), "--output-file", link.to_str().unwrap()], "");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&file).unwrap(), inject(WEB));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    fs::remove_file(link).unwrap();
}

#[test]
fn warnings_that_nobody_reads_keep_nothing_from_being_written() {
    let script = "exec \"$@\" 2>/dev/full";
    for command in ["inject", "revert"] {
        let arguments = ["-c", script, "sh", env!("CARGO_BIN_EXE_adieu"), command, "-f", "-"];
        let input = WEB.replace("graceful: \"true\"", "policy: missing");
        let ran = support::run(std::process::Command::new("sh").args(arguments), &input);
        assert_eq!(ran.code, 0, "{command}");
        assert!(ran.stdout.starts_with("apiVersion: apps/v1\n"), "{command}: {}", ran.stdout);
    }
}

#[test]
fn the_crds_are_printed() {
    let crds = documents(&succeed(&["crd"], "").0);
    let names: Vec<_> = crds.iter().map(|crd| crd["spec"]["names"]["kind"].as_str().unwrap()).collect();
    assert_eq!(names, ["GracefulPolicy", "ClusterGracefulPolicy"]);
}
