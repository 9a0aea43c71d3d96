//! The drain that follows from exposures.

use std::{cmp::Reverse, sync::Arc};

use adieu_core::{
    api::{ClusterGracefulPolicy, DrainMeasurement, DrainProfile, defaults, limits},
    plan::{DrainOrigin, RequiredDrain, drain_profiles},
};

use crate::{
    delay::Delay,
    exposure::Exposure,
    profiles::{BUILT_IN, BuiltInProfile},
};

/// The time until a load balancer has deregistered a pod that terminates, in seconds: about 10 s on AWS
/// (aws-load-balancer-controller#1719). Then its delay begins.
pub const DEREGISTRATION_SECONDS: i64 = 10;
/// The kinds of classes that drain profiles may be about.
const CLASSES: [&str; 3] = ["IngressClass/", "GatewayClass/", "LoadBalancerClass/"];

/// A drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Its seconds.
    pub seconds: i64,
    /// The exposure that needs them, and how that is known.
    pub because: String,
}

/// The drain that one exposure needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExposureDrain {
    /// Its seconds.
    pub seconds: i64,
    /// Why they are needed.
    pub reason: String,
    /// Where that is from: a link, a measurement, an annotation or field with its object, or a policy.
    pub source: String,
    /// Which of these it is.
    pub origin: DrainOrigin,
}

/// The drain profiles of policies, which replace built-in ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profiles(Vec<(String, DrainProfile)>);

impl Profiles {
    /// Those of the cluster policies that apply in a namespace.
    #[must_use]
    pub fn of(cluster_policies: &[Arc<ClusterGracefulPolicy>]) -> Self {
        let mut all = Self::default();
        for (policy, profiles) in drain_profiles(cluster_policies) {
            all.add(&policy.to_string(), profiles);
        }
        all
    }

    /// Adds the `drainProfiles` of a policy. Of profiles that are equally specific, the first one wins.
    pub fn add(&mut self, policy: &str, profiles: &[DrainProfile]) {
        self.0.extend(profiles.iter().map(|profile| (policy.to_owned(), profile.clone())));
    }

    /// The profile of an exposure, with its policy: a measured one if there is one, and one of the class before one of the
    /// built-in profile.
    fn find(&self, exposure: &Exposure) -> Option<(&str, &DrainProfile)> {
        let matching = self.0.iter().filter(|(_, profile)| exposure.is(&profile.exposure));
        let rank =
            |profile: &DrainProfile| (profile.measured.is_none(), profile.exposure == exposure.profile.name);
        let first = matching.min_by_key(|(_, profile)| rank(profile));
        first.map(|(policy, profile)| (policy.as_str(), profile))
    }
}

/// Whether a drain profile may be about this: a built-in profile, or a class.
#[must_use]
pub fn is_known_exposure(name: &str) -> bool {
    BUILT_IN.iter().any(|profile| profile.name == name) || CLASSES.iter().any(|class| name.starts_with(class))
}

/// The drain that pods with these exposures need: that of the exposure that needs the longest. It is at least the default,
/// unless all that need so little were measured.
#[must_use]
pub fn drain_of(exposures: &[Exposure], profiles: &Profiles) -> Drain {
    match longest(exposures, profiles) {
        None => Drain {
            seconds: defaults::DRAIN_SECONDS,
            because: "no exposure is known: the default".to_owned(),
        },
        Some((exposure, ExposureDrain { seconds, reason, source, .. })) => {
            Drain { seconds, because: format!("{exposure}: {reason} ({source})") }
        }
    }
}

/// The [`drain_of`] pods for the plan. `None` without an exposure.
#[must_use]
pub fn required_drain(exposures: &[Exposure], profiles: &Profiles) -> Option<RequiredDrain> {
    let (exposure, ExposureDrain { seconds, origin, .. }) = longest(exposures, profiles)?;
    Some(RequiredDrain { seconds, exposure: exposure.short_name(), origin })
}

/// The exposure of these that decides about the drain.
#[must_use]
pub fn longest_of(exposures: &[Exposure], profiles: &Profiles) -> Option<Exposure> {
    longest(exposures, profiles).map(|(exposure, _)| exposure.clone())
}

/// The exposure that needs the longest drain, whatever the order is.
fn longest<'a>(exposures: &'a [Exposure], profiles: &Profiles) -> Option<(&'a Exposure, ExposureDrain)> {
    let drains = exposures.iter().map(|exposure| (exposure, drain_behind(exposure, profiles)));
    drains.max_by_key(|(exposure, drain)| (drain.seconds, Reverse(exposure.to_string())))
}

