//! Checks the chart's rendered objects: the fields that values set, and references between objects.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::chart::objects;
use crate::command;
use crate::progress::Step;
use crate::workspace::Workspace;

/// An object, the path of a field, and its value; `null` if it is absent.
pub type Field = (&'static str, &'static str, Value);

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Values, and the fields that they set.
fn cases() -> Vec<(Vec<String>, Vec<Field>)> {
    let image = concat!("ghcr.io/adieu-dev/adieu:", env!("CARGO_PKG_VERSION"));
    let pinned = json!(format!("{image}@{DIGEST}"));
    // A field of both pods: the operator's, and that of `helm test`.
    let pods = |value: &str, field: &'static str, found: Value| {
        let set = format!("{value}={found}");
        (vec![set], vec![("Deployment/pod", field, found.clone()), ("Pod/pod", field, found)])
    };
    let is = |sets: &[&str], fields: Vec<Field>| (sets.iter().map(|set| (*set).to_owned()).collect(), fields);
    vec![
        is(&[], defaults(image)),
        is(
            &["crds.keep=false"],
            vec![
                ("CustomResourceDefinition", "/spec/group", json!("adieu.dev")),
                ("CustomResourceDefinition", "/metadata/annotations", Value::Null),
            ],
        ),
        is(&["crds.enabled=false"], vec![("CustomResourceDefinition", "", Value::Null)]),
        is(
            &["webhook.hostNetwork=true"],
            vec![
                ("Deployment/pod", "/hostNetwork", json!(true)),
                ("Deployment/pod", "/dnsPolicy", json!("ClusterFirstWithHostNet")),
                ("Deployment", "/spec/strategy/rollingUpdate", json!({"maxUnavailable": 1, "maxSurge": 0})),
                ("Pod/pod", "/hostNetwork", Value::Null),
            ],
        ),
        is(
            &[&format!("image.digest={DIGEST:?}")],
            vec![
                ("Deployment/container", "/image", pinned.clone()),
                ("Pod/container", "/image", pinned.clone()),
            ],
        ),
        is(
            &["revertOnUninstall={\"enabled\":true,\"maxConcurrent\":2}"],
            vec![
                ("Job", "/metadata/annotations/helm.sh~1hook", json!("pre-delete")),
                ("Job", "/spec/backoffLimit", json!(0)),
                ("Job/pod", "/serviceAccountName", json!("release-adieu")),
                ("Job/pod", "/restartPolicy", json!("Never")),
                ("Job/container", "/image", json!(image)),
                ("Job/container", "/args/3", json!("--max-concurrent=2")),
                ("Job/container", "/args/4", json!("--timeout=10m")),
                // Otherwise the Service would select it.
                ("Job", "/spec/template/metadata/labels/app.kubernetes.io~1name", json!("adieu-revert")),
            ],
        ),
        is(&["replicaCount=1"], vec![("PodDisruptionBudget", "", Value::Null)]),
        is(&["podDisruptionBudget.enabled=false"], vec![("PodDisruptionBudget", "", Value::Null)]),
        pods("tolerations", "/tolerations", json!([{"key": "dedicated", "operator": "Exists"}])),
        pods("affinity", "/affinity", json!({"nodeAffinity": {}})),
        pods("nodeSelector", "/nodeSelector", json!({"pool": "system"})),
        pods("priorityClassName", "/priorityClassName", json!("system-cluster-critical")),
        pods("imagePullSecrets", "/imagePullSecrets", json!([{"name": "registry"}])),
    ]
}

/// The fields with the chart's defaults.
fn defaults(image: &str) -> Vec<Field> {
    vec![
        ("Deployment/container", "/image", json!(image)),
        ("Deployment", "/spec/strategy/rollingUpdate", json!({"maxUnavailable": 0, "maxSurge": 1})),
        ("Deployment/pod", "/hostNetwork", Value::Null),
        ("Deployment/pod", "/topologySpreadConstraints/0/whenUnsatisfiable", json!("ScheduleAnyway")),
        ("PodDisruptionBudget", "/spec/maxUnavailable", json!(1)),
        ("NetworkPolicy", "", Value::Null),
        ("ServiceMonitor", "", Value::Null),
        ("PrometheusRule", "", Value::Null),
        ("ConfigMap", "", Value::Null),
        ("Job", "", Value::Null),
        ("CustomResourceDefinition", "/metadata/annotations/helm.sh~1resource-policy", json!("keep")),
    ]
}

