//! A container of an audited pod.

use std::path::Path;

use adieu_core::plan::pre_stop_seconds;
use serde_json::{Value, json};

use crate::{
    images,
    shell::{ends_with_loop, only_waits, stays_process_1},
};

/// Parts of the arguments and variables with which a server continues to serve after SIGTERM, in lower case and with
/// hyphens: those of Traefik, of servers with a delayed shutdown, of Agones, Open Policy Agent, Skipper and `haproxy-ingress`,
/// of Cloud SQL's proxy and of Istio's.
const SERVES_AFTER_SIGTERM: [&str; 12] = [
    "requestacceptgracetimeout",
    "shutdown-delay",
    "readiness-shutdown",
    "shutdown-wait",
    "wait-for-healthcheck-interval",
    "wait-before-shutdown",
    "lameduck",
    "lame-duck",
    "max-sigterm-delay",
    "term-timeout",
    "exit-on-zero-active-connections",
    "termination-drain-duration",
];

/// Parts of the images of servers that continue to serve after SIGTERM: CoreDNS, whose usual configuration has a `lameduck`;
/// those of Knative and the webhooks of Tekton for 45 s (`DefaultDrainTimeout` of knative.dev/pkg); Skipper for 45 s
/// (`-wait-for-healthcheck-interval`); Gatekeeper for 10 s (`--shutdown-delay`); podinfo for 3 s; Google's whereami, the
/// server of TensorFlow and that of `PyTorch` until they are killed, because their process 1 doesn't handle the signal.
const SERVERS_AFTER_SIGTERM: [&[&str]; 10] = [
    &["coredns"],
    &["knative.dev/", "/cmd/"],
    &["tektoncd/", "/webhook"],
    &["/skipper"],
    &["openpolicyagent/gatekeeper"],
    &["podinfo"],
    &["google-samples/", "/whereami"],
    &["tensorflow/serving"],
    &["tf-serving"],
    &["torchserve"],
];
/// Parts of the images of telemetry collectors, whose clients send again what was lost.
const COLLECTORS: [&str; 7] = [
    "fluent-bit",
    "fluentd",
    "grafana/alloy",
    "jaeger-collector",
    "opentelemetry-collector",
    "otel-collector",
    "otelcol",
];
/// Servers that accept no connections from SIGTERM on, as programs or as modules of Python. They finish at most the requests
/// that they have. A JVM exits whatever it runs, and so does .NET.
const CLOSE_AFTER_SIGTERM: [&str; 13] = [
    "apache2-foreground",
    "caddy",
    "dotnet",
    "envoy",
    "gunicorn",
    "haproxy",
    "httpd-foreground",
    "java",
    "nginx",
    "php-fpm",
    "puma",
    "traefik",
    "uvicorn",
];
/// Servers that Python runs as modules and that don't handle SIGTERM.
const PYTHON_SERVERS: [&str; 3] = ["flask", "http.server", "SimpleHTTPServer"];
/// The container of Istio's proxy, which drains for 5 s by default (`terminationDrainDuration`): most requests have ended
/// by then.
pub(crate) const ISTIO_PROXY: &str = "istio-proxy";

/// A container, with the path of its fields.
#[derive(Clone, Debug)]
pub(crate) struct Container<'a> {
    pub(crate) value: &'a Value,
    pub(crate) name: &'a str,
    pub(crate) path: String,
}

impl<'a> Container<'a> {
    pub(crate) fn new(value: &'a Value, path: String) -> Self {
        Self { value, name: value["name"].as_str().unwrap_or_default(), path }
    }

    pub(crate) fn path(&self, field: &str) -> String {
        format!("{}.{field}", self.path)
    }