/// The drain that one exposure needs. What an object gives takes precedence over profiles.
#[must_use]
pub fn drain_behind(exposure: &Exposure, profiles: &Profiles) -> ExposureDrain {
    let of_policy = |policy: &str| format!("drainProfiles of {policy}");
    let found = profiles.find(exposure);
    let ExposureDrain { seconds, mut reason, source, origin } = match (&exposure.delay, found) {
        (Some(delay), _) => after_delay(delay, exposure.profile),
        (None, Some((policy, DrainProfile { seconds, measured: Some(measured), .. }))) => {
            let (reason, source) = (measured_text(measured), of_policy(policy));
            return ExposureDrain { seconds: *seconds, reason, source, origin: DrainOrigin::Measured };
        }
        (None, Some((policy, profile))) => ExposureDrain {
            seconds: profile.seconds,
            reason: profile.source.clone().unwrap_or_else(|| "set by the policy".to_owned()),
            source: of_policy(policy),
            origin: DrainOrigin::DrainProfiles,
        },
        (None, None) => {
            let BuiltInProfile { seconds, evidence, source, .. } = *exposure.profile;
            let (reason, source) = (evidence.to_owned(), source.to_owned());
            ExposureDrain { seconds, reason, source, origin: DrainOrigin::BuiltIn }
        }
    };
    let minimum = defaults::DRAIN_SECONDS;
    if seconds < minimum {
        reason = format!(
            "{reason}; {seconds} s are raised to the default of {minimum} s, because they aren't measured"
        );
    }
    ExposureDrain { seconds: seconds.clamp(minimum, limits::DRAIN_SECONDS), reason, source, origin }
}

/// The drain that follows from a delay.
fn after_delay(delay: &Delay, profile: &BuiltInProfile) -> ExposureDrain {
    let Delay { seconds, source, object } = delay;
    let total = seconds.saturating_add(DEREGISTRATION_SECONDS);
    let BuiltInProfile { min_seconds, evidence, source: link, .. } = *profile;
    if total < min_seconds {
        let reason = format!(
            "a delay of {seconds} s ({source} of {object}) is shorter than what is needed: {evidence}"
        );
        let source = link.to_owned();
        return ExposureDrain { seconds: min_seconds, reason, source, origin: DrainOrigin::BuiltIn };
    }
    let reason = format!(
        "it keeps connections to a deregistered pod for {seconds} s, and takes {DEREGISTRATION_SECONDS} s to deregister it"
    );
    let source = format!("{source} of {object}");
    ExposureDrain { seconds: total, reason, source, origin: DrainOrigin::Object }
}

