//! `adieu audit -f`.

use std::path::Path;

use quick_junit::Report;
use serde_json::Value;

use crate::support::{adieu, succeed};

/// A Deployment that loses requests.
pub(super) const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: nginx
        ports: [{containerPort: 8080}]
        readinessProbe: {tcpSocket: {port: 8080}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}
";

fn findings(arguments: &[&str], input: &str) -> Vec<Value> {
    let all = [&["audit", "-f", "-", "-o", "json"], arguments].concat();
    let report: Value = serde_json::from_str(&succeed(&all, input).0).unwrap();
    report["findings"].as_array().unwrap().clone()
}

pub(super) fn rules(findings: &[Value]) -> Vec<&str> {
    findings.iter().map(|finding| finding["rule"].as_str().unwrap()).collect()
}

/// An example of a page.
struct Example<'a> {
    /// What its heading says of it, such as `not reported`.
    outcome: &'a str,
    /// The arguments in its heading.
    arguments: Vec<&'a str>,
    manifests: &'a str,
}

fn examples(page: &str) -> Vec<Example<'_>> {
    let sections = page.split("## Example that is ").skip(1);
    sections
        .map(|section| {
            let (heading, text) = section.split_once('\n').unwrap();
            let (outcome, arguments) = heading.split_once(" (`").unwrap_or((heading, ""));
            Example {
                outcome,
                arguments: arguments.trim_end_matches("`)").split_whitespace().collect(),
                manifests: text.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap(),
            }
        })
        .collect()
}

/// The severities that a page's paragraph about them gives, and those with which its examples are reported.
fn severities(page: &str, name: &str) -> [Vec<String>; 2] {
    let paragraph = page.lines().find_map(|line| line.strip_prefix("**Severity**: ")).unwrap().to_lowercase();
    let given = ["error", "warning"].into_iter().filter(|severity| paragraph.contains(*severity));
    let mut reported = Vec::new();
    let examples = examples(page);
    // The arguments of the first example are those of all.
    let arguments = &examples[0].arguments;
    for Example { outcome, manifests, .. } in &examples {
        let found = findings(arguments, manifests);
        let of_rule = found.iter().find(|finding| finding["rule"] == name);
        match of_rule.map(|finding| finding["severity"].as_str().unwrap()) {
            None if *outcome == "not reported" => {}
            Some(severity) if *outcome == "reported" || outcome.ends_with(&format!(" {severity}")) => {
                reported.push(severity.to_owned());
            }
            severity => panic!("{name}: the example that is {outcome} has the severity {severity:?}"),
        }
    }
    [given.map(str::to_owned).collect(), reported]
}

#[test]
fn every_rule_has_a_page_with_its_severities_and_examples() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules");
    let listed = succeed(&["audit", "--rules"], "").0;
    let names: Vec<_> = listed.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names.len(), pages.read_dir().unwrap().count());
    for name in names {
        let page = std::fs::read_to_string(pages.join(format!("{name}.md"))).unwrap();
        assert_eq!(examples(&page).last().unwrap().outcome, "not reported", "{name}");
        let [given, reported] = severities(&page, name);
        assert_eq!(reported, given, "{name}");
    }
}

#[test]
fn a_finding_has_rule_severity_object_path_message_and_remedy() {
    let found = findings(&[], WEB);
    assert_eq!(rules(&found), ["no-prestop-behind-service"]);
    for (field, expected) in [
        ("severity", "error"),
        ("kind", "Deployment"),
        ("namespace", "default"),
        ("name", "web"),
        ("container", "web"),
        ("path", "spec.template.spec.containers[0].lifecycle.preStop"),
    ] {
        assert_eq!(found[0][field], expected, "{field}");
    }
    assert!(found[0]["message"].as_str().unwrap().contains("Service web routes traffic to port 8080"));
    assert!(found[0]["remedy"].as_str().unwrap().contains("adieu.dev/graceful"));
    let report: Value = serde_json::from_str(&succeed(&["audit", "-f", "-", "-o", "json"], WEB).0).unwrap();
    let expected =
        serde_json::json!({"workloads": 1, "with_findings": 1, "errors": 1, "warnings": 0, "suppressed": 0});
    assert_eq!(report["summary"], expected);
}

#[test]
fn an_opted_in_workload_is_audited_as_adieu_injects_it() {
    let annotated =
        WEB.replacen("  name: web\n", "  name: web\n  annotations: {adieu.dev/graceful: \"true\"}\n", 1);
    assert!(findings(&[], &annotated).is_empty());
    let policy = "---\napiVersion: adieu.dev/v1alpha1\nkind: GracefulPolicy\nmetadata: {name: all}\nspec: {selector: {}}\n";
    assert!(findings(&[], &format!("{WEB}{policy}")).is_empty());
    let audit = policy.replace("selector: {}", "selector: {}, mode: Audit");
    assert_eq!(findings(&[], &format!("{WEB}{audit}")).len(), 1, "nothing is injected");
}

