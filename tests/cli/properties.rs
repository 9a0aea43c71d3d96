//! What holds for every stream of manifests.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::support::{documents, succeed};

/// Strings that a reader of YAML 1.1 takes for something else unless they are quoted, and plain ones.
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

/// Nothing, null, an empty map, or one with something in it.
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

/// How a document is written.
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
            // A comment within a literal would be text of it.
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
    fn reverting_gives_back_what_was_injected(
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
    fn what_is_not_opted_in_is_untouched(
        workloads in prop::collection::vec((deployment(), style()), 1..12),
    ) {
        let input = stream(&workloads);
        prop_assert_eq!(&succeed(&["inject", "-f", "-"], &input).0, &input);
        prop_assert_eq!(&succeed(&["revert", "-f", "-"], &input).0, &input);
    }
}
