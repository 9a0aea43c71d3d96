//! The CustomResourceDefinitions, as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt as _;
use serde_json::json;

use super::{ClusterGracefulPolicy, GracefulPolicy, patterns};

/// Every CustomResourceDefinition of adieu.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![GracefulPolicy::crd(), ClusterGracefulPolicy::crd()];
    for version in crds.iter_mut().flat_map(|crd| &mut crd.spec.versions) {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            forbid_null(schema);
            bound_selectors(schema);
            bound_ports(schema);
            if let Some(probe) = at(schema, &["spec", "readinessProbe", "probe"]) {
                bound_probe(probe);
            }
            if let Some(budget) = at(schema, &["spec", "disruptionBudget"]) {
                bound_budget(budget);
            }
        }
    }
    crds
}

/// The operators of a label selector, and bounds on its lists, without which the cost of a rule over them
/// can't be estimated.
fn bound_selectors(schema: &mut JSONSchemaProps) {
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        bound_selectors(property);
    }
    if let Some(labels) = at(schema, &["matchLabels"]) {
        labels.max_properties = Some(MAX_LABELS);
        if let Some(JSONSchemaPropsOrBool::Schema(value)) = labels.additional_properties.as_mut() {
            bound_label_value(value);
        }
    }
    let Some(expressions) = at(schema, &["matchExpressions"]) else { return };
    expressions.max_items = Some(MAX_EXPRESSIONS);
    if let Some(JSONSchemaPropsOrArray::Schema(expression)) = expressions.items.as_mut()
        && let Some(properties) = expression.properties.as_mut()
    {
        if let Some(operator) = properties.get_mut("operator") {
            operator.enum_ = Some(OPERATORS.into_iter().map(|operator| JSON(json!(operator))).collect());
        }
        if let Some(key) = properties.get_mut("key") {
            (key.pattern, key.max_length) = (Some(patterns::QUALIFIED_NAME.into()), Some(317));
        }
        if let Some(values) = properties.get_mut("values") {
            values.max_items = Some(MAX_VALUES);
            if let Some(JSONSchemaPropsOrArray::Schema(value)) = values.items.as_mut() {
                bound_label_value(value);
            }
        }
    }
}

/// The schema below a way of properties.
fn at<'a>(schema: &'a mut JSONSchemaProps, path: &[&str]) -> Option<&'a mut JSONSchemaProps> {
    path.iter().try_fold(schema, |schema, step| schema.properties.as_mut()?.get_mut(*step))
}

/// A port by number, or by name as Kubernetes has it (`IANA_SVC_NAME`: a letter among its characters).
fn bound_ports(schema: &mut JSONSchemaProps) {
    for (key, property) in schema.properties.iter_mut().flatten() {
        if key == "port" {
            (property.minimum, property.maximum) = (Some(1.0), Some(65_535.0));
            if property.x_kubernetes_int_or_string == Some(true) {
                property.max_length = Some(15);
                property.pattern = Some(patterns::PORT_NAME.into());
            }
        }
        bound_ports(property);
    }
}

/// As many pods as evictions need to make progress at all.
fn bound_budget(budget: &mut JSONSchemaProps) {
    if let Some(unavailable) = at(budget, &["maxUnavailable"]) {
        unavailable.minimum = Some(1.0);
        unavailable.pattern = Some("^([1-9]|[1-9][0-9]|100)%$".into());
    }
}