/// Values with which references are checked: none, the optional ones, and ci/every-value.yaml.
const REFERENCE_VALUES: [&[&str]; 3] = [
    &[],
    &[
        "--set=networkPolicy.enabled=true,metrics.serviceMonitor.enabled=true,certificates.certManager.enabled=true",
        "--set=metrics.prometheusRule.enabled=true,metrics.dashboard.enabled=true,commonLabels.team=platform",
        "--set=webhook.port=9443,admin.port=9090",
    ],
    &["--values=charts/adieu/ci/every-value.yaml"],
];

/// Checks the objects. An error names the values and the object.
pub fn check(workspace: &Workspace) -> Result<()> {
    let step = Step::start("checking the chart's objects");
    for fails in [false, true] {
        let set = format!("--set=webhook.failurePolicy={}", if fails { "Fail" } else { "Ignore" });
        let objects = objects(workspace, &[&set, "--set=webhook.timeoutSeconds=3"])?;
        selection(&objects, fails).with_context(|| set.clone())?;
    }
    for (sets, fields) in cases() {
        let sets: Vec<_> = sets.iter().map(|set| format!("--set-json={set}")).collect();
        let sets: Vec<_> = sets.iter().map(String::as_str).collect();
        let objects = objects(workspace, &sets)?;
        fields.iter().try_for_each(|field| has(&objects, field)).with_context(|| sets.join(" "))?;
    }
    let mut secrets = Vec::new();
    for values in REFERENCE_VALUES {
        let objects = objects(workspace, values)?;
        let label = (!values.is_empty()).then_some(("team", "platform"));
        let outcome = ports(&objects).and(labels(&objects, label)).and(certificates(&objects));
        let secret = outcome.with_context(|| format!("with {}", values.join(" ")))?;
        // adieu writes the first, which is part of the chart; cert-manager writes the second.
        ensure!(!secrets.contains(&secret), "adieu and cert-manager both write the Secret {secret}");
        secrets.push(secret);
    }
    pods(workspace)?;
    notes(workspace)?;
    step.done();
    Ok(())
}

/// Checks the selectors and conditions of webhooks and policies. Every expression costs a conversion of the object,
/// also for workloads that are not opted in, unless a selector excludes them.
fn selection(objects: &[Value], fails: bool) -> Result<()> {
    let webhooks = &part(objects, "MutatingWebhookConfiguration")["webhooks"];
    let under_fail: &[&str] = if fails { &["not-being-deleted"] } else { &[] };
    for (name, conditions, selector, timeout) in [
        ("annotated.adieu.dev", &["carries-an-adieu-annotation"][..], Value::Null, 3),
        ("labelled.adieu.dev", under_fail, Value::Null, 3),
        ("injected.pods.adieu.dev", &[], json!({"matchLabels": {"adieu.dev/injection": "enabled"}}), 2),
        ("labelled.pods.adieu.dev", &[], Value::Null, 2),
    ] {
        let found = webhooks.as_array().into_iter().flatten().find(|webhook| webhook["name"] == name);
        let found = found.with_context(|| format!("there is no webhook {name}"))?;
        let names: Vec<_> = each(&found["matchConditions"], "name").filter_map(Value::as_str).collect();
        ensure!(names == conditions, "{name} has the conditions {names:?}, not {conditions:?}");
        ensure!(found["objectSelector"] == selector, "{name} selects {}", found["objectSelector"]);
        ensure!(found["timeoutSeconds"] == timeout, "{name} has a timeout of {} s", found["timeoutSeconds"]);
    }
    // Only one policy applies to workloads without adieu's label, and only to updates.
    let policies = objects.iter().filter(|object| object["kind"] == "ValidatingAdmissionPolicy");
    let unselected: Vec<_> = policies
        .map(|policy| (&policy["metadata"]["name"], &policy["spec"]["matchConstraints"]))
        .filter(|(_, constraints)| constraints["objectSelector"].is_null())
        .flat_map(|(name, constraints)| each_of(&constraints["resourceRules"]).map(move |rule| (name, rule)))
        .filter(|(_, rule)| each_text(&rule["resources"]).any(|of| of == "deployments"))
        .collect();
    let [(name, rule)] = unselected.as_slice() else { bail!("policies for every workload: {unselected:?}") };
    ensure!(rule["operations"] == json!(["UPDATE"]), "{name} is for {}", rule["operations"]);
    Ok(())
}

