//! The CustomResourceDefinitions.
//!
//! Every field has a maximum, which bounds the size of a policy. This module adds the bounds that the types of
//! [`super::policy`] don't declare.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    ValidationRule,
};
use kube::CustomResourceExt as _;
use serde_json::json;

use super::{
    limits,
    numbers::MAX_SAFE_INTEGER,
    policy::{ClusterGracefulPolicy, GracefulPolicy},
    schema,
    termination_profile::TerminationProfile,
};

/// Every CustomResourceDefinition of adieu.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![GracefulPolicy::crd(), ClusterGracefulPolicy::crd(), TerminationProfile::crd()];
    for version in
        crds.iter_mut().filter(|crd| crd.spec.scope == "Namespaced").flat_map(|crd| &mut crd.spec.versions)
    {
        let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        if let Some(rollout) = schema.and_then(|schema| at(schema, &["spec", "rollout"])) {
            rollout.x_kubernetes_validations = Some(vec![ValidationRule {
                rule: "!has(self.maxConcurrentPerNamespace)".into(),
                message: Some(
                    "maxConcurrentPerNamespace is only allowed in a ClusterGracefulPolicy: set maxConcurrent instead"
                        .into(),
                ),
                ..ValidationRule::default()
            }]);
        }
    }
    for version in crds.iter_mut().flat_map(|crd| &mut crd.spec.versions) {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            forbid_null(schema);
            bound_ports(schema);
            for selector in ["selector", "namespaceSelector"] {
                if let Some(selector) = at(schema, &["spec", selector]) {
                    bound_selector(selector);
                }
            }
            for path in [&["spec", "drainSeconds"][..], &["status", "effective", "drain"]] {
                if let Some(drain) = at(schema, path) {
                    bound_drain(drain);
                }
            }
            if let Some(unavailable) = at(schema, &["spec", "disruptionBudget", "maxUnavailable"]) {
                bound_number_or_percentage(unavailable, limits::MAX_UNAVAILABLE);
            }
            if let Some(failures) = at(schema, &["spec", "rollout", "maxFailures"]) {
                bound_number_or_percentage(failures, limits::MAX_FAILURES);
            }
            if let Some(conditions) = at(schema, &["status", "conditions"]) {
                bound_conditions(conditions);
            }
        }
    }
    crds
}

/// The schema at a path of properties.
fn at<'a>(schema: &'a mut JSONSchemaProps, path: &[&str]) -> Option<&'a mut JSONSchemaProps> {
    path.iter().try_fold(schema, |schema, step| schema.properties.as_mut()?.get_mut(*step))
}