    /// The preStop hook. An empty one is none.
    pub(crate) fn pre_stop(&self) -> Option<&'a Value> {
        let hook = &self.value["lifecycle"]["preStop"];
        hook.as_object().is_some_and(|hook| !hook.is_empty()).then_some(hook)
    }

    /// The duration of the preStop hook, in seconds: 0 if there is none, `None` if it is unknown.
    pub(crate) fn pre_stop_seconds(&self) -> Option<i64> {
        self.pre_stop().map_or(Some(0), pre_stop_seconds)
    }

    /// The words of the preStop hook's command.
    pub(crate) fn pre_stop_command(&self) -> Vec<&'a str> {
        words(&self.value["lifecycle"]["preStop"]["exec"]["command"])
    }

    /// Whether its preStop hook stops the application, so that the container may end before the hook does.
    pub(crate) fn is_stopped_by_hook(&self) -> bool {
        let hook = self.pre_stop_command().join(" ");
        let stops =
            |word: &str| ["kill", "killall", "pkill"].contains(&word.rsplit('/').next().unwrap_or_default());
        hook.contains("nginx -s ") || hook.split([' ', '\n', ';', '&', '|', '(', ')']).any(stops)
    }

    /// The time that its command only waits, in seconds; `None` if it does anything else, or forever.
    pub(crate) fn waiting_seconds(&self) -> Option<i64> {
        pre_stop_seconds(&json!({"exec": {"command": self.command()}})).filter(|seconds| *seconds > 0)
    }

    /// Whether it serves nothing: its command only waits, or it is the container of a pod's sandbox.
    pub(crate) fn is_idle(&self) -> bool {
        let name = self.image().rsplit('/').next().unwrap_or_default();
        let is_sandbox = name.split([':', '@']).next() == Some("pause");
        is_sandbox || only_waits(&self.command()) || self.waiting_seconds().is_some()
    }

    /// Whether it collects telemetry, by its image. Its clients send again what was lost.
    pub(crate) fn is_collector(&self) -> bool {
        COLLECTORS.iter().any(|part| self.image().contains(part))
    }

    /// The handler of a probe; `None` if there is none.
    pub(crate) fn probe(&self, name: &str) -> Option<&'a Value> {
        Some(&self.value[name]).filter(|probe| probe.is_object())
    }

    pub(crate) fn image(&self) -> &'a str {
        self.value["image"].as_str().unwrap_or_default()
    }

    /// The program and its arguments as the manifest gives them. Empty if the image decides.
    pub(crate) fn command(&self) -> Vec<&'a str> {
        let command = words(&self.value["command"]);
        if command.is_empty() { vec![] } else { [command, words(&self.value["args"])].concat() }
    }

    /// Whether it may serve for some time after SIGTERM, by its arguments, variables or image.
    pub(crate) fn may_serve_after_sigterm(&self) -> bool {
        let variables = self.value["env"].as_array().into_iter().flatten();
        let variables = variables.filter(|variable| variable["value"] != "0" && variable["value"] != "0s");
        let variables = variables.filter_map(|variable| variable["name"].as_str());
        let arguments = self.arguments();
        let configures = |text: &str| {
            let text = text.to_ascii_lowercase().replace(['_', '.'], "-");
            let is_off = text.ends_with("=0") || text.ends_with("=0s");
            !is_off && SERVES_AFTER_SIGTERM.iter().any(|part| text.contains(part))
        };
        let is_known = |parts: &&[&str]| parts.iter().all(|part| self.image().contains(part));
        SERVERS_AFTER_SIGTERM.iter().any(is_known) || arguments.into_iter().chain(variables).any(configures)
    }

    /// Whether its process 1 may ignore SIGTERM, so that it serves until it is killed: a shell that doesn't forward the
    /// signal, or an interpreter, which has no handler unless the application sets one. The kernel discards a signal
    /// without a handler for process 1.
    pub(crate) fn may_ignore_sigterm(&self) -> bool {
        let arguments = self.arguments();
        stays_process_1(&arguments, self.image()) || ends_with_loop(&arguments) || is_interpreter(&arguments)
    }

    /// Whether it is known to accept no connections as soon as it is stopped: by its command, or by its image if that decides
    /// which program runs.
    pub(crate) fn closes_when_stopped(&self) -> bool {
        let arguments = self.arguments();
        let has_only_options = arguments.first().is_none_or(|word| word.starts_with('-'));
        let is_of_image = words(&self.value["command"]).is_empty() && has_only_options;
        closes_after_sigterm(&arguments) || is_of_image && images::closes_when_stopped(self.image())
    }

    /// All words of its command and arguments. Without a command, the image may start another program with them.
    fn arguments(&self) -> Vec<&'a str> {
        [words(&self.value["command"]), words(&self.value["args"])].concat()
    }

    /// Whether an injector replaces it when a pod is created, so that its fields are unknown: the proxy of a gateway of
    /// Istio or of AWS App Mesh.
    pub(crate) fn is_placeholder(&self) -> bool {
        ["auto", "controller-override"].contains(&self.image())
    }

    /// Declared host ports, and with `host_network` all declared ports.
    pub(crate) fn host_ports(&self, host_network: bool) -> Vec<i64> {
        let ports = self.value["ports"].as_array().into_iter().flatten();
        let key = if host_network { "containerPort" } else { "hostPort" };
        ports.filter_map(|port| port[key].as_i64().filter(|port| *port > 0)).collect()
    }
}

