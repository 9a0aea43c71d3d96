//! The schemas of Kubernetes types, from its API.

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, LocalObjectReference, PodSecurityContext, SecurityContext, Toleration,
    TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

/// The types that values.yaml may refer to, and the types of their fields, by name.
pub fn definitions() -> Map<String, Value> {
    let mut generator = SchemaGenerator::default();
    let _ = generator.subschema_for::<Affinity>();
    let _ = generator.subschema_for::<EnvVar>();
    let _ = generator.subschema_for::<LabelSelector>();
    let _ = generator.subschema_for::<LocalObjectReference>();
    let _ = generator.subschema_for::<PodSecurityContext>();
    let _ = generator.subschema_for::<Quantity>();
    let _ = generator.subschema_for::<SecurityContext>();
    let _ = generator.subschema_for::<Toleration>();
    let _ = generator.subschema_for::<TopologySpreadConstraint>();
    let definitions = generator.take_definitions(false).into_iter();
    definitions
        .map(|(name, mut schema)| {
            close(&mut schema);
            (short(&name).to_owned(), schema)
        })
        .collect()
}

/// The name of a type without its package.
fn short(name: &str) -> &str {
    name.rsplit(['.', '/']).next().unwrap_or(name)
}

/// Makes a schema reject unknown fields, and removes what is only informative.
fn close(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    fields.retain(|keyword, _| keyword != "description" && keyword != "format");
    if fields.remove("x-kubernetes-int-or-string").is_some() {
        fields.insert("type".to_owned(), json!(["number", "string"]));
    }
    if fields.contains_key("properties") {
        fields.insert("additionalProperties".to_owned(), json!(false));
    }
    for (keyword, value) in fields.iter_mut() {
        match (keyword.as_str(), value) {
            ("$ref", Value::String(reference)) => *reference = format!("#/$defs/{}", short(reference)),
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(close),
            ("items" | "additionalProperties", inner) => close(inner),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_kubernetes_reject_unknown_fields() {
        let definitions = definitions();
        assert_eq!(
            definitions["TopologySpreadConstraint"]["properties"]["labelSelector"],
            json!({"$ref": "#/$defs/LabelSelector"})
        );
        assert_eq!(definitions["Quantity"], json!({"type": ["number", "string"]}));
        for (name, schema) in &definitions {
            let is_open = schema["type"] == "object" && schema["additionalProperties"] != false;
            assert!(!is_open && schema["description"].is_null(), "{name}: {schema}");
        }
    }
}
