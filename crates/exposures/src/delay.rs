//! How long load balancers keep connections to a pod after it is deregistered. Which annotations have such a delay is in
//! the tables of `data_planes.rs`.

use serde::Serialize;
use serde_json::Value;

use crate::object_name::ObjectName;

/// The deregistration delay among the attributes of a target group, in seconds (Elastic Load Balancing).
const DEREGISTRATION_DELAY: &str = "deregistration_delay.timeout_seconds";

/// The maximum length of an annotation with a delay, in bytes.
const MAX_LENGTH: usize = 4096;

/// The time for which a load balancer keeps connections to a deregistered pod, as an object gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Delay {
    /// The time in seconds.
    pub seconds: i64,
    /// The annotation or field that gives it.
    pub source: &'static str,
    /// The object that gives it.
    pub object: ObjectName,
}

/// How a delay is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A number of seconds, without effect unless the annotation `enabled_by` is `true`.
    Seconds { enabled_by: &'static str },
    /// `a=b,deregistration_delay.timeout_seconds=120`.
    Attributes,
}

impl Form {
    /// The annotation without which the delay has no effect, if there is one.
    pub(crate) fn enabled_by(self) -> Option<&'static str> {
        match self {
            Self::Seconds { enabled_by } => Some(enabled_by),
            Self::Attributes => None,
        }
    }

    /// The delay in the value of an annotation, which has a maximum length: it is read for every exposure.
    pub(crate) fn read(self, text: &str) -> Option<i64> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        let number = match self {
            Self::Seconds { .. } => text,
            Self::Attributes => {
                let mut pairs = text.split(',').filter_map(|pair| pair.split_once('='));
                pairs.find(|(key, _)| key.trim() == DEREGISTRATION_DELAY)?.1
            }
        };
        number.trim().parse().ok().filter(|seconds| *seconds >= 0)
    }
}

/// The delay in a field: a number of seconds, or an attribute of a target group with `key` and `value`.
pub(crate) fn of_field(value: &Value) -> Option<i64> {
    let seconds = match value.as_i64() {
        Some(seconds) => seconds,
        None if value["key"] == DEREGISTRATION_DELAY => value["value"].as_str()?.trim().parse().ok()?,
        None => return None,
    };
    (seconds >= 0).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn delays_are_read_in_every_form() {
        let seconds = Form::Seconds { enabled_by: "an-annotation" };
        for (form, text, expected) in [
            (seconds, "60", Some(60)),
            (seconds, "1m", None),
            (seconds, "-1", None),
            (Form::Attributes, "deregistration_delay.timeout_seconds=30", Some(30)),
            (
                Form::Attributes,
                "stickiness.enabled=true, deregistration_delay.timeout_seconds = 30",
                Some(30),
            ),
            (Form::Attributes, "deregistration_delay.timeout_seconds=", None),
            (Form::Attributes, "stickiness.enabled=true", None),
            (Form::Attributes, "30", None),
        ] {
            assert_eq!(form.read(text), expected, "{text}");
        }
        let long = format!("{}deregistration_delay.timeout_seconds=30", "a=b,".repeat(MAX_LENGTH / 4));
        assert_eq!(Form::Attributes.read(&long), None);
        for (field, expected) in [
            (json!(60), Some(60)),
            (json!(-1), None),
            (json!({"key": "deregistration_delay.timeout_seconds", "value": "15"}), Some(15)),
            (json!({"key": "stickiness.enabled", "value": "true"}), None),
            (json!("60"), None),
        ] {
            assert_eq!(of_field(&field), expected, "{field}");
        }
    }
}
