//! Drain profiles: the drains that the ways in which requests reach pods need, in place of the built-in ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    limits, numbers,
    schema::{EXPOSURE, PRINTABLE, TIME},
};

/// The drain that pods need behind one exposure: a way in which requests reach them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainProfile {
    /// The name of a built-in profile, as `adieu profiles` lists them, or a class: `IngressClass/NAME`,
    /// `GatewayClass/NAME` or `LoadBalancerClass/NAME`. A profile of a class wins over one with the name of a built-in
    /// profile.
    #[schemars(length(min = 1, max = limits::EXPOSURE_LENGTH), regex(pattern = EXPOSURE))]
    pub exposure: String,
    /// The drain in seconds. If it isn't measured, at least 10 s are used.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::DRAIN_SECONDS))]
    pub seconds: i64,
    /// Where the number comes from. It is shown wherever the drain is explained.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::SUMMARY_LENGTH), regex(pattern = PRINTABLE))]
    pub source: Option<String>,
    /// How it was measured. A measured profile wins over one that isn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<DrainMeasurement>,
}

/// How a drain was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainMeasurement {
    /// When it was measured.
    #[schemars(length(max = 20), regex(pattern = TIME))]
    pub time: String,
    /// How many terminations were measured.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 1, max = limits::TERMINATIONS))]
    pub terminations: i64,
    /// The version of the proxy or load balancer, or of Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = PRINTABLE))]
    pub version: Option<String>,
}

#[cfg(test)]
mod tests {
    use regex::Regex;
    use serde_json::{Value, json};

    use super::*;

    fn schema() -> Value {
        json!(schemars::schema_for!(DrainProfile))
    }

    #[test]
    fn a_drain_profile_is_bounded() {
        let schema = schema();
        let property =
            |path: &str| schema.pointer(path).unwrap_or_else(|| panic!("{path}: {schema}")).clone();
        assert_eq!(schema["required"], json!(["exposure", "seconds"]));
        assert_eq!(property("/properties/exposure/maxLength"), json!(limits::EXPOSURE_LENGTH));
        assert_eq!(property("/properties/seconds/minimum"), json!(0));
        assert_eq!(property("/properties/seconds/maximum"), json!(limits::DRAIN_SECONDS));
        assert_eq!(property("/properties/source/maxLength"), json!(limits::SUMMARY_LENGTH));
        assert_eq!(property("/$defs/DrainMeasurement/properties/time/maxLength"), json!(20));
        assert_eq!(property("/$defs/DrainMeasurement/properties/terminations/minimum"), json!(1));
        assert_eq!(property("/$defs/DrainMeasurement/properties/version/maxLength"), json!(64));
    }

    #[test]
    fn an_exposure_is_a_profile_or_a_class() {
        let pattern = Regex::new(EXPOSURE).unwrap();
        for valid in [
            "aws-alb-ip",
            "cluster-ip",
            "IngressClass/nginx",
            "IngressClass/azure/application-gateway",
            "GatewayClass/gke-l7-rilb",
            "LoadBalancerClass/service.k8s.aws/nlb",
        ] {
            assert!(pattern.is_match(valid), "{valid}");
        }
        for invalid in ["", "ClusterIP", "IngressClass/", "IngressClass", "Service/web", "aws alb", "-a"] {
            assert!(!pattern.is_match(invalid), "{invalid}");
        }
    }

    #[test]
    fn a_drain_profile_is_read_as_the_api_server_stores_it() {
        let measured = json!({"time": "2026-01-31T12:00:00Z", "terminations": 200.0, "version": "v3.6.0"});
        let profile: DrainProfile = serde_json::from_value(
            json!({"exposure": "IngressClass/traefik", "seconds": 3.0, "measured": measured}),
        )
        .unwrap();
        let DrainProfile { exposure, seconds, source, measured } = profile;
        assert_eq!((exposure.as_str(), seconds, source), ("IngressClass/traefik", 3, None));
        assert_eq!(measured.unwrap().terminations, 200);
    }
}
