use serde_json::json;

use super::*;

fn rewritten(text: &str, change: impl Fn(&mut Value)) -> String {
    let node = Node::read(text).unwrap().unwrap();
    let mut value = node.value();
    change(&mut value);
    rewrite(text, &node, &value).unwrap()
}

const DEPLOYMENT: &str = "\
# Source: shop/templates/web.yaml
metadata:
  name: web # the shop
spec:
    template:
        metadata: {labels: {app: web}}
        spec:
            terminationGracePeriodSeconds: 20 # enough?
            containers:
            - image: \"yes\"   # not a boolean
              name: web
              # resources: {}
            - name: side
              env:
              - {name: A, value: 'on'}
              args:
              - |
                --long

# the end
";

#[test]
fn only_what_changes_is_written() {
    let injected = rewritten(DEPLOYMENT, |value| {
        let spec = &mut value["spec"]["template"]["spec"];
        spec["terminationGracePeriodSeconds"] = json!(45);
        for container in spec["containers"].as_array_mut().unwrap() {
            container["lifecycle"] = json!({"preStop": {"exec": {"command": ["sleep", "10"]}}});
        }
        value["spec"]["template"]["metadata"]["annotations"] = json!({"record": "{\"a\":\"it's\"}"});
    });
    assert_eq!(
        injected,
        "\
# Source: shop/templates/web.yaml
metadata:
  name: web # the shop
spec:
    template:
        metadata:
          labels:
            app: web
          annotations:
            record: '{\"a\":\"it''s\"}'
        spec:
            terminationGracePeriodSeconds: 45 # enough?
            containers:
            - image: \"yes\"   # not a boolean
              name: web
              lifecycle:
                preStop:
                  exec:
                    command:
                    - sleep
                    - \"10\"
              # resources: {}
            - name: side
              env:
              - {name: A, value: 'on'}
              args:
              - |
                --long

              lifecycle:
                preStop:
                  exec:
                    command:
                    - sleep
                    - \"10\"
# the end
"
    );
    let reverted = rewritten(&injected, |value| {
        let spec = &mut value["spec"]["template"]["spec"];
        spec["terminationGracePeriodSeconds"] = json!(20);
        for container in spec["containers"].as_array_mut().unwrap() {
            container.as_object_mut().unwrap().remove("lifecycle");
        }
        value["spec"]["template"]["metadata"].as_object_mut().unwrap().remove("annotations");
    });
    assert_eq!(
        reverted,
        DEPLOYMENT
            .replace("metadata: {labels: {app: web}}", "metadata:\n          labels:\n            app: web")
    );
}

#[test]
fn each_kind_of_change_finds_its_place() {
    let remove =
        |key: &'static str| move |value: &mut Value| drop(value.as_object_mut().unwrap().remove(key));
    let set = |new: Value| {
        move |value: &mut Value| value.as_object_mut().unwrap().extend(new.as_object().unwrap().clone())
    };
    // Nothing, null and an empty map become a map, and a map becomes empty.
    assert_eq!(rewritten("a:\nb: 1\n", set(json!({"a": {"c": 1}}))), "a:\n  c: 1\nb: 1\n");
    assert_eq!(rewritten("a: # why\nb: 1\n", set(json!({"a": {"c": 1}}))), "a:\n  c: 1 # why\nb: 1\n");
    assert_eq!(rewritten("a: null\n", set(json!({"a": {"c": 1}}))), "a:\n  c: 1\n");
    assert_eq!(rewritten("a: {}\n", set(json!({"a": {"c": 1}}))), "a:\n  c: 1\n");
    assert_eq!(rewritten("a:\n  c: 1\nb: 2\n", set(json!({"a": {}}))), "a: {}\nb: 2\n");
    // The last line, with and without its end; line ends of another system.
    assert_eq!(rewritten("a: 1", set(json!({"b": "x"}))), "a: 1\nb: x");
    assert_eq!(rewritten("a: 1 # c\n", set(json!({"b": "x"}))), "a: 1 # c\nb: x\n");
    assert_eq!(rewritten("a: 1\r\n", set(json!({"b": [1]}))), "a: 1\r\nb:\r\n- 1\r\n");
    assert_eq!(rewritten("a: 1\n...\n", set(json!({"b": "x"}))), "a: 1\nb: x\n...\n");
    assert_eq!(rewritten("a: |+\n  x\n\nb: 1\n", set(json!({"a": "z"}))), "a: z\nb: 1\n");
    // An entry that is gone, first in its item or not.
    assert_eq!(rewritten("a: 1 # one\nb: 2\nc: 3\n", remove("b")), "a: 1 # one\nc: 3\n");
    let first = |value: &mut Value| drop(value[0].as_object_mut().unwrap().remove("a"));
    assert_eq!(rewritten("- a:\n    b: 1\n  # c\n  c: 2\n- d\n", first), "- c: 2\n- d\n");
    // Of two entries with one key the last counts.
    assert_eq!(rewritten("a: 1\na: 2\n", set(json!({"a": 3}))), "a: 1\na: 3\n");
    assert_eq!(rewritten("a: 1\na: 2\nb: 1\n", remove("a")), "b: 1\n");
}