fn each_of(array: &Value) -> impl Iterator<Item = &Value> {
    array.as_array().into_iter().flatten()
}

/// The first object of a kind, its pod, or the pod's first container; `null` if there is none.
pub fn part<'a>(objects: &'a [Value], what: &str) -> &'a Value {
    let (kind, part) = what.split_once('/').unwrap_or((what, ""));
    let object = objects.iter().find(|object| object["kind"] == kind).unwrap_or(&Value::Null);
    let pod = if kind == "Pod" { &object["spec"] } else { &object["spec"]["template"]["spec"] };
    match part {
        "pod" => pod,
        "container" => &pod["containers"][0],
        _ => object,
    }
}

/// The object with this kind and name; `null` if there is none.
fn named<'a>(objects: &'a [Value], kind: &str, name: &Value) -> &'a Value {
    let mut of_kind = objects.iter().filter(|object| object["kind"] == kind);
    of_kind.find(|object| object["metadata"]["name"] == *name).unwrap_or(&Value::Null)
}

pub fn has(objects: &[Value], (what, field, expected): &Field) -> Result<()> {
    let found = part(objects, what).pointer(field).unwrap_or(&Value::Null);
    ensure!(found == expected, "{what}{field} is {found}, not {expected}");
    Ok(())
}

/// The field of each item of an array.
fn each<'a>(array: &'a Value, field: &'a str) -> impl Iterator<Item = &'a Value> {
    array.as_array().into_iter().flatten().map(move |item| &item[field])
}

/// Checks that every reference to a port names an existing one.
fn ports(objects: &[Value]) -> Result<()> {
    let (container, service) = (part(objects, "Deployment/container"), part(objects, "Service"));
    let open: Vec<_> = each(&container["ports"], "name").collect();
    let offered: Vec<_> = each(&service["spec"]["ports"], "name").collect();
    let monitored = &part(objects, "ServiceMonitor")["spec"]["endpoints"];
    let allowed = &part(objects, "NetworkPolicy")["spec"]["ingress"][0]["ports"];
    let probes = ["readinessProbe", "livenessProbe"].map(|probe| &container[probe]["httpGet"]["port"]);
    ensure!(
        open.len() == 2 && offered.len() == 2,
        "the container's ports are {open:?}, the Service's {offered:?}"
    );
    for (referrer, port, existing) in each(&service["spec"]["ports"], "targetPort")
        .map(|port| ("the Service", port, &open))
        .chain(each(allowed, "port").map(|port| ("the NetworkPolicy", port, &open)))
        .chain(probes.map(|port| ("a probe", port, &open)))
        .chain(each(monitored, "port").map(|port| ("the ServiceMonitor", port, &offered)))
    {
        ensure!(existing.contains(&port), "{referrer} names the port {port}, not one of {existing:?}");
    }
    ensure!(
        allowed.is_null() || each(allowed, "port").count() == open.len(),
        "the NetworkPolicy does not allow every port"
    );
    for (name, option) in [("webhook", "--webhook-address"), ("admin", "--admin-address")] {
        let port = container["ports"].as_array().into_iter().flatten().find(|port| port["name"] == name);
        let port = port.map_or(&Value::Null, |port| &port["containerPort"]);
        argument(objects, &format!("{option}=[::]:{port}"))?;
    }
    for webhook in each(&part(objects, "MutatingWebhookConfiguration")["webhooks"], "clientConfig") {
        let called = &webhook["service"];
        ensure!(
            called["name"] == service["metadata"]["name"]
                && each(&service["spec"]["ports"], "port").any(|port| *port == called["port"]),
            "a webhook calls {called}"
        );
    }
    Ok(())
}

