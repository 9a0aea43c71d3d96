//! The drain that the exposures of pods need. The plan doesn't know the exposures themselves, which are the ways in which
//! requests reach pods, such as a Service, an Ingress or a load balancer.

use std::{
    collections::BTreeMap,
    fmt::{self, Debug, Display, Formatter},
};

use crate::{
    api::{defaults, limits},
    text::truncate_chars,
};

/// The maximum number of characters of an exposure in a text.
const MAX_SHOWN: usize = 180;

/// The exposures of the pods of one namespace.
pub trait Exposures: Debug + Send + Sync {
    /// The longest drain that an exposure of pods with these labels needs. `None` if they have no exposure.
    fn required_drain(&self, labels: &BTreeMap<String, String>) -> Option<RequiredDrain>;

    /// Whether all exposures of pods with these labels are known. If not, an automatic drain that was injected is not
    /// shortened.
    fn completeness(&self, _labels: &BTreeMap<String, String>) -> Completeness {
        Completeness::Complete
    }
}

/// Whether all exposures of pods are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// They are.
    Complete,
    /// Some may not be.
    Incomplete {
        /// The object because of which some stay unknown, such as `Ingress shop/web`, if that concerns the workload's users.
        object: Option<String>,
    },
}

impl Completeness {
    /// The warning about an object that can't be used.
    pub(super) fn warning(&self) -> Option<String> {
        let Self::Incomplete { object: Some(object) } = self else { return None };
        let object = truncate_chars(object, MAX_SHOWN);
        Some(format!("the drain may be too short, because adieu cannot use {object}: see its Event"))
    }
}

/// The drain that the exposures of pods need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredDrain {
    /// Its seconds.
    pub seconds: i64,
    /// The exposure that needs it, such as `Ingress shop/web (class alb)`.
    pub exposure: String,
    /// How that is known.
    pub origin: DrainOrigin,
}

/// How it is known which drain an exposure needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainOrigin {
    /// By a built-in profile.
    BuiltIn,
    /// By a drain profile of a policy that isn't measured.
    DrainProfiles,
    /// By a measurement.
    Measured,
    /// By an object, such as a deregistration delay.
    Object,
}

impl RequiredDrain {
    /// Its seconds within the limits. Only a measurement makes the drain shorter than the default.
    pub(super) fn bounded_seconds(&self) -> i64 {
        let least = if self.origin == DrainOrigin::Measured { 0 } else { defaults::DRAIN_SECONDS };
        self.seconds.clamp(least, limits::DRAIN_SECONDS)
    }
}

impl Display for RequiredDrain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let exposure = truncate_chars(&self.exposure, MAX_SHOWN);
        write!(f, "{exposure} needs {} s ({})", self.bounded_seconds(), self.origin)
    }
}

impl Display for DrainOrigin {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BuiltIn => "built in",
            Self::DrainProfiles => "drainProfiles",
            Self::Measured => "measured",
            Self::Object => "read from the object",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_measurement_makes_a_drain_shorter_than_the_default() {
        for (seconds, origin, expected) in [
            (300, DrainOrigin::BuiltIn, "Ingress shop/web (class alb) needs 300 s (built in)"),
            (3, DrainOrigin::DrainProfiles, "Ingress shop/web (class alb) needs 10 s (drainProfiles)"),
            (3, DrainOrigin::Measured, "Ingress shop/web (class alb) needs 3 s (measured)"),
            (-1, DrainOrigin::Measured, "Ingress shop/web (class alb) needs 0 s (measured)"),
            (
                i64::MAX,
                DrainOrigin::Object,
                "Ingress shop/web (class alb) needs 3600 s (read from the object)",
            ),
        ] {
            let exposure = "Ingress shop/web (class alb)".to_owned();
            assert_eq!(RequiredDrain { seconds, exposure, origin }.to_string(), expected);
        }
        let long = RequiredDrain { seconds: 20, exposure: "x".repeat(1000), origin: DrainOrigin::BuiltIn };
        let text = long.to_string();
        assert!(text.ends_with("… needs 20 s (built in)") && text.len() <= limits::SUMMARY_LENGTH, "{text}");
    }
}