/// How a drain was measured.
fn measured_text(measured: &DrainMeasurement) -> String {
    let DrainMeasurement { time, terminations, version } = measured;
    let version = version.as_ref().map(|version| format!(" with {version}")).unwrap_or_default();
    let terminations =
        if *terminations == 1 { "1 termination".into() } else { format!("{terminations} terminations") };
    format!("measured in {terminations}{version} at {time}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        object_name::ObjectName,
        profiles::{AWS_NLB_IP, CLUSTER_IP, INGRESS_NGINX, TRAEFIK},
    };

    fn exposure(profile: &'static BuiltInProfile, class: Option<&str>) -> Exposure {
        let object = ObjectName::new("Ingress", "shop", "web");
        Exposure { class: class.map(str::to_owned), ..Exposure::of(profile, object) }
    }

    /// The profiles of a policy `defaults`.
    fn profiles(list: Value) -> Profiles {
        let mut profiles = Profiles::default();
        let list: Vec<DrainProfile> = serde_json::from_value(list).unwrap();
        assert!(list.iter().all(|profile| is_known_exposure(&profile.exposure)));
        profiles.add("ClusterGracefulPolicy defaults", &list);
        profiles
    }

    fn measured(exposure: &str, seconds: i64) -> Value {
        let measured = json!({"time": "2026-01-31T12:00:00Z", "terminations": 200, "version": "v3.6.0"});
        json!({"exposure": exposure, "seconds": seconds, "measured": measured})
    }

    #[test]
    fn the_exposure_that_needs_longest_decides() {
        let drain = drain_of(&[], &Profiles::default());
        assert_eq!(drain, Drain { seconds: 10, because: "no exposure is known: the default".into() });
        let exposures = [exposure(&INGRESS_NGINX, Some("IngressClass/nginx")), exposure(&CLUSTER_IP, None)];
        let drain = drain_of(&exposures, &Profiles::default());
        assert_eq!(
            drain,
            Drain {
                seconds: 30,
                because: "Ingress shop/web (Ingress or Gateway of NGINX, IngressClass/nginx): it may take 15 to 30 s to \
                          notice that a pod terminates (https://github.com/kubernetes/kubernetes/issues/20473)"
                    .into(),
            }
        );
    }

    #[test]
    fn the_most_specific_profile_replaces_the_built_in_one() {
        let nginx = exposure(&INGRESS_NGINX, Some("IngressClass/nginx"));
        let of_profile = json!({"exposure": "ingress-nginx", "seconds": 20, "source": "tried in May"});
        let of_class = json!({"exposure": "IngressClass/nginx", "seconds": 25});
        let of_another = json!({"exposure": "IngressClass/internal", "seconds": 99});
        for (list, expected, reason) in [
            (json!([]), 30, "it may take 15 to 30 s"),
            (json!([of_another]), 30, "it may take 15 to 30 s"),
            (json!([of_profile]), 20, "tried in May (drainProfiles of ClusterGracefulPolicy defaults)"),
            (
                json!([of_profile, of_class]),
                25,
                "set by the policy (drainProfiles of ClusterGracefulPolicy defaults)",
            ),
            (
                json!([measured("ingress-nginx", 12), of_class]),
                12,
                "measured in 200 terminations with v3.6.0 at 2026-01-31",
            ),
            (json!([measured("ingress-nginx", 12), measured("IngressClass/nginx", 3)]), 3, "measured in 200"),
        ] {
            let drain = drain_of(std::slice::from_ref(&nginx), &profiles(list.clone()));
            assert_eq!(drain.seconds, expected, "{list}");
            assert!(drain.because.contains(reason), "{list}: {}", drain.because);
        }
    }

    #[test]
    fn less_than_the_default_must_be_measured_for_every_exposure() {
        let both = [exposure(&CLUSTER_IP, None), exposure(&TRAEFIK, Some("IngressClass/traefik"))];
        let given = json!({"exposure": "traefik", "seconds": 3});
        for (list, expected, reason) in [
            (json!([given, measured("cluster-ip", 2)]), 10, "3 s are raised to the default of 10 s"),
            (json!([measured("traefik", 3)]), 10, "3 to 5 s are usual"),
            (
                json!([measured("traefik", 3), measured("cluster-ip", 2)]),
                3,
                "IngressClass/traefik): measured in 200",
            ),
        ] {
            let drain = drain_of(&both, &profiles(list.clone()));
            assert_eq!(drain.seconds, expected, "{list}");
            assert!(drain.because.contains(reason), "{list}: {}", drain.because);
        }
    }

    #[test]
    fn a_delay_takes_precedence_within_what_is_needed_and_allowed() {
        let overridden = profiles(json!([measured("aws-nlb-ip", 60)]));
        for (seconds, expected, reason) in [
            (30, 120, "a delay of 30 s (an-annotation of Service shop/web) is shorter than what is needed"),
            (110, 120, "for 110 s, and takes 10 s to deregister it (an-annotation of Service shop/web)"),
            (180, 190, "for 180 s"),
            (3600, 3600, "for 3600 s"),
            (i64::MAX, 3600, "to deregister it (an-annotation"),
        ] {
            let object = ObjectName::new("Service", "shop", "web");
            let delay = Delay { seconds, source: "an-annotation", object };
            let exposure = Exposure { delay: Some(delay), ..exposure(&AWS_NLB_IP, None) };
            let drain = drain_of(&[exposure], &overridden);
            assert_eq!(drain.seconds, expected, "{seconds}");
            assert!(drain.because.contains(reason), "{seconds}: {}", drain.because);
        }
    }

    #[test]
    fn only_profiles_and_classes_are_exposures() {
        for (name, expected) in [
            ("aws-alb-ip", true),
            ("IngressClass/nginx", true),
            ("LoadBalancerClass/service.k8s.aws/nlb", true),
            ("aws-alb", false),
            ("Service/web", false),
        ] {
            assert_eq!(is_known_exposure(name), expected, "{name}");
        }
    }
}
