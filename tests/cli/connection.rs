//! The options that choose the cluster, unreachable clusters, and closed pipes.

use std::{
    io::{Write as _, pipe},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    WEB,
    support::{Finished, adieu, folder, kubeconfig, run, server},
};

fn without_kubeconfig(arguments: &[&str]) -> Finished {
    run(Command::new(env!("CARGO_BIN_EXE_adieu")).env("KUBECONFIG", "/nowhere/config").args(arguments), "")
}

/// The answers of a cluster with a Deployment of this name.
fn cluster(name: &'static str) -> impl Fn(&str) -> (u16, Value) + Send + Sync {
    move |target| {
        let path = target.split('?').next().unwrap();
        let metadata =
            json!({"name": name, "namespace": "shop", "annotations": {"adieu.dev/graceful": "true"}});
        let spec = json!({"template": {"spec": {"containers": [{"name": "web", "image": "web"}]}}});
        let items = match path.rsplit('/').next().unwrap() {
            "deployments" => json!([{"metadata": metadata, "spec": spec}]),
            "shop" => return (200, json!({"metadata": {"name": "shop", "labels": {}}})),
            _ => json!([]),
        };
        (200, json!({"metadata": {}, "items": items}))
    }
}

#[test]
fn the_connection_may_be_chosen_before_and_after_the_command() {
    let context = |name: &str| json!({"name": name, "context": {"cluster": name, "namespace": "shop"}});
    let entry = |name: &'static str| {
        let server = format!("http://{}", server(cluster(name)));
        json!({"name": name, "cluster": {"server": server}})
    };
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "first", "users": [],
        "clusters": [entry("first"), entry("second")], "contexts": [context("first"), context("second")],
    });
    let file = folder("connection", &[("config", &config.to_string())]).join("config");
    let file = file.to_str().unwrap();
    for (arguments, found) in [
        (&["status", "--kubeconfig", file][..], "Deployment/first"),
        (&["--kubeconfig", file, "status"], "Deployment/first"),
        (&["status", "--kubeconfig", file, "--context", "second"], "Deployment/second"),
        (&["--context=second", "status", "--kubeconfig", file], "Deployment/second"),
        (
            &["status", "--kubeconfig", file, "--cluster", "second", "--request-timeout=0"],
            "Deployment/second",
        ),
    ] {
        let finished = without_kubeconfig(arguments);
        assert_eq!(finished.code, 0, "{arguments:?}: {}", finished.stderr);
        assert!(finished.stdout.contains(found), "{arguments:?}: {}", finished.stdout);
    }
    for (arguments, part) in [
        (&["status", "--kubeconfig", file, "--context", "third"][..], "third"),
        (&["status", "--kubeconfig", "/nowhere/else"], "/nowhere/else"),
        (&["status", "--context", "second"], "/nowhere/config"),
    ] {
        let finished = without_kubeconfig(arguments);
        assert_eq!((finished.code, finished.stdout.as_str()), (1, ""), "{arguments:?}");
        let said = finished.stderr;
        assert!(said.contains(part) && said.contains("(--context)"), "{arguments:?}: {said}");
    }
    let finished = adieu(&["status", "--as-group", "ops"], "");
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.contains("--as <USER>"), "{}", finished.stderr);
}

/// The commands that need a cluster.
const COMMANDS: &[&[&str]] = &[
    &["audit"],
    &["calibrate", "--service", "ClusterIP", "--yes"],
    &["diff", "-f", "-"],
    &["doctor", "--wait", "0"],
    &["explain", "deploy/web"],
    &["revert", "-n", "shop", "--dry-run"],
    &["status"],
    &["verify", "deploy", "web", "--yes", "--url", "http://127.0.0.1:9/"],
];

#[test]
fn an_unreachable_api_server_is_named_once_with_its_cause() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = kubeconfig("unreachable", closed);
    let config = config.to_str().unwrap();
    for arguments in COMMANDS {
        let finished = adieu(&[*arguments, &["--kubeconfig", config]].concat(), WEB);
        assert!(finished.code == 1 || finished.code == 2, "{arguments:?}: {finished:?}");
        let said = finished.stdout + &finished.stderr;
        for part in [&*closed.to_string(), "cannot be reached", "Connection refused"] {
            assert_eq!(said.matches(part).count(), 1, "{arguments:?}: {part:?} in {said}");
        }
    }
}

/// Runs a command whose standard output, or standard error as well, is a pipe without a reader.
fn with_closed_pipes(config: &Path, arguments: &[&str], closes_stderr: bool) -> (i32, String) {
    let closed = || {
        let (_, writer) = pipe().unwrap();
        Stdio::from(writer)
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
    command.env("KUBECONFIG", config).args(arguments).stdin(Stdio::piped()).stdout(closed());
    command.stderr(if closes_stderr { closed() } else { Stdio::piped() });
    let mut child = command.spawn().unwrap();
    // A command that doesn't read standard input may have ended.
    let _ = child.stdin.take().unwrap().write_all(WEB.as_bytes());
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_closed_pipe_changes_neither_the_exit_code_nor_standard_error() {
    let config = kubeconfig("closed-pipe", server(cluster("web")));
    let offline: &[&[&str]] = &[
        &["--help"],
        &["--version"],
        &["audit", "--fail-on", "warning", "-f", "-"],
        &["audit", "--rules"],
        &["crd"],
        &["explain", "-f", "-"],
        &["inject", "-f", "-"],
        &["profiles"],
        &["revert", "-f", "-"],
        &["unknown"],
    ];
    for arguments in offline.iter().chain(COMMANDS) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
        let open = run(command.env("KUBECONFIG", &config).args(*arguments), WEB);
        let (code, said) = with_closed_pipes(&config, arguments, false);
        assert_eq!((code, said), (open.code, open.stderr), "{arguments:?}");
        assert_eq!(with_closed_pipes(&config, arguments, true).0, open.code, "{arguments:?}");
    }
}

#[test]
fn output_has_no_colours_unless_it_is_a_terminal() {
    let is_coloured = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
        command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").envs(variables.iter().copied());
        let text = run(command.args(["explain", "-f", "-"]), WEB).stdout;
        assert!(text.contains("Deployment"), "{text}");
        text.contains('\u{1b}')
    };
    assert!(!is_coloured(&[]));
    assert!(is_coloured(&[("CLICOLOR_FORCE", "1")]), "colours can be forced");
    assert!(!is_coloured(&[("NO_COLOR", "1")]));
}