/// A probe that the API server takes in a pod, and takes as it is: where it would put a default in the
/// place of 0, what is injected would not be what is found.
fn bound_probe(probe: &mut JSONSchemaProps) {
    for (field, least) in [
        ("failureThreshold", 1.0),
        ("initialDelaySeconds", 0.0),
        ("periodSeconds", 1.0),
        ("successThreshold", 1.0),
        ("timeoutSeconds", 1.0),
    ] {
        if let Some(seconds) = at(probe, &[field]) {
            seconds.minimum = Some(least);
        }
    }
    if let Some(scheme) = at(probe, &["httpGet", "scheme"]) {
        scheme.enum_ = Some(["HTTP", "HTTPS"].into_iter().map(|scheme| JSON(json!(scheme))).collect());
    }
    if let Some(path) = at(probe, &["httpGet", "path"]) {
        (path.pattern, path.max_length) = (Some("^/".into()), Some(1024));
    }
    if let Some(headers) = at(probe, &["httpGet", "httpHeaders"]) {
        headers.max_items = Some(MAX_HEADERS);
        if let Some(JSONSchemaPropsOrArray::Schema(header)) = headers.items.as_mut()
            && let Some(name) = at(header, &["name"])
        {
            (name.pattern, name.max_length) = (Some("^[-A-Za-z0-9]+$".into()), Some(256));
        }
    }
}

const MAX_HEADERS: i64 = 32;
const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];
fn bound_label_value(value: &mut JSONSchemaProps) {
    (value.pattern, value.max_length) = (Some(patterns::LABEL_VALUE.into()), Some(63));
}

const MAX_LABELS: i64 = 32;
const MAX_EXPRESSIONS: i64 = 32;
const MAX_VALUES: i64 = 256;

/// An optional field of Rust becomes a nullable one of the schema. `null` would pass the bounds and break
/// the rules that span fields; whoever writes it is told so.
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
    use crate::api::{defaults, limits};

    fn spec() -> Value {
        let crd = serde_json::to_value(&crds()[0]).unwrap();
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
    }

    #[test]
    fn the_schema_bounds_every_number_of_seconds() {
        for (field, minimum, maximum) in [
            ("drainSeconds", 0, limits::DRAIN_SECONDS),
            ("shutdownTimeoutSeconds", 0, limits::SHUTDOWN_TIMEOUT_SECONDS),
            ("marginSeconds", 0, limits::MARGIN_SECONDS),
            ("maxGracePeriodSeconds", 1, limits::MAX_GRACE_PERIOD_SECONDS),
        ] {
            let property = &spec()["properties"][field];
            assert_eq!(property["minimum"].as_f64(), json!(minimum).as_f64(), "{field}: {property}");
            assert_eq!(property["maximum"].as_f64(), json!(maximum).as_f64(), "{field}: {property}");
        }
    }

    #[test]
    fn kubectl_explains_each_value_and_which_one_is_the_default() {
        for (path, default) in [
            ("/mode", "Enforce"),
            ("/gracePeriod", "AtLeast"),
            ("/injection", "Template"),
            ("/preStop/properties/method", "Auto"),
            ("/preStop/properties/existing", "Keep"),
            ("/readinessProbe/properties/mode", "Auto"),
            ("/rollout/properties/mode", "Progressive"),
        ] {
            let spec = spec();
            let property = spec["properties"].pointer(path).unwrap();
            let description = property["description"].as_str().unwrap().replace('\n', " ");
            for value in property["enum"].as_array().unwrap() {
                let named = format!("`{}`", value.as_str().unwrap());
                assert!(description.contains(&named), "{path}: {named} is missing in {description:?}");
            }
            let says = description.replace('`', "");
            assert!(says.ends_with(&format!("Default {default}.")), "{path}: {description:?}");
        }
    }

    #[test]
    fn the_rule_over_the_sum_names_the_default_maximum() {
        let rule = spec()["x-kubernetes-validations"][0].to_string();
        assert!(rule.contains(&format!(": {})", defaults::MAX_GRACE_PERIOD_SECONDS)), "{rule}");
        assert!(rule.contains(&format!("({} where", defaults::MAX_GRACE_PERIOD_SECONDS)), "{rule}");
    }

    #[test]
    fn null_is_nowhere_a_value() {
        assert!(!serde_json::to_string(&crds()).unwrap().contains("nullable"));
    }

    #[test]
    fn the_files_in_the_repository_are_up_to_date() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
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