/// Whether a command runs a server that accepts no connections from SIGTERM on.
fn closes_after_sigterm(command: &[&str]) -> bool {
    let Some((program, arguments)) = command.split_first() else { return false };
    let name = program.rsplit('/').next().unwrap_or_default();
    let module = || arguments.windows(2).find(|pair| pair[0] == "-m").map(|pair| pair[1]);
    let is_python = name.trim_end_matches(|char: char| char.is_ascii_digit() || char == '.') == "python";
    let server = if is_python { module().unwrap_or_default() } else { name };
    CLOSE_AFTER_SIGTERM.contains(&server)
}

/// Whether a command runs an interpreter with an application that handles SIGTERM only if it is written to: Python with a
/// script or a simple server, Node.js, Deno, or the server of PHP.
fn is_interpreter(command: &[&str]) -> bool {
    let Some((program, arguments)) = command.split_first() else { return false };
    let name = program.rsplit('/').next().unwrap_or_default();
    let follows = |option: &str, values: &[&str]| {
        arguments.windows(2).any(|pair| pair[0] == option && values.contains(&pair[1]))
    };
    match name.trim_end_matches(|char: char| char.is_ascii_digit() || char == '.') {
        "python" => {
            let is_script = |word: &&str| Path::new(word).extension().is_some_and(|suffix| suffix == "py");
            follows("-m", &PYTHON_SERVERS) || !arguments.contains(&"-m") && arguments.iter().any(is_script)
        }
        "node" | "nodejs" => arguments.iter().any(|word| !word.starts_with('-')),
        "deno" | "flask" => arguments.contains(&"run"),
        "php" => arguments.contains(&"-S"),
        _ => false,
    }
}

/// The texts of a list.
pub(crate) fn words(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_ignore_sigterm_unless_the_application_handles_it() {
        for (command, expected) in [
            ("python app.py", true),
            ("/usr/bin/python3.13 -u app.py", true),
            ("python3 -m http.server 8080", true),
            ("python3 -m uvicorn app:app", false),
            ("gunicorn app:app", false),
            ("flask run --host=0.0.0.0", true),
            ("node server.js", true),
            ("node --max-old-space-size=512 .", true),
            ("node --version", false),
            ("npm start", false),
            ("deno run main.ts", true),
            ("php -S 0.0.0.0:8080", true),
            ("php-fpm", false),
            ("java -jar app.jar", false),
            ("", false),
        ] {
            let words: Vec<_> = command.split(' ').collect();
            assert_eq!(is_interpreter(&words), expected, "{command}");
        }
        assert!(!is_interpreter(&[]));
    }

    #[test]
    fn servers_that_close_their_port_when_they_are_stopped_are_known_by_command_or_image() {
        for (image, command, args, expected) in [
            ("nginx", json!(null), json!(null), true),
            ("nginx", json!([]), json!([]), true),
            ("nginx", json!(null), json!(["-g", "daemon off;"]), true),
            ("nginx", json!(null), json!(["nginx-debug"]), false),
            ("nginx", json!(["/start"]), json!(null), false),
            ("web", json!(null), json!(null), false),
            ("web", json!(["/usr/sbin/nginx"]), json!(["-g", "daemon off;"]), true),
            ("web", json!(null), json!(["java", "-jar", "app.jar"]), true),
            ("web", json!(["/opt/java/bin/java", "-jar", "app.jar"]), json!(null), true),
            ("web", json!(["python3.13", "-m", "uvicorn", "app:app"]), json!(null), true),
            ("web", json!(["python3", "uvicorn"]), json!(null), false),
            ("busybox", json!(["httpd", "-f"]), json!(null), false),
            ("web", json!(["sh", "-c", "java -jar app.jar"]), json!(null), false),
        ] {
            let value = json!({"name": "web", "image": image, "command": command, "args": args});
            assert_eq!(Container::new(&value, String::new()).closes_when_stopped(), expected, "{value}");
        }
    }

    #[test]
    fn idle_containers_are_known_by_command_or_image() {
        for (image, command, expected) in [
            ("busybox", json!(["sleep", "3600"]), true),
            ("busybox", json!(["sleep", "infinity"]), true),
            ("busybox", json!(["sh", "-c", "echo started; sleep 600"]), true),
            ("busybox", json!(["sh", "-c", "sleep 5; exec httpd -f"]), false),
            ("busybox", json!(["httpd", "-f"]), false),
            ("registry.k8s.io/pause:3.10", json!(null), true),
            ("localhost:5000/pause@sha256:0a", json!(null), true),
            ("registry.example/pause-api:1", json!(null), false),
            ("nginx", json!(null), false),
        ] {
            let value = json!({"name": "web", "image": image, "command": command});
            assert_eq!(Container::new(&value, String::new()).is_idle(), expected, "{value}");
        }
    }
}