#[test]
fn an_annotation_suppresses_a_rule_with_a_reason() {
    let ignoring = |text: &str| {
        let annotation = format!("  name: web\n  annotations: {{adieu.dev/audit-ignore: \"{text}\"}}\n");
        WEB.replacen("  name: web\n", &annotation, 1)
    };
    let ignored = succeed(&["audit", "-f", "-"], &ignoring("no-prestop-behind-service: it drains itself"));
    assert_eq!(ignored.0, "1 workload audited, 0 with findings: 0 errors, 0 warnings, 1 suppressed\n");
    assert_eq!(ignored.1, "");
    for (text, warning) in [
        ("no-prestop-behind-service", "no-prestop-behind-service has no reason"),
        ("no-such-rule: because", "\"no-such-rule\" is not a rule"),
    ] {
        let (stdout, stderr) = succeed(&["audit", "-f", "-"], &ignoring(text));
        assert!(stdout.contains("1 error"), "{stdout}");
        assert!(stderr.contains(warning), "{stderr}");
    }
    assert_eq!(
        succeed(&["inject", "-f", "-"], &ignoring("no-pdb: one is enough")).1,
        "adieu: 0 injected, 1 unchanged, 0 skipped\n"
    );
}

#[test]
fn the_exit_code_follows_the_severity_to_fail_on() {
    let warns = format!("{WEB}---\n").replace(
        "        readinessProbe: {tcpSocket: {port: 8080}}\n",
        "        lifecycle: {preStop: {sleep: {seconds: 10}}}\n",
    );
    for (input, fail_on, code) in [
        (WEB, None, 0),
        (WEB, Some("error"), 1),
        (WEB, Some("warning"), 1),
        (&warns, Some("error"), 0),
        (&warns, Some("warning"), 1),
        ("kind: [", Some("error"), 2),
    ] {
        let mut arguments = vec!["audit", "-f", "-"];
        arguments.extend(fail_on.iter().flat_map(|severity| ["--fail-on", severity]));
        let finished = adieu(&arguments, input);
        assert_eq!(finished.code, code, "{fail_on:?}: {}{}", finished.stdout, finished.stderr);
    }
    assert_eq!(adieu(&["audit", "-f", "-", "--limits", "gke=60"], WEB).code, 2);
}

#[test]
fn sarif_has_rules_levels_and_lines() {
    let sarif: Value = serde_json::from_str(&succeed(&["audit", "-f", "-", "-o", "sarif"], WEB).0).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    let result = &run["results"][0];
    assert_eq!((&result["ruleId"], &result["level"]), (&"no-prestop-behind-service".into(), &"error".into()));
    let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
    assert_eq!(run["tool"]["driver"]["rules"][index]["id"], result["ruleId"]);
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(
        (&place["artifactLocation"]["uri"], &place["region"]["startLine"]),
        (&"stdin".into(), &12.into())
    );
}

#[test]
fn junit_has_a_failed_case_for_each_finding() {
    let text = succeed(&["audit", "-f", "-", "-o", "junit"], WEB).0;
    let report = Report::deserialize_from_str(&text).unwrap();
    let suite = &report.test_suites[0];
    assert_eq!((suite.name.as_str(), suite.errors), ("default", 1));
    assert_eq!(suite.test_cases[0].name.as_str(), "no-prestop-behind-service");
    assert_eq!(suite.test_cases[0].classname.as_ref().unwrap().as_str(), "Deployment/web");
}

#[test]
fn the_manifests_of_the_tests_have_the_expected_findings() {
    let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests");
    let text = succeed(&["audit", "-f", manifests, "-R", "-o", "json"], "").0;
    let report: Value = serde_json::from_str(&text).unwrap();
    let line = |finding: &Value| {
        let field = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        let object = format!("{}/{}", field("namespace"), field("name"));
        let line = [field("severity"), field("rule"), field("kind"), object, field("container")].join(" ");
        line.trim_end().to_owned()
    };
    let found: Vec<_> = report["findings"].as_array().unwrap().iter().map(line).collect();
    let expected: Vec<_> = include_str!("audit_findings.txt").lines().collect();
    assert_eq!(found, expected);
}

#[test]
fn control_characters_of_manifests_do_not_reach_the_terminal() {
    let forged = "\\e[2J\\nadieu: all is well";
    let input = WEB.replacen("image: nginx\n", &format!("image: \"gcr.io/distroless/web{forged}\"\n        lifecycle: {{preStop: {{exec: {{command: [sleep]}}}}}}\n"), 1);
    let (stdout, _) = succeed(&["audit", "-f", "-"], &input);
    assert!(stdout.contains("which gcr.io/distroless/web"), "{stdout}");
    assert!(!stdout.contains('\u{1b}') && !stdout.contains("\nadieu: all is well"), "{stdout}");
}

#[test]
fn objects_of_other_namespaces_lead_to_a_service() {
    let route = "\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec: {parentRefs: [{name: public, namespace: edge}], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public, namespace: edge}
spec: {gatewayClassName: of-aws}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: of-aws}
spec: {controllerName: gateway.k8s.aws/alb}
---
apiVersion: gateway.k8s.aws/v1beta1
kind: TargetGroupConfiguration
metadata: {name: web}
spec:
  targetReference: {name: web}
  defaultConfiguration:
    targetType: ip
    targetGroupAttributes: [{key: deregistration_delay.timeout_seconds, value: \"45\"}]
";
    let hook = WEB.replacen(
        "        readinessProbe:",
        "        lifecycle: {preStop: {sleep: {seconds: 10}}}\n        readinessProbe:",
        1,
    );
    for (namespace, expected) in [("edge", vec!["drain-shorter-than-lb"]), ("other", vec![])] {
        let route = route.replacen("namespace: edge}],", &format!("namespace: {namespace}}}],"), 1);
        assert_eq!(rules(&findings(&[], &format!("{hook}{route}"))), expected, "{namespace}");
    }
}
