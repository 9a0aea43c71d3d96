use std::{sync::mpsc, thread, time::Duration};

use serde_json::json;

use super::*;

pub(super) fn rewritten(text: &str, change: impl Fn(&mut Value)) -> String {
    let node = Node::read(text).unwrap().unwrap();
    let mut value = node.value();
    change(&mut value);
    rewrite(text, &node, &value, Syntax::Yaml).unwrap().text
}

/// Changes a document and restores it, both in place.
pub(super) fn there_and_back(text: &str, change: impl Fn(&mut Value)) -> (String, String) {
    let edit = |text: &str, value: &Value| {
        let node = Node::read(text).unwrap().unwrap();
        let syntax = if json::is_json(text) { Syntax::Json } else { Syntax::Yaml };
        let Rewritten { text, in_place } = rewrite(text, &node, value, syntax).unwrap();
        assert!(in_place, "{text}");
        text
    };
    let before = Node::read(text).unwrap().unwrap().value();
    let mut value = before.clone();
    change(&mut value);
    let changed = edit(text, &value);
    let back = edit(&changed, &before);
    (changed, back)
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
fn only_changes_are_written() {
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
        metadata: {labels: {app: web}, annotations: {record: '{\"a\":\"it''s\"}'}}
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
    assert_eq!(reverted, DEPLOYMENT);
}

#[test]
fn each_kind_of_change_is_made_in_place() {
    let remove =
        |key: &'static str| move |value: &mut Value| drop(value.as_object_mut().unwrap().remove(key));
    let set = |new: Value| {
        move |value: &mut Value| value.as_object_mut().unwrap().extend(new.as_object().unwrap().clone())
    };
    // An empty value, null and an empty map become a map, and a map becomes empty.
    assert_eq!(rewritten("a:\nb: 1\n", set(json!({"a": {"c": 1}}))), "a:\n  c: 1\nb: 1\n");
    assert_eq!(rewritten("a: # why\nb: 1\n", set(json!({"a": {"c": 1}}))), "a: # why\n  c: 1\nb: 1\n");
    assert_eq!(rewritten("a: null\n", set(json!({"a": {"c": 1}}))), "a: {c: 1}\n");
    assert_eq!(rewritten("a: {}\n", set(json!({"a": {"c": 1}}))), "a: {c: 1}\n");
    assert_eq!(rewritten("a:\n  c: 1\nb: 2\n", set(json!({"a": {}}))), "a: {}\nb: 2\n");
    // The last line, with and without a line break; line breaks of Windows.
    assert_eq!(rewritten("a: 1", set(json!({"b": "x"}))), "a: 1\nb: x");
    assert_eq!(rewritten("a: 1 # c\n", set(json!({"b": "x"}))), "a: 1 # c\nb: x\n");
    assert_eq!(rewritten("a: 1\r\n", set(json!({"b": [1]}))), "a: 1\r\nb:\r\n- 1\r\n");
    assert_eq!(rewritten("a: 1\n...\n", set(json!({"b": "x"}))), "a: 1\nb: x\n...\n");
    assert_eq!(rewritten("a: |+\n  x\n\nb: 1\n", set(json!({"a": "z"}))), "a: z\nb: 1\n");
    // A removed entry, first in its item or not.
    assert_eq!(rewritten("a: 1 # one\nb: 2\nc: 3\n", remove("b")), "a: 1 # one\nc: 3\n");
    let first = |value: &mut Value| drop(value[0].as_object_mut().unwrap().remove("a"));
    assert_eq!(rewritten("- a:\n    b: 1\n  # c\n  c: 2\n- d\n", first), "- c: 2\n- d\n");
    // Of duplicate keys the last is effective.
    assert_eq!(rewritten("a: 1\na: 2\n", set(json!({"a": 3}))), "a: 1\na: 3\n");
    assert_eq!(rewritten("a: 1\na: 2\nb: 1\n", remove("a")), "b: 1\n");
}

#[test]
fn edits_of_anchored_values_preserve_other_values() {
    let text = "# top\na: &x\n  k: 1\n  l: 2\nb: *x\nc:\n  <<: *x\n  m: 3\n";
    // Instead of an alias, and next to a merge key.
    let edited = rewritten(text, |value| value["b"]["k"] = json!(5));
    assert_eq!(edited, text.replace("b: *x", "b:\n  k: 5\n  l: 2"));
    let edited = rewritten(text, |value| value["c"]["k"] = json!(5));
    assert_eq!(edited, text.replace("m: 3\n", "m: 3\n  k: 5\n"));
    // If an anchored value changes, its aliases get the old value.
    let edited = rewritten(text, |value| value["a"]["k"] = json!("no"));
    assert_eq!(
        edited,
        "# top\na: &x\n  k: \"no\"\n  l: 2\nb:\n  k: 1\n  l: 2\nc:\n  <<: *x\n  m: 3\n  k: 1\n"
    );
    let edited = rewritten(text, |value| value["a"]["p"] = json!(4));
    assert_eq!(
        edited,
        "# top\na: &x\n  k: 1\n  l: 2\n  p: 4\nb:\n  k: 1\n  l: 2\nc:\n  <<: {k: 1, l: 2}\n  m: 3\n"
    );
    // All of them get the same change.
    let edited = rewritten("a: &x # c\nb: *x\n", |value| *value = json!({"a": {"k": 1}, "b": {"k": 1}}));
    assert_eq!(edited, "a: &x # c\n  k: 1\nb: *x\n");
    let edited =
        rewritten("a: &grace 30 # c\nb: [1, *grace] # d\nc: *grace\n", |value| value["a"] = json!(45));
    assert_eq!(edited, "a: &grace 45 # c\nb: [1, 30] # d\nc: 30\n");
}

#[test]
fn comments_stay_in_place_and_changes_are_reversible() {
    let add = |value: &mut Value| {
        value["a"]["new"] = json!({"x": [1, "it's \"y\""]});
    };
    for (text, changed) in [
        ("a: {b: 1}   # c\nd: 1\n", "a: {b: 1, new: {x: [1, 'it''s \"y\"']}}   # c\nd: 1\n"),
        ("a: {}   # c\n", "a: {new: {x: [1, 'it''s \"y\"']}}   # c\n"),
        ("a: { b: 1 } # c\n", "a: { b: 1, new: {x: [1, 'it''s \"y\"']} } # c\n"),
        ("a: {b: 1, } # c\n", "a: {b: 1, new: {x: [1, 'it''s \"y\"']}, } # c\n"),
        (
            "a: {\n  b: 1, # c\n  d: 2 # e, f\n} # g\n",
            "a: {\n  b: 1, # c\n  d: 2, # e, f\n  new: {x: [1, 'it''s \"y\"']}\n} # g\n",
        ),
        ("a: {\r\n  b: 1, # c\r\n}\r\n", "a: {\r\n  b: 1, # c\r\n  new: {x: [1, 'it''s \"y\"']},\r\n}\r\n"),
        ("a: # c\n  # d\nb: 1\n", "a: # c\n  new:\n    x:\n    - 1\n    - 'it''s \"y\"'\n  # d\nb: 1\n"),
        ("a: null # c\n", "a: {new: {x: [1, 'it''s \"y\"']}} # c\n"),
        ("a: &x # c\nb: 1\n", "a: &x # c\n  new:\n    x:\n    - 1\n    - 'it''s \"y\"'\nb: 1\n"),
        ("{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1,\"new\":{\"x\":[1,\"it's \\\"y\\\"\"]}}}"),
        ("{\"a\": {}}", "{\"a\": {\"new\": {\"x\": [1, \"it's \\\"y\\\"\"]}}}"),
        ("{\"a\": null}", "{\"a\": {\"new\": {\"x\": [1, \"it's \\\"y\\\"\"]}}}"),
        (
            "{\n  \"a\": {\n    \"b\": 1\n  }\n}\n",
            "{\n  \"a\": {\n    \"b\": 1,\n    \"new\": {\n      \"x\": [\n        1,\n        \"it's \\\"y\\\"\"\n      ]\n    }\n  }\n}\n",
        ),
        (
            "{\n\t\"a\": {}\n}\n",
            "{\n\t\"a\": {\n\t\t\"new\": {\n\t\t\t\"x\": [\n\t\t\t\t1,\n\t\t\t\t\"it's \\\"y\\\"\"\n\t\t\t]\n\t\t}\n\t}\n}\n",
        ),
    ] {
        assert_eq!(there_and_back(text, add), (changed.to_owned(), text.to_owned()));
    }
}

#[test]
fn block_scalars_are_not_rewritten() {
    let added = "new: 1\n";
    for (text, at) in [
        ("a:\n  b: |\n    x\n    y\nc: 1\n", "c:"),
        ("a:\n  b: >-\n    x\n\n# d\nc: 1\n", "\n# d"),
        ("a:\n  b: |+\n    x\n\nc: 1\n", "c:"),
        ("a:\n  b: |\n    x\n  # d\nc: 1\n", "  # d"),
        ("a:\n  b: | # e\n\n    x\n     y\n   \nc: 1\n", "   \nc:"),
        ("a:\n  b: |2\n     x\n\nc: 1\n", "\nc:"),
        ("a:\n  b:\n  - |\n    x\n  - >\n    y\n  # d\nc: 1\n", "  # d"),
        ("a:\n  b: &x |\n    x\nc: *x\n", "c:"),
        ("a:\n  b: |\n    x\n", ""),
        ("a:\n  b: |\nc: 1\n", "c:"),
        ("a:\n  b: |+\n\n\nc: 1\n", "c:"),
        ("- a:\n    b: |\n      x\n- c\n", "- c"),
        ("- z: 1\n  a:\n    b: |\n      x\n  c: 1\n", "  c:"),
    ] {
        for line_end in ["\n", "\r\n"] {
            let text = text.replace('\n', line_end);
            let at = text.find(&*at.replace('\n', line_end)).filter(|_| !at.is_empty()).unwrap_or(text.len());
            let indentation = if text.starts_with('-') { 4 } else { 2 };
            let line = " ".repeat(indentation) + &added.replace('\n', line_end);
            let changed = there_and_back(&text, |value| {
                let holder = if value.is_array() { &mut value[0] } else { value };
                holder["a"]["new"] = json!(1);
            });
            assert_eq!(changed, (format!("{}{line}{}", &text[..at], &text[at..]), text));
        }
    }
    // A change of the block scalar itself.
    for (text, changed) in [
        ("a: |\n  x\n\n# c\nb: 1\n", "a: z\n\n# c\nb: 1\n"),
        ("a: &x |\n  x\nb: *x\n", "a: &x z\nb: |\n  x\n"),
        ("- |\n  x\n# c\n- y\n", "- z\n# c\n- y\n"),
    ] {
        let edited = rewritten(text, |value| {
            *(if value.is_array() { &mut value[0] } else { &mut value["a"] }) = json!("z");
        });
        assert_eq!(edited, changed);
    }
}

#[test]
fn documents_that_can_not_be_changed_in_place_are_rewritten() {
    let text = "# top\n? a\n: &x [1] # c\nb: 1 # d\n";
    let node = Node::read(text).unwrap().unwrap();
    let changed = |value: Value, syntax| rewrite(text, &node, &value, syntax).unwrap();
    let in_place = changed(json!({"a": [2], "b": 1}), Syntax::Yaml);
    assert_eq!(in_place, Rewritten { text: text.replace("[1]", "[2]"), in_place: true });
    let text = "# top\n- a # c\n- b\n";
    let node = Node::read(text).unwrap().unwrap();
    let changed = rewrite(text, &node, &json!(["a"]), Syntax::Yaml).unwrap();
    assert_eq!(changed, Rewritten { text: "# top\n- a\n".into(), in_place: false });
    let text = "- a\n- b\n  # c\n";
    let node = Node::read(text).unwrap().unwrap();
    let changed = rewrite(text, &node, &json!(["x\ny\n"]), Syntax::Yaml).unwrap();
    assert_eq!(changed.text, "- |\n  x\n  y\n# c\n");
}

/// Texts that YAML 1.1 would read as another type, or that need quotes.
#[rustfmt::skip]
const TRAPS: [&str; 73] = [
    "yes", "Yes", "YES", "no", "on", "off", "y", "n", "Y", "N", "true", "False", "~", "null", "NULL", "",
    "012", "0o7", "0x1F", "0b11", "1_000", "1e3", "1E5", "+1", "-0", ".5", "5.", "1.0", ".inf", "-.INF",
    ".nan", "1:30", "190:20:30", "2001-01-01", "2001-12-14t21:59:43.10-05:00", "08", "=", "<<", "- a",
    "a: b", "a #b", "#a", "&a", "*a", "!a", "%a", "@a", "`a", "{a", "[a", "a,", "? a", "|", ">", "---",
    "...", " a", "a ", "\ta", "a\nb", "a\n\n", "\n", "a\r\nb", "'", "\"", "it's", "{\"a\":1}", "\u{7f}",
    "\u{85}", "\u{2028}", "\u{feff}a", "\\", "ü😀",
];

#[test]
fn strings_are_quoted_so_that_every_parser_reads_strings() {
    for trap in TRAPS {
        for value in [json!({"a": trap}), json!({"a": [trap]}), json!({trap: 1})] {
            let text = Ordered { value: &value, like: None }.yaml().unwrap() + "\n";
            assert_eq!(Node::read(&text).unwrap().unwrap().value(), value, "{text}");
            let edited = rewritten("a: 1\n", |document| *document = value.clone());
            assert_eq!(Node::read(&edited).unwrap().unwrap().value(), value, "{edited}");
        }
    }
    for trap in
        ["yes", "on", "n", "012", "0o7", "1_000", "1e3", "~", "null", "2001-01-01", "0x1F", "1:30", ".inf"]
    {
        let text = Ordered { value: &json!({"a": trap}), like: None }.yaml().unwrap();
        assert_eq!(text, format!("a: \"{trap}\""));
    }
}

#[test]
fn replaced_entries_are_written_in_their_place() {
    let sleep = |value: &mut Value| {
        let holder = if value.is_array() { &mut value[0] } else { value };
        holder["a"] = json!({"sleep": {"seconds": 10}});
    };
    for (text, changed, back) in [
        (
            "# top\na: # b\n  exec:\n    command: [/drain] # c\n# d\ne: {f: 1}  # g\n",
            "# top\na: # b\n  sleep:\n    seconds: 10\n# d\ne: {f: 1}  # g\n",
            "# top\na: # b\n  exec:\n    command:\n    - /drain\n# d\ne: {f: 1}  # g\n",
        ),
        (
            "a:\n  exec:\n    command:\n    - /drain\n    - |\n      x\nb: 1\n",
            "a:\n  sleep:\n    seconds: 10\nb: 1\n",
            "a:\n  exec:\n    command:\n    - /drain\n    - |\n      x\nb: 1\n",
        ),
        // Both handlers of a rejected manifest, and a comment between them.
        (
            "a:\n  exec:\n    command: []\n  # c\n  httpGet:\n    path: /x\n    port: 80\nb: 1\n",
            "a:\n  sleep:\n    seconds: 10\n  # c\nb: 1\n",
            "a:\n  exec:\n    command: []\n  httpGet:\n    path: /x\n    port: 80\n  # c\nb: 1\n",
        ),
        (
            "- a:\n    exec:\n      command:\n      - /drain",
            "- a:\n    sleep:\n      seconds: 10",
            "- a:\n    exec:\n      command:\n      - /drain",
        ),
        (
            "a: {exec: {command: [/drain]}} # c\nb: 1\n",
            "a: {sleep: {seconds: 10}} # c\nb: 1\n",
            "a: {exec: {command: [/drain]}} # c\nb: 1\n",
        ),
        (
            "a: {\n  exec: {command: [/drain]}, # c\n}\nb: 1\n",
            "a: {\n  sleep: {seconds: 10}, # c\n}\nb: 1\n",
            "a: {\n  exec: {command: [/drain]}, # c\n}\nb: 1\n",
        ),
        (
            "{\n  \"a\": {\n    \"exec\": {}\n  }\n}\n",
            "{\n  \"a\": {\n    \"sleep\": {\n      \"seconds\": 10\n    }\n  }\n}\n",
            "{\n  \"a\": {\n    \"exec\": {}\n  }\n}\n",
        ),
    ] {
        assert_eq!(there_and_back(text, sleep), (changed.to_owned(), back.to_owned()));
        let crlf = |text: &str| text.replace('\n', "\r\n");
        assert_eq!(there_and_back(&crlf(text), sleep), (crlf(changed), crlf(back)));
    }
    // All entries of an item, of which the first shares its line with the dash.
    let item = |value: &mut Value| value[0] = json!({"c": 1, "d": [2]});
    let (changed, back) = there_and_back("- a: 1 # x\n  b: 2\n# y\n- z\n", item);
    assert_eq!(changed, "- c: 1\n  d:\n  - 2\n# y\n- z\n");
    assert_eq!(back, "- a: 1\n  b: 2\n# y\n- z\n");
}

#[test]
fn a_comment_after_an_empty_value_stays() {
    let fill = |value: &mut Value| value["a"] = json!([{"k": 1}]);
    for text in ["a: # none\nb: 1\n", "a:   # none\n# c\nb: 1\n", "a: [] # none\nb: 1\n", "a: null # none\n"]
    {
        let (_, back) = there_and_back(text, fill);
        assert_eq!(back, text);
    }
}

#[test]
fn a_value_of_a_merge_key_needs_no_entry_of_its_own() {
    for text in [
        "x: &x {k: 1, l: 2}\na:\n  <<: *x\n  m: 3 # c\n",
        "x: &x {k: 1}\ny: &y {k: 4}\na:\n  <<: [*x, *y]\n  m: 3\n",
        "x: &x {k: 1}\na: {<<: *x, m: 3}\n",
    ] {
        let (changed, back) = there_and_back(text, |value| value["a"]["k"] = json!(5));
        assert!(changed.contains("<<: ") && changed.contains("k: 5"), "{changed}");
        assert_eq!(back, text);
    }
}

#[test]
fn a_mapping_with_many_keys_is_changed_in_linear_time() {
    let keys = (0..50_000).map(|key| format!("  key-{key}: v\n")).collect::<Vec<_>>().concat();
    let text = format!(
        "a:\n{keys}b: {{{}}}\n",
        (0..50_000).map(|key| format!("key-{key}: v,")).collect::<Vec<_>>().concat()
    );
    let (sender, edited) = mpsc::channel();
    let original = text.clone();
    thread::spawn(move || {
        sender.send(there_and_back(&text, |value| {
            value["a"]["new"] = json!(1);
            value["b"]["new"] = json!(1);
        }))
    });
    let (changed, back) =
        edited.recv_timeout(Duration::from_mins(1)).expect("in quadratic time it takes minutes");
    assert_eq!(back, original);
    assert_ne!(changed, original);
}
