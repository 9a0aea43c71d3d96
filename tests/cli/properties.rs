//! Properties of every stream of manifests.

use adieu::{
    manifests::Manifests,
    plan::{self, Admission, NamespaceContext, Workload},
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::support::{documents, succeed};

/// Strings that YAML 1.1 parses as other types unless they are quoted, and plain ones.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "yes",
            "on",
            "n",
            "012",
            "0o7",
            "1_000",
            "1e3",
            "~",
            "null",
            "2001-01-01",
            "0x1F",
            "1:30",
            ".inf",
            "",
            "it's",
            "{\"a\":1}",
            "a: b",
            "# no",
            " a",
            "- a",
            "two\nlines\n",
            "\t",
        ])
        .prop_map(str::to_owned),
        "[a-z]{1,8}",
    ]
}

/// Absent, null, an empty map, or a map with content.
fn map(inside: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<Value>> {
    prop_oneof![Just(None), Just(Some(Value::Null)), Just(Some(json!({}))), inside.prop_map(Some),].boxed()
}

fn object(fields: Vec<(&'static str, Option<Value>)>) -> Value {
    let fields = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn container(name: &'static str) -> impl Strategy<Value = Value> {
    let lifecycle = map(prop_oneof![
        Just(json!({"preStop": {"exec": {"command": ["sleep", "5"]}}})),
        Just(json!({"preStop": null})),
        Just(json!({"postStart": {"sleep": {"seconds": 1}}})),
    ]);
    let ports = prop::option::of(Just(json!([{"containerPort": 8080, "name": "http"}])));
    (lifecycle, ports, text(), any::<bool>()).prop_map(move |(lifecycle, ports, text, last)| {
        let env = Some(json!([{"name": "A", "value": text}]));
        let (first, then) = if last { (None, lifecycle) } else { (lifecycle, None) };
        object(vec![
            ("lifecycle", first),
            ("name", Some(json!(name))),
            ("ports", ports),
            ("env", env),
            ("lifecycle", then),
        ])
    })
}

fn deployment() -> impl Strategy<Value = Value> {
    let annotations = || map(text().prop_map(|text| json!({"note": text})));
    let metadata = annotations().prop_map(|annotations| {
        object(vec![("labels", Some(json!({"app": "web"}))), ("annotations", annotations)])
    });
    let grace =
        prop::option::of(prop_oneof![Just(Value::Null), Just(json!(0)), Just(json!(30)), Just(json!(300))]);
    let containers = (container("a"), prop::option::of(container("b"))).prop_map(|(a, b)| {
        Value::Array([Some(a), b, Some(json!({"name": "c"}))].into_iter().flatten().collect())
    });
    (map(metadata), grace, containers, annotations()).prop_map(|(metadata, grace, containers, annotations)| {
        let spec = object(vec![("containers", Some(containers)), ("terminationGracePeriodSeconds", grace)]);
        let template = object(vec![("metadata", metadata), ("spec", Some(spec))]);
        let metadata = object(vec![("name", Some(json!("web"))), ("annotations", annotations)]);
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"template": template}})
    })
}

/// The style of a document.
#[derive(Clone, Copy, Debug)]
enum Style {
    Block,
    Commented,
    Flow,
    OtherLineEnds,
    WithoutLastLineEnd,
}

fn style() -> impl Strategy<Value = Style> {
    prop::sample::select(vec![
        Style::Block,
        Style::Commented,
        Style::Flow,
        Style::OtherLineEnds,
        Style::WithoutLastLineEnd,
    ])
}

fn written(value: &Value, style: Style) -> String {
    let block = serde_saphyr::to_string(value).unwrap();
    match style {
        Style::Block => block,
        Style::Commented => {
            // A comment within a block scalar would be its text.
            let literal = block.contains('|');
            let comment =
                |line: &str| if literal { format!("{line}\n") } else { format!("{line} # c\n  # d\n") };
            block.lines().map(comment).collect()
        }
        Style::Flow => format!("{}\n", serde_json::to_string(value).unwrap()),
        Style::OtherLineEnds => block.replace('\n', "\r\n"),
        Style::WithoutLastLineEnd => block.trim_end_matches('\n').to_owned(),
    }
}