/// The schema of a list's items.
fn items(list: &mut JSONSchemaProps) -> Option<&mut JSONSchemaProps> {
    match list.items.as_mut()? {
        JSONSchemaPropsOrArray::Schema(item) => Some(item),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

fn bound_selector(selector: &mut JSONSchemaProps) {
    if let Some(labels) = at(selector, &["matchLabels"]) {
        labels.max_properties = Some(limits::MATCH_LABELS);
        if let Some(JSONSchemaPropsOrBool::Schema(value)) = labels.additional_properties.as_mut() {
            bound_label_value(value);
        }
    }
    if let Some(expressions) = at(selector, &["matchExpressions"]) {
        expressions.max_items = Some(limits::MATCH_EXPRESSIONS);
        if let Some(expression) = items(expressions) {
            bound_expression(expression);
        }
    }
    let rules = [
        (
            "!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && e.values.size() > 0 : !has(e.values) || e.values.size() == 0)".to_owned(),
            "values are required for In and NotIn, and not allowed for Exists and DoesNotExist".to_owned(),
        ),
        (
            format!(
                "!has(self.matchExpressions) || self.matchExpressions.map(e, has(e.values) ? e.values.size() : 0).sum() <= {}",
                limits::MATCH_VALUES
            ),
            format!("matchExpressions must have at most {} values in total", limits::MATCH_VALUES),
        ),
        // A schema can't restrict the keys of a map.
        (
            format!(
                "!has(self.matchLabels) || self.matchLabels.all(key, key.matches('^[-A-Za-z0-9_./]{{1,{}}}$'))",
                limits::LABEL_KEY_LENGTH
            ),
            format!("the keys of matchLabels must be label keys of at most {} characters", limits::LABEL_KEY_LENGTH),
        ),
    ];
    let rules =
        rules.map(|(rule, message)| ValidationRule { rule, message: Some(message), ..Default::default() });
    selector.x_kubernetes_validations = Some(rules.into());
}

fn bound_expression(expression: &mut JSONSchemaProps) {
    if let Some(operator) = at(expression, &["operator"]) {
        operator.enum_ = Some(one_of(["In", "NotIn", "Exists", "DoesNotExist"]));
    }
    if let Some(key) = at(expression, &["key"]) {
        bound(key, limits::LABEL_KEY_LENGTH, schema::QUALIFIED_NAME);
    }
    if let Some(values) = at(expression, &["values"]) {
        values.max_items = Some(limits::MATCH_VALUES);
        if let Some(value) = items(values) {
            bound_label_value(value);
        }
    }
}

fn bound_label_value(value: &mut JSONSchemaProps) {
    bound(value, 63, schema::LABEL_VALUE);
}

fn bound(text: &mut JSONSchemaProps, max_length: i64, pattern: &str) {
    (text.max_length, text.pattern) = (Some(max_length), Some(pattern.into()));
}

fn one_of<const N: usize>(values: [&str; N]) -> Vec<JSON> {
    values.into_iter().map(|value| JSON(json!(value))).collect()
}

/// A port by number, or by name (`IANA_SVC_NAME`: at least one letter).
fn bound_ports(schema: &mut JSONSchemaProps) {
    for (key, property) in schema.properties.iter_mut().flatten() {
        if key == "port" {
            (property.minimum, property.maximum) = (Some(1.0), Some(65_535.0));
            if property.x_kubernetes_int_or_string == Some(true) {
                bound(property, 15, schema::PORT_NAME);
            }
        }
        bound_ports(property);
    }
}

/// At least 1, or 1%.
#[allow(clippy::cast_precision_loss)]
fn bound_number_or_percentage(schema: &mut JSONSchemaProps, maximum: i64) {
    (schema.minimum, schema.maximum) = (Some(1.0), Some(maximum as f64));
    bound(schema, 4, "^([1-9]|[1-9][0-9]|100)%$");
}

/// `Auto`, or a number of seconds.
#[allow(clippy::cast_precision_loss)]
fn bound_drain(schema: &mut JSONSchemaProps) {
    (schema.minimum, schema.maximum) = (Some(0.0), Some(limits::DRAIN_SECONDS as f64));
    bound(schema, 4, "^Auto$");
}

/// Restricts conditions to the values that adieu writes.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_wrap)]
fn bound_conditions(conditions: &mut JSONSchemaProps) {
    conditions.max_items = Some(limits::CONDITIONS as i64);
    let Some(condition) = items(conditions) else { return };
    for name in ["type", "reason"] {
        if let Some(name) = at(condition, &[name]) {
            bound(name, 64, "^[A-Za-z]+$");
        }
    }
    if let Some(status) = at(condition, &["status"]) {
        status.enum_ = Some(one_of(["True", "False", "Unknown"]));
    }
    if let Some(message) = at(condition, &["message"]) {
        message.max_length = Some(limits::MESSAGE_LENGTH as i64);
    }
    // With a format, the API server accepts times that not every library reads, and even lists.
    if let Some(time) = at(condition, &["lastTransitionTime"]) {
        time.format = None;
        bound(time, 20, schema::TIME);
    }
    if let Some(generation) = at(condition, &["observedGeneration"]) {
        (generation.minimum, generation.maximum) = (Some(0.0), Some(MAX_SAFE_INTEGER as f64));
    }
}

/// An optional field of Rust becomes a nullable one of the schema. `null` would bypass the bounds and break rules over
/// several fields, so it is rejected.
fn forbid_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(forbid_null);
    match schema.items.as_mut() {
        Some(JSONSchemaPropsOrArray::Schema(items)) => forbid_null(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(forbid_null),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::api::defaults;

    fn spec() -> Value {
        let crd = serde_json::to_value(&crds()[0]).unwrap();
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
    }

    #[test]
    fn kubectl_lists_policies_with_mode_first_and_reasons_in_wide_output() {
        for (name, maximum) in [("grpol", None), ("cgrpol", Some("Maximum"))] {
            let crds: Vec<Value> = crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect();
            let is_named = |crd: &&Value| crd["spec"]["names"]["shortNames"] == json!([name]);
            let crd = crds.iter().find(is_named).unwrap();
            let columns = crd["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap();
            let names = |is_wide: bool| -> Vec<&str> {
                let shown = columns.iter().filter(|column| (column["priority"] == 1) == is_wide);
                shown.map(|column| column["name"].as_str().unwrap()).collect()
            };
            let values = ["Mode", "Drain", "Shutdown", "Margin", "Grace"];
            let counts = ["Workloads", "Injected", "Ready", "Age"];
            let expected: Vec<_> = values.into_iter().chain(maximum).chain(counts).collect();
            assert_eq!(names(false), expected, "{name}");
            assert_eq!(names(true), ["Reason", "Stalled"], "{name}");
            // Also values that the policy inherits.
            for column in &columns[..values.len()] {
                assert!(column["jsonPath"].as_str().unwrap().starts_with(".status.effective."), "{column}");
            }
        }
    }

    #[test]
    fn schema_bounds_every_number_of_seconds() {
        for (field, minimum, maximum) in [
            ("drainSeconds", 0, limits::DRAIN_SECONDS),
            ("shutdownTimeoutSeconds", 0, limits::SHUTDOWN_TIMEOUT_SECONDS),
            ("marginSeconds", 0, limits::MARGIN_SECONDS),
            ("maxGracePeriodSeconds", 1, limits::MAX_GRACE_PERIOD_SECONDS),
            ("recommendationBounds/properties/minSeconds", 0, limits::SHUTDOWN_TIMEOUT_SECONDS),
            ("recommendationBounds/properties/maxSeconds", 0, limits::SHUTDOWN_TIMEOUT_SECONDS),
        ] {
            let spec = spec();
            let property = spec["properties"].pointer(&format!("/{field}")).unwrap();
            assert_eq!(property["minimum"].as_f64(), json!(minimum).as_f64(), "{field}: {property}");
            assert_eq!(property["maximum"].as_f64(), json!(maximum).as_f64(), "{field}: {property}");
        }
    }

    #[test]
    fn field_descriptions_explain_each_value_and_the_default() {
        for (path, default) in [
            ("/mode", "Enforce"),
            ("/gracePeriodPolicy", "AtLeast"),
            ("/injectionTarget", "Template"),
            ("/preStop/properties/method", "Auto"),
            ("/preStop/properties/existingHookPolicy", "Keep"),
            ("/readinessProbe/properties/mode", "Auto"),
            ("/rollout/properties/mode", "Progressive"),
            ("/rollout/properties/onExposureChange", "NextUpdate"),
            ("/recommendations", "Report"),
        ] {
            let spec = spec();
            let property = spec["properties"].pointer(path).unwrap();
            let description = property["description"].as_str().unwrap().replace('\n', " ");
            for value in property["enum"].as_array().unwrap() {
                let named = format!("`{}`", value.as_str().unwrap());
                assert!(description.contains(&named), "{path}: {named} is missing in {description:?}");
            }
            let plain = description.replace('`', "");
            assert!(plain.ends_with(&format!("Default {default}.")), "{path}: {description:?}");
        }
    }

    #[test]
    fn sum_rule_names_the_default_maximum() {
        let rule = spec()["x-kubernetes-validations"][0].to_string();
        assert!(rule.contains(&format!(": {})", defaults::MAX_GRACE_PERIOD_SECONDS)), "{rule}");
        assert!(rule.contains(&format!("({} if omitted)", defaults::MAX_GRACE_PERIOD_SECONDS)), "{rule}");
    }

    /// The schemas without a maximum, by their path.
    fn unbounded(schema: &Value, path: &str, found: &mut Vec<String>) {
        let has = |keys: &[&str]| keys.iter().all(|key| !schema[key].is_null());
        let is_bounded = match schema["type"].as_str() {
            _ if schema["x-kubernetes-int-or-string"] == true => has(&["minimum", "maximum", "maxLength"]),
            Some("integer" | "number") => has(&["minimum", "maximum"]),
            Some("string") => has(&["maxLength"]) || has(&["enum"]),
            Some("array") => has(&["maxItems"]),
            Some("object") => has(&["properties"]) || has(&["maxProperties"]),
            Some("boolean") => true,
            _ => false,
        };
        if !is_bounded {
            found.push(path.to_owned());
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            unbounded(property, &format!("{path}.{name}"), found);
        }
        for inner in ["items", "additionalProperties"].map(|inner| &schema[inner]) {
            if inner.is_object() {
                unbounded(inner, &format!("{path}[]"), found);
            }
        }
    }

    #[test]
    fn every_field_has_a_maximum() {
        for crd in crds() {
            let schema = json!(crd.spec.versions[0].schema)["openAPIV3Schema"].take();
            let mut found = Vec::new();
            unbounded(&schema, &crd.spec.names.kind, &mut found);
            assert_eq!(found, Vec::<String>::new());
        }
    }

    #[test]
    fn schema_has_no_nullable_field() {
        assert!(!serde_json::to_string(&crds()).unwrap().contains("nullable"));
    }

    #[test]
    fn the_files_in_the_repository_are_up_to_date() {
        let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        for crd in crds() {
            let file = format!("{}.yaml", crd.spec.names.plural);
            let generated = serde_saphyr::to_string(&crd).unwrap();
            for folder in ["crds", "charts/adieu/files/crds"] {
                let path = root.join(folder).join(&file);
                let found = std::fs::read_to_string(&path).unwrap_or_default();
                assert!(found == generated, "{} differs: run cargo xtask generate", path.display());
            }
        }
    }
}
