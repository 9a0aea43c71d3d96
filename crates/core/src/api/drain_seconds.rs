//! The drain of a policy or an annotation: `Auto`, or a number of seconds.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Unexpected},
};

use super::numbers::IntOrString;

/// How long a pod drains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainSeconds {
    /// As long as the exposures of the pod need.
    #[default]
    Auto,
    /// So many seconds.
    Seconds(i64),
}

impl DrainSeconds {
    /// The text of [`DrainSeconds::Auto`].
    pub(super) const AUTO: &str = "Auto";
}

impl From<i64> for DrainSeconds {
    fn from(seconds: i64) -> Self {
        Self::Seconds(seconds)
    }
}

impl Serialize for DrainSeconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str(Self::AUTO),
            Self::Seconds(seconds) => serializer.serialize_i64(*seconds),
        }
    }
}

impl<'de> Deserialize<'de> for DrainSeconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match IntOrString::deserialize(deserializer)? {
            IntOrString::Int(seconds) => Ok(Self::Seconds(seconds)),
            IntOrString::String(text) if text == Self::AUTO => Ok(Self::Auto),
            IntOrString::String(text) => {
                Err(Error::invalid_value(Unexpected::Str(&text), &"Auto or an integer"))
            }
        }
    }
}

impl JsonSchema for DrainSeconds {
    fn schema_name() -> Cow<'static, str> {
        "DrainSeconds".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        IntOrString::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_drain_is_auto_or_a_number() {
        for (given, expected, written) in [
            (json!("Auto"), DrainSeconds::Auto, json!("Auto")),
            (json!(0), DrainSeconds::Seconds(0), json!(0)),
            (json!(300), DrainSeconds::from(300), json!(300)),
            // Beyond the schema, so that a policy of an older version stays readable.
            (json!(86_400.0), DrainSeconds::Seconds(86_400), json!(86_400)),
        ] {
            let read: DrainSeconds = from_value(given.clone()).unwrap();
            assert_eq!((read, json!(read)), (expected, written), "{given}");
        }
        for wrong in [json!("auto"), json!("10"), json!(1.5), json!(null), json!([])] {
            assert!(from_value::<DrainSeconds>(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