/// Documents, each with a marker before it.
fn stream(documents: &[(Value, Style)]) -> String {
    let mut stream = String::new();
    for (value, style) in documents {
        if !stream.is_empty() && !stream.ends_with('\n') {
            stream.push('\n');
        }
        stream.push_str("---\n");
        stream.push_str(&written(value, *style));
    }
    stream
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn reverting_restores_the_input(
        workloads in prop::collection::vec((deployment(), style()), 1..12),
    ) {
        let input = stream(&workloads);
        let before = documents(&input);
        let injected = succeed(&["inject", "--all", "-f", "-"], &input).0;
        for (document, (value, _)) in documents(&injected).iter().zip(&workloads) {
            prop_assert_ne!(document, value, "nothing was injected");
        }
        prop_assert_eq!(&succeed(&["inject", "-f", "-"], &injected).0, &injected);
        let reverted = succeed(&["revert", "-f", "-"], &injected).0;
        prop_assert_eq!(documents(&reverted), before);
    }

    #[test]
    fn workloads_without_opt_in_stay_unchanged(
        workloads in prop::collection::vec((deployment(), style()), 1..12),
    ) {
        let input = stream(&workloads);
        prop_assert_eq!(&succeed(&["inject", "-f", "-"], &input).0, &input);
        prop_assert_eq!(&succeed(&["revert", "-f", "-"], &input).0, &input);
    }
}

/// Styles of the parts of a workload, with comments and blank lines.
mod parts {
    pub const METADATA: [&str; 13] = [
        "",
        "metadata: {labels: {app: web}} # c",
        "metadata: {} # c",
        "metadata: {\n} # c",
        "metadata: # c",
        "metadata: null # c",
        "# above\nmetadata:\n  labels: {app: web} # c\n  # below",
        "metadata:\n  annotations: # c\n  labels:\n    app: web",
        "metadata:\n  labels:\n    app: web\n  annotations: {} # c",
        "metadata:\n  annotations:\n    script: |\n      echo # no comment\n\n      exit\n    # c\n  labels: {app: web}",
        "metadata:\n  annotations:\n    script: >-\n      a\n      b",
        "metadata:\n  annotations: {note: \"a # b\", other: 'it''s'} # c\n  name: web",
        "metadata: {\n  labels: {app: web}, # c\n  annotations: {\n    note: x # d\n  }\n} # e",
    ];

    /// Fields of a container, except its name.
    pub const FIELDS: [&str; 15] = [
        "image: registry.example/web:1 # pinned",
        "command: [sh, -c] # c",
        "args:\n- |\n  exec web # no comment\n\n",
        "args:\n  - |+\n    exec web\n\n",
        "args:\n- >-\n  --long\n  --longer\n# c",
        "args:\n- |2\n    two more\n  exec web",
        "env:\n- {name: A, value: 'on'} # c\n# d\n- name: B\n  value: |-\n    b",
        "resources: &small {limits: {memory: 1Gi}} # measured",
        "lifecycle: {} # c",
        "lifecycle: {\n} # c",
        "lifecycle: # c",
        "lifecycle: null # c",
        "lifecycle:\n  # c\n  postStart:\n    exec:\n      command:\n      - |\n        touch /tmp/x\n      # d",
        "lifecycle: {postStart: {exec: {command: [touch, x]}}, } # c",
        "ports: [{containerPort: 8080, name: http}] # c",
    ];

    /// Fields of the pod's spec, except its containers.
    pub const SPEC: [&str; 7] = [
        "",
        "terminationGracePeriodSeconds: 20 # c",
        "terminationGracePeriodSeconds: &grace 20 # c",
        "\"terminationGracePeriodSeconds\": 300",
        "restartPolicy: Always # c\n\n# d",
        "securityContext: &context # c\n  runAsUser: !!int 7",
        "nodeSelector:\n  <<: {zone: a} # c\n  disk: |-\n    fast",
    ];
}

