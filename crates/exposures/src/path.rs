//! Paths in objects.

use serde_json::Value;

/// The values at a path such as `spec.rules[].backendRefs[]`, in which `[]` means every item of a list.
pub(crate) fn values<'a>(object: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![object];
    for step in path.split('.') {
        let (key, is_list) = step.strip_suffix("[]").map_or((step, false), |key| (key, true));
        let next = found.into_iter().filter_map(|value| value.get(key));
        found = if is_list {
            next.filter_map(Value::as_array).flatten().collect()
        } else {
            next.filter(|value| !value.is_null()).collect()
        };
    }
    found
}

/// The text at a path; `None` if it is empty.
pub(crate) fn text<'a>(object: &'a Value, path: &str) -> Option<&'a str> {
    values(object, path).first().and_then(|value| value.as_str()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_item_of_a_list_is_found_and_missing_steps_are_none() {
        let object =
            json!({"a": [{"b": [1, 2]}, {"b": [3]}, {"c": 4}, {"b": 5}], "d": {"e": "f"}, "g": null});
        let found = |path: &str| values(&object, path).into_iter().cloned().collect::<Vec<_>>();
        assert_eq!(found("a[].b[]"), [json!(1), json!(2), json!(3)]);
        assert_eq!(found("a[].c"), [json!(4)]);
        assert_eq!(found("d.e"), [json!("f")]);
        for missing in ["a.b", "d[]", "d.e.f", "g", "x.y[]"] {
            assert!(found(missing).is_empty(), "{missing}");
        }
        assert_eq!(text(&object, "d.e"), Some("f"));
        assert_eq!(text(&object, "a[].c"), None);
    }
}