#[test]
fn where_anchors_are_in_the_way_the_meaning_is_kept() {
    let text = "# top\na: &x\n  k: 1\n  l: 2\nb: *x\nc:\n  <<: *x\n  m: 3\n";
    // In the place of an alias, and beside a merge key.
    let edited = rewritten(text, |value| value["b"]["k"] = json!(5));
    assert_eq!(edited, text.replace("b: *x", "b:\n  k: 5\n  l: 2"));
    let edited = rewritten(text, |value| value["c"]["k"] = json!(5));
    assert_eq!(edited, text.replace("m: 3\n", "m: 3\n  k: 5\n"));
    // What the anchor names can't change where it stands.
    let edited = rewritten(text, |value| value["a"]["k"] = json!("no"));
    assert_eq!(edited, "# top\na:\n  k: \"no\"\n  l: 2\nb:\n  k: 1\n  l: 2\nc:\n  k: 1\n  l: 2\n  m: 3\n");
    let flow = rewritten("--- {b: 'yes', a: [1, {c: 012}]} # c\n", |value| value["d"] = json!(null));
    assert_eq!(flow, "---\nb: \"yes\"\na:\n- 1\n- c: 10\nd: null\n # c\n");
}

/// What a reader of YAML 1.1 takes for something else is quoted where it is written.
#[test]
fn strings_stay_strings_for_every_reader() {
    for trap in [
        "yes",
        "Yes",
        "YES",
        "no",
        "on",
        "off",
        "y",
        "n",
        "Y",
        "N",
        "true",
        "False",
        "~",
        "null",
        "NULL",
        "",
        "012",
        "0o7",
        "0x1F",
        "0b11",
        "1_000",
        "1e3",
        "1E5",
        "+1",
        "-0",
        ".5",
        "5.",
        "1.0",
        ".inf",
        "-.INF",
        ".nan",
        "1:30",
        "190:20:30",
        "2001-01-01",
        "2001-12-14t21:59:43.10-05:00",
        "08",
        "=",
        "<<",
        "- a",
        "a: b",
        "a #b",
        "#a",
        "&a",
        "*a",
        "!a",
        "%a",
        "@a",
        "`a",
        "{a",
        "[a",
        "a,",
        "? a",
        "|",
        ">",
        "---",
        "...",
        " a",
        "a ",
        "\ta",
        "a\nb",
        "a\n\n",
        "\n",
        "a\r\nb",
        "'",
        "\"",
        "it's",
        "{\"a\":1}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}a",
        "\\",
        "ü😀",
    ] {
        for value in [json!({"a": trap}), json!({"a": [trap]}), json!({trap: 1})] {
            let text = Written { value: &value, like: None }.yaml().unwrap() + "\n";
            assert_eq!(Node::read(&text).unwrap().unwrap().value(), value, "{text}");
            let before_is_kept = rewritten("a: 1\n", |document| *document = value.clone());
            assert_eq!(Node::read(&before_is_kept).unwrap().unwrap().value(), value, "{before_is_kept}");
        }
    }
    for trap in
        ["yes", "on", "n", "012", "0o7", "1_000", "1e3", "~", "null", "2001-01-01", "0x1F", "1:30", ".inf"]
    {
        let text = Written { value: &json!({"a": trap}), like: None }.yaml().unwrap();
        assert_eq!(text, format!("a: \"{trap}\""));
    }
}
