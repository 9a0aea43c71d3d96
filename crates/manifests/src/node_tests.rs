use serde_json::json;

use super::*;

fn value(text: &str) -> Value {
    Node::read(text).unwrap().unwrap().value()
}

#[test]
fn documents_have_the_values_that_kubectl_reads() {
    for (text, expected) in [
        ("a: 1\na: 2\n", json!({"a": 2})),
        ("yes: 1\n1: 2\n1.50: 3\n", json!({"true": 1, "1": 2, "1.5": 3})),
        ("a: &x {k: 1}\nb: {k: 2, <<: *x}\n", json!({"a": {"k": 1}, "b": {"k": 1}})),
        ("a: &x {k: 1}\nb: {<<: *x, k: 2}\n", json!({"a": {"k": 1}, "b": {"k": 2}})),
        (
            "- &x {k: 1}\n- &y {k: 2, l: 2}\n- <<: [*x, *y]\n",
            json!([{"k": 1}, {"k": 2, "l": 2}, {"k": 1, "l": 2}]),
        ),
        ("a: !!str yes\nb: ! yes\nc: !!int '3'\n", json!({"a": "yes", "b": "yes", "c": 3})),
        ("a: |+\n  x\n\nb: >-\n  y\n  z\n", json!({"a": "x\n\n", "b": "y z"})),
        ("a: \"yes\"\nb: 'on'\nc:\n", json!({"a": "yes", "b": "on", "c": null})),
        ("a: 1\r\nb:\r\n- x\r\n", json!({"a": 1, "b": ["x"]})),
        ("{\n\t\"a\": \"\\ud83d\\ude00\"\n}", json!({"a": "😀"})),
        // A quoted text continues at any column, also after a tab.
        ("a: \"x\ny\"\nb:\n  c: 'x\n  y'\n", json!({"a": "x y", "b": {"c": "x y"}})),
        ("a:\n  b: \"x\n\ty\"\n  c: [\"x\n\ty\",\n1]\n", json!({"a": {"b": "x y", "c": ["x y", 1]}})),
    ] {
        assert_eq!(value(text), expected, "{text}");
    }
    for empty in ["", "# a comment\n", "\n\n"] {
        assert!(Node::read(empty).unwrap().is_none());
    }
}

/// kubectl ends each line, also the last one, with a line break before it parses YAML (`LineReader` of
/// k8s.io/apimachinery).
#[test]
fn a_last_line_without_a_line_break_is_read_as_kubectl_reads_it() {
    let texts = [("|\n  x", "x\n"), ("|+\n  x", "x\n"), ("|-\n  x", "x"), (">\n  x\n  y", "x y\n")];
    for (text, expected) in texts {
        let text = format!("a: {text}");
        assert_eq!(value(&text), json!({"a": expected}), "{text}");
        assert_eq!(value(&text), value(&format!("{text}\n")), "{text}");
    }
}

#[test]
fn invalid_documents_are_rejected_with_their_line() {
    let bomb = (1..9).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
        let one = format!("*a{}", n - 1);
        text + &format!("a{n}: &a{n} [{}]\n", [one.as_str(); 9].join(","))
    });
    let anchors = (0..200).fold(String::new(), |text, n| text + &format!("[&a{n} "));
    let anchors = format!("{anchors}[{}1]{}", "1,".repeat(10_000), "]".repeat(200));
    for (text, line, expected) in [
        ("a:\n\tb: 1\n", 1, "tab"),
        ("a: 1\n...\nb: 2\n", 2, "after `...`"),
        ("a: 1\n~: 2\n", 1, "key must be a string"),
        ("a: .inf\n", 0, "represented in JSON"),
        ("a: b\nc: !!int d\n", 1, "\"d\" cannot be read as !!int"),
        ("a: !!binary '%'\n", 0, "cannot be read as !!binary"),
        ("a: !!timestamp today\n", 0, "cannot be read as !!timestamp"),
        ("a: !!float .inf\n", 0, "represented in JSON"),
        ("a: *b\n", 0, "anchor"),
        ("a: 1\n<<: 2\n", 1, "merge key"),
        ("a: &x [*x]\n", 0, "its own anchor"),
        ("a: b: c\n", 0, "mapping values are not allowed"),
        (&bomb, 5, "more than 100000"),
        (&anchors, 0, "the anchors contain more than 1000000"),
    ] {
        let error = Node::read(text).map(|node| node.map(|node| node.value())).unwrap_err();
        assert!(error.message.contains(expected), "{text}: {error:?}");
        assert_eq!(error.line, line, "{text}: {error:?}");
    }
}

