//! Help, versions, and completions of shells and of kubectl.

use std::{env, fs, os::unix::fs::symlink, path::Path, process::Command};

use serde_json::{Value, json};

use crate::support::{adieu, folder, kubeconfig, run, server, succeed};

/// The commands for users.
const COMMANDS: [&str; 12] = [
    "audit",
    "calibrate",
    "check",
    "completion",
    "diff",
    "explain",
    "inject",
    "profiles",
    "revert",
    "status",
    "verify",
    "version",
];

#[test]
fn help_has_examples_and_lists_the_commands_of_the_operator_last() {
    let help = succeed(&["--help"], "").0;
    let at = |name: &str| help.find(&format!("\n  {name} ")).unwrap_or_else(|| panic!("{name}: {help}"));
    assert!(at("version") < at("controller") && at("controller") < at("crd"), "{help}");
    assert!(help.contains("Examples:") && help.contains("--context"), "{help}");
    for command in COMMANDS {
        let help = succeed(&[command, "--help"], "").0;
        assert!(help.contains("Examples:") && help.contains("--request-timeout"), "{command}: {help}");
    }
    assert!(!succeed(&["status", "-h"], "").0.contains("--request-timeout"), "short help is short");
}

#[test]
fn as_plugin_of_kubectl_the_usage_names_kubectl() {
    let plugin = folder("plugin", &[]);
    fs::create_dir_all(&plugin).unwrap();
    let plugin = plugin.join("kubectl-adieu");
    symlink(env!("CARGO_BIN_EXE_adieu"), &plugin).unwrap();
    let help = run(Command::new(&plugin).args(["status", "--help"]), "").stdout;
    assert!(help.contains("Usage: kubectl adieu status"), "{help}");
    let wrong = run(Command::new(&plugin).args(["explain", "web"]), "");
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("such as deployment/web"), "{}", wrong.stderr);
}

#[test]
fn the_version_of_client_server_and_operator_is_printed() {
    let text = succeed(&["version", "--client", "-o", "json"], "").0;
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        json!({"client": env!("CARGO_PKG_VERSION")}),
        "no cluster is needed"
    );
    let address = server(|target| {
        if target.starts_with("/version") {
            let other = ["gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"];
            let mut version = json!({"major": "1", "minor": "36", "gitVersion": "v1.36.2"});
            for field in other {
                version[field] = json!("");
            }
            return (200, version);
        }
        let labels = json!({"app.kubernetes.io/version": "0.0.1"});
        let operator = json!({"metadata": {"name": "adieu", "namespace": "adieu-system", "labels": labels}});
        (200, json!({"metadata": {}, "items": [operator]}))
    });
    let config = kubeconfig("version", address);
    let (text, warnings) = succeed(&["version", "--kubeconfig", config.to_str().unwrap()], "");
    let server = format!("API server:   v1.36.2, the cluster http://{address} (context c)\n");
    assert!(text.contains(&server), "{text}");
    assert!(text.contains("Operator:     0.0.1, adieu-system/adieu, "), "{text}");
    assert!(warnings.contains("the operator is 0.0.1"), "{warnings}");
}

#[test]
fn completion_scripts_are_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = succeed(&["completion", shell], "").0;
        assert!(script.contains("adieu") && script.contains("request-timeout"), "{shell}");
        assert!(script.contains("explain"), "{shell}");
    }
    assert_eq!(adieu(&["completion", "cmd"], "").code, 2);
}

#[test]
fn kubectl_completes_options_and_names() {
    let address = server(|target| {
        let is_deployments = target.starts_with("/apis/apps/v1/namespaces/shop/deployments?");
        let names = if is_deployments { json!([{"metadata": {"name": "web"}}]) } else { json!([]) };
        (200, json!({"metadata": {}, "items": names}))
    });
    let config = kubeconfig("completion", address);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = format!("{}:{}", root.join("tests/cli/programs").display(), env::var("PATH").unwrap());
    let completed = |words: &[&str]| {
        let program = root.join("completions/kubectl_complete-adieu");
        let mut command = Command::new(program);
        command.env("PATH", &path).env("ADIEU", env!("CARGO_BIN_EXE_adieu")).env("KUBECONFIG", &config);
        let finished = run(command.args(words), "");
        assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{words:?}");
        finished.stdout
    };
    assert!(completed(&["sta"]).starts_with("status\tLists the workloads that are managed"));
    assert_eq!(completed(&["status", "--out"]).lines().count(), 2, "the option and what the shell may add");
    let formats = "table\tFor people\njson\tAn object with `workloads` and `summary`\n:4\n";
    assert_eq!(completed(&["status", "-o", ""]), formats);
    assert_eq!(completed(&["status", "deploy/"]), "deploy/web\n:4\n");
    assert_eq!(completed(&["explain", "deploy", ""]), "web\n:4\n");
    assert_eq!(completed(&["status", "--context", ""]), "c\n:4\n");
    assert_eq!(completed(&["--kubeconfig", "/nowhere/config", "status", "deploy/"]), ":4\n", "no cluster");
}