fn argument(objects: &[Value], argument: &str) -> Result<()> {
    let all = &part(objects, "Deployment/container")["args"];
    ensure!(
        all.as_array().is_some_and(|all| all.contains(&json!(argument))),
        "{argument} is not one of {all}"
    );
    Ok(())
}

/// Checks that every object has the labels of the release, and the common label.
fn labels(objects: &[Value], common: Option<(&str, &str)>) -> Result<()> {
    for object in objects {
        let labels = &object["metadata"]["labels"];
        let is = |(key, value): (&str, &str)| labels[key] == value;
        ensure!(
            is(("app.kubernetes.io/instance", "release")) && common.is_none_or(is),
            "{} {} has the labels {labels}",
            object["kind"],
            object["metadata"]["name"]
        );
    }
    Ok(())
}

/// Checks that either adieu or cert-manager creates the certificates. Returns their Secret.
fn certificates(objects: &[Value]) -> Result<String> {
    let webhooks = part(objects, "MutatingWebhookConfiguration");
    let injected = &webhooks["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
    let (namespace, name) = injected.as_str().and_then(|text| text.split_once('/')).unwrap_or_default();
    let is_external = !part(objects, "Certificate").is_null();
    let certificate = named(objects, "Certificate", &json!(name));
    let secret = if is_external {
        &certificate["spec"]["secretName"]
    } else {
        &part(objects, "Secret")["metadata"]["name"]
    };
    let secret = secret.as_str().context("there is no Secret for the certificates")?;
    argument(objects, &format!("--certificate-secret={secret}"))?;
    ensure!(
        rules(objects, "secrets").any(|rule| rule["resourceNames"] == json!([secret])),
        "adieu may not read the Secret {secret}"
    );
    let mut verbs: Vec<_> = rules(objects, "secrets").flat_map(|rule| each_text(&rule["verbs"])).collect();
    verbs.sort_unstable();
    if !is_external {
        ensure!(injected.is_null(), "the caBundle is injected by cert-manager, which is not enabled");
        ensure!(verbs == ["create", "get", "list", "update", "watch"], "of Secrets adieu may {verbs:?}");
        ensure!(
            argument(objects, "--certificates=external").is_err(),
            "adieu is configured not to create certificates"
        );
        return Ok(secret.to_owned());
    }
    argument(objects, "--certificates=external")?;
    ensure!(part(objects, "Secret").is_null(), "the chart and cert-manager both create the Secret");
    ensure!(verbs == ["get", "list", "watch"], "of Secrets adieu may {verbs:?}");
    ensure!(certificate["metadata"]["namespace"] == namespace, "the caBundle is injected from {injected}");
    let service = &webhooks["webhooks"][0]["clientConfig"]["service"];
    let host = |field: &str| service[field].as_str().unwrap_or_default();
    let host = format!("{}.{}.svc", host("name"), host("namespace"));
    let spec = &certificate["spec"];
    ensure!(spec["dnsNames"] == json!([host]), "the certificate is for {}, not {host}", spec["dnsNames"]);
    ensure!(spec["privateKey"]["encoding"] == "PKCS8", "adieu cannot read a key of {}", spec["privateKey"]);
    let usages: Vec<_> = each_text(&spec["usages"]).collect();
    ensure!(
        usages.contains(&"server auth"),
        "the certificate has the usages {usages:?}, without server auth"
    );
    signer(objects, &spec["issuerRef"])?;
    Ok(secret.to_owned())
}

/// Checks that the certificate is signed by an external issuer, or by a CA of the chart that outlives it.
fn signer(objects: &[Value], reference: &Value) -> Result<()> {
    let issuer = named(objects, "Issuer", &reference["name"]);
    if reference["kind"] != "Issuer" {
        let ours = part(objects, "Issuer");
        ensure!(ours.is_null(), "{reference} is the issuer, but the chart has {ours}");
        return Ok(());
    }
    let ca = &issuer["spec"]["ca"]["secretName"];
    ensure!(ca.is_string(), "{reference} must be a CA issuer, not {issuer}");
    let certificates = objects.iter().filter(|object| object["kind"] == "Certificate");
    let mut makers = certificates.map(|object| &object["spec"]).filter(|spec| spec["secretName"] == *ca);
    let made = makers.next().with_context(|| format!("no certificate creates the CA {ca}"))?;
    ensure!(makers.next().is_none(), "several certificates write the CA {ca}");
    ensure!(made["isCA"] == true, "{ca} is not a CA: {made}");
    // Issued certificates contain the name; cert-manager allows 64 characters.
    let name = made["commonName"].as_str().unwrap_or_default();
    ensure!((1..=64).contains(&name.len()), "{ca} has an invalid name: {name:?}");
    // Longer than the default validity of cert-manager's certificates: 90 days.
    let left: Option<u32> =
        made["renewBefore"].as_str().and_then(|text| text.strip_suffix('h')?.parse().ok());
    ensure!(left.is_some_and(|hours| hours > 90 * 24), "certificates outlive {ca}: {made}");
    let kept = &made["privateKey"]["rotationPolicy"];
    ensure!(kept == "Never", "{ca} rotates its key, which clients do not trust yet: {kept}");
    let root = named(objects, "Issuer", &made["issuerRef"]["name"]);
    ensure!(root["spec"]["selfSigned"].is_object(), "{} signs the CA, but is {root}", made["issuerRef"]);
    Ok(())
}

/// The rules of the Roles about a resource.
pub fn rules<'a>(objects: &'a [Value], resource: &'a str) -> impl Iterator<Item = &'a Value> {
    let roles = objects.iter().filter(|object| object["kind"] == "Role" || object["kind"] == "ClusterRole");
    let rules = roles.flat_map(|role| role["rules"].as_array().into_iter().flatten());
    rules.filter(move |rule| each_text(&rule["resources"]).any(|of| of == resource || of == "*"))
}

/// Pods are only read, by the observer and by the Job that reverts all workloads before `helm uninstall`.
fn pods(workspace: &Workspace) -> Result<()> {
    let (off, revert) = ("--set=observer.scope=Off", "--set=revertOnUninstall.enabled=true");
    let read = json!(["list", "watch"]);
    for (values, expected) in
        [(&[][..], vec![read]), (&[off], vec![]), (&[off, revert], vec![json!(["list"])])]
    {
        let objects = objects(workspace, values)?;
        let verbs: Vec<_> = rules(&objects, "pods").map(|rule| rule["verbs"].clone()).collect();
        ensure!(verbs == expected, "verbs for pods with {values:?}: {verbs:?}, expected {expected:?}");
    }
    Ok(())
}

pub fn each_text(array: &Value) -> impl Iterator<Item = &str> {
    array.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Checks the notes: their commands must name this release, and their policy must be one. `helm template` doesn't
/// render notes, and `helm install` needs a cluster, so a copy of the chart includes them in a manifest.
fn notes(workspace: &Workspace) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let mut copy = Command::new("cp");
    command::output(copy.arg("-r").arg(workspace.root().join("charts/adieu")).arg(folder.path()))?;
    let chart = folder.path().join("adieu");
    let manifest = "notes: {{ include (print .Template.BasePath \"/NOTES.txt\") . | toJson }}\n";
    fs::write(chart.join("templates/notes.yaml"), manifest).context("cannot write a template")?;
    let mut helm = Command::new(workspace.bin().join("helm"));
    helm.args(["template", "release", "--namespace", "somewhere", "--show-only", "templates/notes.yaml"]);
    let shown: Value = serde_saphyr::from_str(&command::output(helm.arg(&chart))?)?;
    let notes = shown["notes"].as_str().context("there are no notes")?;
    ensure!(
        notes.contains("helm test release --namespace somewhere\n"),
        "the notes do not name the test: {notes}"
    );
    let policy = notes.split_once("<<END\n").and_then(|(_, rest)| rest.split_once("  END\n"));
    let (policy, _) = policy.with_context(|| format!("the notes have no policy: {notes}"))?;
    let policy: Value = serde_saphyr::from_str(policy).context("the policy in the notes is not YAML")?;
    ensure!(policy["kind"] == "GracefulPolicy", "the notes have another policy: {policy}");
    Ok(())
}

#[cfg(test)]
#[path = "objects_tests.rs"]
mod tests;