/// The expected values are those of kubectl's YAML library.
#[test]
fn tags_are_read_as_kubectl_reads_them() {
    for (text, expected) in [
        ("a: !!binary aGVsbG8=\n", json!({"a": "hello"})),
        ("a: !!binary |\n  aGVs\n  bG8=\n", json!({"a": "hello"})),
        ("a: !!binary 4oIoww==\n", json!({"a": "\u{fffd}\u{fffd}(\u{fffd}"})),
        (
            "a: 2001-01-01\nb: !!timestamp 2001-12-14t21:59:43.10-05:00\nc: !!timestamp '2001-01-01'\n",
            json!({"a": "2001-01-01", "b": "2001-12-14t21:59:43.10-05:00", "c": "2001-01-01"}),
        ),
        (
            "a: !!str 12\nb: !!int '3'\nc: !!float 3\nd: !!bool y\n",
            json!({"a": "12", "b": 3, "c": 3, "d": true}),
        ),
        ("a: !!str\nb: !!null ''\nc: !vault\n", json!({"a": "", "b": null, "c": ""})),
        ("a: !!set {x, z}\nb: !!omap [c: 1]\n", json!({"a": {"x": null, "z": null}, "b": [{"c": 1}]})),
        ("a: !vault b#c\nd: !vault 12\ne: !vault yes\n", json!({"a": "b#c", "d": "12", "e": "yes"})),
        ("a: !own {b: 12}\nc: !own\n- 1\n", json!({"a": {"b": 12}, "c": [1]})),
        ("a: !<tag:yaml.org,2002:int> '3'\nb: !<tag:x.org,2002:int> 3\n", json!({"a": 3, "b": "3"})),
        (
            "!!str 12: a\n!!int '3': b\n!vault k: c\n!!binary aGk=: d\n",
            json!({"12": "a", "3": "b", "k": "c", "hi": "d"}),
        ),
        ("a: &x {k: 1}\nb:\n  !!merge <<: *x\n  c: 1\n", json!({"a": {"k": 1}, "b": {"k": 1, "c": 1}})),
        ("a: &x {k: 1}\nb: {!!merge \"<<\": *x}\n", json!({"a": {"k": 1}, "b": {"k": 1}})),
        (
            "a: &x {k: 1}\nb: {'<<': *x}\nc: {!!str <<: 1}\n",
            json!({"a": {"k": 1}, "b": {"<<": {"k": 1}}, "c": {"<<": 1}}),
        ),
    ] {
        assert_eq!(value(text), expected, "{text}");
    }
}

#[test]
fn texts_count_toward_the_limits_of_aliases_and_anchors() {
    let aliases = |text: &str| format!("a: &x {text}\nb: [{}]\n", ["*x"; 200].join(","));
    let anchors = |text: &str| {
        let begin = (0..200).fold(String::new(), |begin, n| begin + &format!("[&a{n} "));
        format!("{begin}{text}{}", "]".repeat(200))
    };
    let long = "x".repeat(6000 * TEXT);
    for (short, long, expected) in [
        (aliases("x"), aliases(&long), "the aliases expand to more than 100000"),
        (anchors("x"), anchors(&long), "the anchors contain more than 1000000"),
    ] {
        assert!(Node::read(&short).is_ok());
        let error = Node::read(&long).map(drop).unwrap_err();
        assert!(error.message.contains(expected), "{error:?}");
    }
}
