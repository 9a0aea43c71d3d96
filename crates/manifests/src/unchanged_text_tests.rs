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

#[test]
fn a_block_scalar_that_ends_the_text_without_a_line_break_stays() {
    for header in ["|", "|-", "|+", ">"] {
        let text = format!("a:\n  b: {header}\n    x");
        let (changed, back) = there_and_back(&text, |value| value["a"]["new"] = json!(1));
        assert_eq!(changed, format!("{text}\n  new: 1"));
        assert_eq!(back, text);
    }
}

#[test]
fn a_line_break_in_empty_brackets_stays() {
    for text in [
        "a: {\n}\n",
        "a: { \n  } # c\n",
        "{\n  \"a\": {\n  }\n}\n",
        "{\n\t\"a\": {\n\n\n},\n\t\"b\": 1\n}\n",
        "{\"a\": {\n}}",
        "{\n  \"a\": {}\n}\n",
    ] {
        for text in [text.to_owned(), text.replace('\n', "\r\n")] {
            let (changed, back) = there_and_back(&text, |value| value["a"]["new"] = json!({"x": 1}));
            assert!(changed.contains("new"), "{changed}");
            assert_eq!(back, text);
        }
    }
}

#[test]
fn a_pair_in_a_list_has_braces_only_while_it_has_added_entries() {
    for (text, changed) in [
        ("a: [b: 1] # c\n", "a: [{new: {x: 1}, b: 1}] # c\n"),
        ("a: [ \"b\": 1 , {c: 2}]\n", "a: [ {new: {x: 1}, \"b\": 1} , {c: 2}]\n"),
        ("a: [\n  b: 1 # c\n]\n", "a: [\n  {new: {x: 1}, b: 1} # c\n]\n"),
        ("a: [? b : 1]\n", "a: [{new: {x: 1}, ? b : 1}]\n"),
        ("a: [{b: 1}, c: 2]\n", "a: [{b: 1, new: {x: 1}}, c: 2]\n"),
        ("a: [{\"b\":1}]\n", "a: [{\"b\":1, new: {x: 1}}]\n"),
    ] {
        let there_and_back = there_and_back(text, |value| value["a"][0]["new"] = json!({"x": 1}));
        assert_eq!(there_and_back, (changed.to_owned(), text.to_owned()));
    }
    let with = |text: &str, item: Value| rewritten(text, |value| value["a"][0] = item.clone());
    let once = with("a: [b: 1]\n", json!({"b": 1, "new": 1}));
    let twice = with(&once, json!({"b": 1, "new": 1, "more": 2}));
    assert_eq!(twice, "a: [{new: 1, b: 1, more: 2}]\n");
    assert_eq!(with(&twice, json!({"b": 1})), "a: [b: 1]\n");
    assert_eq!(with(&once, json!({"b": 1, "more": 2})), "a: [{b: 1, more: 2}]\n");
    assert_eq!(with("a: [b: 1 # c\n]\n", json!({"b": 2})), "a: [{b: 2} # c\n]\n");
}
