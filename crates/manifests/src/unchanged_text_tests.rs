//! Text beside a change stays byte for byte.

use serde_json::{Value, json};

use super::tests::{rewritten, there_and_back};

#[test]
fn a_field_that_a_later_merge_key_overrides_is_not_changed() {
    let text = "x: &x\n  k: 1\na:\n  k: 2 # newer\n  m: 3\n  <<: *x\n";
    let (changed, back) = there_and_back(text, |value| value["a"]["m"] = json!(4));
    assert_eq!(changed, text.replace("m: 3", "m: 4"));
    assert_eq!(back, text);
    let changed = rewritten(text, |value| value["a"]["k"] = json!(5));
    assert!(changed.contains("k: 2 # newer\n  m: 3\n  <<: *x\n  k: 5\n"), "{changed}");
    let flow = "x: &x {k: 1}\na: {k: 2, m: 3, <<: *x}\n";
    assert_eq!(rewritten(flow, |value| value["a"]["m"] = json!(4)), flow.replace("m: 3", "m: 4"));
}

#[test]
fn a_comment_in_brackets_stays_when_they_are_emptied() {
    for text in ["a: {\n  # b: 1\n}\n", "a:\n  b: {\n    # c: 1\n  }\n", "a: {}\n"] {
        let add = |value: &mut Value| {
            let target = if value["a"].get("b").is_some() { &mut value["a"]["b"] } else { &mut value["a"] };
            target["new"] = json!("1");
        };
        let (changed, back) = there_and_back(text, add);
        assert!(changed.contains("new: "), "{changed}");
        assert_eq!(back, text);
    }
}

#[test]
fn a_changed_line_ends_as_the_one_before_it() {
    let text = "a: |\n  x\r\n  y\nb: 1\nc: 2\n";
    let (changed, back) = there_and_back(text, |value| value["b"] = json!({"d": 1}));
    assert_eq!(changed, text.replace("b: 1\n", "b:\n  d: 1\n"));
    assert_eq!(back, text);
}
