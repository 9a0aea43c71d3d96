//! Numbers that the API server accepts.
//!
//! It accepts `5.0` for an integer, and any 64-bit integer for an int-or-string. Stored values must stay readable, so that
//! one policy never hides the others.

use std::{borrow::Cow, fmt};

use k8s_openapi::apimachinery::pkg::util::intstr;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Unexpected, Visitor},
};

/// The largest integer that every JSON implementation reads exactly: 2^53 - 1.
pub(super) const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// A number, or a text such as the name of a port or a percentage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntOrString {
    /// Wider than a pod's `IntOrString`: the API server doesn't check the 32 bits in a custom resource.
    Int(i64),
    /// A text.
    String(String),
}

impl From<IntOrString> for intstr::IntOrString {
    /// A number that doesn't fit becomes the nearest one that does.
    fn from(value: IntOrString) -> Self {
        match value {
            IntOrString::Int(number) => Self::Int(i32::nearest(number)),
            IntOrString::String(text) => Self::String(text),
        }
    }
}

impl From<i32> for IntOrString {
    fn from(number: i32) -> Self {
        Self::Int(number.into())
    }
}

impl Serialize for IntOrString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Int(number) => serializer.serialize_i64(*number),
            Self::String(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntOrStringVisitor { text: true })
    }
}

impl JsonSchema for IntOrString {
    fn schema_name() -> Cow<'static, str> {
        "IntOrString".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true})
    }
}

/// Reads an optional integer, for `deserialize_with`.
pub(super) fn optional<'de, D: Deserializer<'de>, T: Integer>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<AnyInteger>::deserialize(deserializer)?.map(|AnyInteger(number)| T::nearest(number)))
}

/// Reads an integer, for `deserialize_with`.
pub(super) fn required<'de, D: Deserializer<'de>, T: Integer>(deserializer: D) -> Result<T, D::Error> {
    AnyInteger::deserialize(deserializer).map(|AnyInteger(number)| T::nearest(number))
}

/// An integer of an API type.
pub(super) trait Integer {
    /// The number, or the nearest one that fits.
    fn nearest(number: i64) -> Self;
}

impl Integer for i64 {
    fn nearest(number: i64) -> Self {
        number
    }
}

impl Integer for i32 {
    fn nearest(number: i64) -> Self {
        Self::try_from(number).unwrap_or(if number < 0 { Self::MIN } else { Self::MAX })
    }
}

/// The integer of a JSON number with a decimal point or an exponent, such as 5 for `5.0`.
pub(super) fn whole(number: f64) -> Option<i64> {
    #[allow(clippy::cast_precision_loss)]
    let range = -(MAX_SAFE_INTEGER as f64)..=MAX_SAFE_INTEGER as f64;
    #[allow(clippy::cast_possible_truncation)]
    (number.fract() == 0.0 && range.contains(&number)).then_some(number as i64)
}

struct AnyInteger(i64);

impl<'de> Deserialize<'de> for AnyInteger {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(IntOrStringVisitor { text: false })? {
            IntOrString::Int(number) => Ok(Self(number)),
            IntOrString::String(text) => Err(Error::invalid_type(Unexpected::Str(&text), &"an integer")),
        }
    }
}

struct IntOrStringVisitor {
    /// Whether a text is accepted.
    text: bool,
}

impl Visitor<'_> for IntOrStringVisitor {
    type Value = IntOrString;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.text { "an integer or a string" } else { "an integer" })
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<IntOrString, E> {
        Ok(IntOrString::Int(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<IntOrString, E> {
        Ok(IntOrString::Int(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<IntOrString, E> {
        let wrong = || E::invalid_type(Unexpected::Float(number), &self);
        whole(number).map(IntOrString::Int).ok_or_else(wrong)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<IntOrString, E> {
        if self.text {
            Ok(IntOrString::String(text.to_owned()))
        } else {
            Err(E::invalid_type(Unexpected::Str(text), &self))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Numbers {
        #[serde(default, deserialize_with = "optional")]
        narrow: Option<i32>,
        #[serde(deserialize_with = "required")]
        wide: i64,
    }

    #[test]
    fn integers_are_read_as_the_api_server_reads_them() {
        for (given, narrow, wide) in [
            (json!({"wide": 5}), None, 5),
            (json!({"narrow": null, "wide": -5}), None, -5),
            (json!({"narrow": 5.0, "wide": 5e3}), Some(5), 5000),
            (json!({"narrow": 3_000_000_000_i64, "wide": i64::MAX}), Some(i32::MAX), i64::MAX),
            (json!({"narrow": -3_000_000_000_i64, "wide": u64::MAX}), Some(i32::MIN), i64::MAX),
        ] {
            assert_eq!(from_value::<Numbers>(given.clone()).unwrap(), Numbers { narrow, wide }, "{given}");
        }
        for wrong in [json!(1.5), json!(1e300), json!("5"), json!(true), json!([]), json!(null)] {
            assert!(from_value::<Numbers>(json!({"wide": wrong})).is_err(), "{wrong}");
        }
    }

    #[test]
    fn int_or_string_of_any_size_is_readable_and_fits_into_a_pod() {
        for (given, read, of_pod) in [
            (json!(80), IntOrString::Int(80), intstr::IntOrString::Int(80)),
            (json!(80.0), IntOrString::Int(80), intstr::IntOrString::Int(80)),
            (json!(3_000_000_000_i64), IntOrString::Int(3_000_000_000), intstr::IntOrString::Int(i32::MAX)),
            (json!(i64::MIN), IntOrString::Int(i64::MIN), intstr::IntOrString::Int(i32::MIN)),
            (json!("25%"), IntOrString::String("25%".into()), intstr::IntOrString::String("25%".into())),
        ] {
            let value: IntOrString = from_value(given.clone()).unwrap();
            assert_eq!(value, read, "{given}");
            assert_eq!(from_value::<IntOrString>(json!(value)).unwrap(), read, "{given}: written and read");
            assert_eq!(intstr::IntOrString::from(value), of_pod, "{given}");
        }
        assert!(from_value::<IntOrString>(json!(1.5)).is_err());
    }
}