fn indented(text: &str, by: usize) -> String {
    let margin = " ".repeat(by);
    text.split('\n')
        .map(|line| if line.is_empty() { line.to_owned() } else { format!("{margin}{line}") })
        .collect::<Vec<_>>()
        .join("\n")
}

/// The text of a container: its name first or last, and others of its fields, each at most once.
fn container_text(name: &'static str) -> impl Strategy<Value = String> {
    let fields = prop::sample::subsequence(parts::FIELDS.to_vec(), 0..=parts::FIELDS.len()).prop_shuffle();
    (fields, any::<bool>()).prop_map(move |(fields, last)| {
        let mut seen = std::collections::BTreeSet::new();
        let mut fields: Vec<String> = fields
            .into_iter()
            .filter(|field| seen.insert(field.split(':').next()))
            .map(str::to_owned)
            .collect();
        let at = if last { fields.len() } else { 0 };
        fields.insert(at, format!("name: {name}"));
        let text = indented(&fields.join("\n"), 2);
        format!("-{}", &text[1..])
    })
}

/// The text of a Deployment, with comments, blank lines and blocks of text.
fn deployment_text() -> impl Strategy<Value = String> {
    let containers = (container_text("a"), prop::option::of(container_text("b")), any::<bool>());
    let containers = containers.prop_map(|(a, b, deeper)| {
        let containers = [Some(a), b].into_iter().flatten().collect::<Vec<_>>().join("\n");
        format!("# each is a container\ncontainers:\n{}", indented(&containers, if deeper { 2 } else { 0 }))
    });
    let pairs = prop::sample::select(vec!["containers: [name: a] # c", "containers: [\n? name : a # c\n]"]);
    let containers = prop_oneof![7 => containers, 1 => pairs.prop_map(str::to_owned)];
    let spec = prop::sample::subsequence(parts::SPEC.to_vec(), 0..=3).prop_shuffle();
    let parts =
        (prop::sample::select(parts::METADATA.to_vec()), containers, spec, 0..4usize, any::<[bool; 2]>());
    parts.prop_map(|(metadata, containers, spec, at, [windows, cut])| {
        let mut seen = std::collections::BTreeSet::new();
        let mut spec: Vec<String> = spec
            .into_iter()
            .filter(|part| seen.insert(part.trim_matches('"').split(['"', ':']).next()))
            .map(str::to_owned)
            .collect();
        spec.insert(at.min(spec.len()), containers);
        let template = format!("{metadata}\nspec:\n{}", indented(&spec.join("\n"), 2));
        let text = format!(
            "# top\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}} # c\nspec:\n  replicas: 2\n  template:\n{}\n",
            indented(&template, 4)
        );
        let text = if cut { text.trim_end().to_owned() } else { text };
        if windows { text.replace('\n', "\r\n") } else { text }
    })
}

/// The output of a command.
fn changed(text: &str, decide: impl Fn(&Workload<'_>) -> Admission) -> String {
    let mut manifests = Manifests::parse("input", text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    manifests.change(|workload, _| decide(workload)).unwrap();
    manifests.yaml()
}

/// The document's object with an injected template.
fn injected_object(text: &str, around: &NamespaceContext) -> Value {
    let manifests = Manifests::parse("input", text).unwrap();
    let mut object = manifests.values().next().unwrap().clone();
    let none = std::collections::BTreeMap::new();
    let workload = Workload::new(plan::Kind::Deployment, &none, &object["spec"]["template"]);
    if let Some(template) = plan::render(&workload, around, true).template {
        object["spec"]["template"] = template;
    }
    object
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn reverting_restores_the_text_byte_for_byte(text in deployment_text()) {
        let around = NamespaceContext::default();
        let injected = changed(&text, |workload| plan::render(workload, &around, true));
        prop_assert_ne!(&injected, &text);
        // Parsed by another YAML parser than the one that wrote it.
        let read = documents(&injected.replace("\r\n", "\n"));
        prop_assert_eq!(&read[0], &injected_object(&text, &around), "{}", injected);
        prop_assert_eq!(changed(&injected, |workload| plan::render(workload, &around, true)), injected.clone());
        prop_assert_eq!(changed(&injected, plan::revert), text);
    }
}
