use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::*;
use crate::{
    api::{GracefulPolicy, annotations::APPLIED_RECOMMENDATION},
    plan::{Kind, NamespaceContext, resolve},
};

/// The recommendation of a shutdown timeout instead of another one.
fn recommend(current: i64, recommended: i64, confidence: Confidence) -> Recommendation {
    Recommendation {
        summary: String::new(),
        field: Recommendation::SHUTDOWN_TIMEOUT.into(),
        current_seconds: current,
        recommended_seconds: recommended,
        confidence,
    }
}

fn longer() -> Recommendation {
    recommend(30, 55, Confidence::Medium)
}

fn shorter() -> Recommendation {
    recommend(30, 12, Confidence::High)
}

fn now() -> Timestamp {
    "2026-02-01T12:00:00Z".parse().unwrap()
}

/// The shutdown timeout of the policy with these fields.
fn own_timeout(policy: &Value) -> i64 {
    policy["shutdownTimeoutSeconds"].as_i64().unwrap_or(30)
}

/// A workload under a policy with `recommendations: Apply`, a shutdown timeout of 30 s and these fields.
#[derive(Clone)]
struct Case {
    policy: Value,
    annotations: BTreeMap<String, String>,
    controlled: bool,
}

impl Case {
    fn of(policy: Value) -> Self {
        Self { policy, annotations: BTreeMap::new(), controlled: false }
    }

    fn plain() -> Self {
        Self::of(json!({}))
    }

    fn annotated(key: &str, value: &str) -> Self {
        Self { annotations: [(key.to_owned(), value.to_owned())].into(), ..Self::plain() }
    }

    /// With this value applied that many hours ago.
    fn applied(self, seconds: i64, hours: i64) -> Self {
        let text = AppliedRecommendation::text(
            seconds,
            now() - SignedDuration::from_hours(hours),
            Some(own_timeout(&self.policy)),
        );
        Self { annotations: [(APPLIED_RECOMMENDATION.to_owned(), text.unwrap())].into(), ..self }
    }

    /// The shutdown timeouts before and after.
    fn change(&self, recommendation: &Recommendation) -> Option<(i64, i64)> {
        let mut spec = json!({"selector": {}, "shutdownTimeoutSeconds": 30, "recommendations": "Apply"});
        spec.as_object_mut().unwrap().extend(self.policy.as_object().unwrap().clone());
        let policy: GracefulPolicy = serde_json::from_value(json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"}, "spec": spec,
        }))
        .unwrap();
        let context = NamespaceContext { policies: vec![Arc::new(policy)], ..NamespaceContext::default() };
        let template =
            json!({"spec": {"containers": [{"name": "web"}], "terminationGracePeriodSeconds": 30}});
        let workload = Workload {
            controlled: self.controlled,
            ..Workload::new(Kind::Deployment, &self.annotations, &template)
        };
        let resolution = resolve(&workload, &context);
        let change = recommendation_change(&workload, &resolution, recommendation, true, now())?;
        let RecommendationChange { before_seconds, after_seconds, policy, annotation, .. } = change;
        assert_eq!(policy, Source::Policy("all".into()));
        let own = Some(own_timeout(&self.policy));
        assert_eq!(Some(annotation), AppliedRecommendation::text(after_seconds, now(), own));
        Some((before_seconds, after_seconds))
    }
}

#[test]
fn a_longer_value_is_applied_immediately_within_its_bounds() {
    let [capped, bounded] = [
        json!({"maxGracePeriodSeconds": 60}),
        json!({"recommendationBounds": {"minSeconds": 10, "maxSeconds": 40}}),
    ]
    .map(Case::of);
    for (case, expected) in [
        (Case::plain(), Some((30, 55))),
        (Case::plain().applied(30, 0), Some((30, 55))),
        // What drain and margin leave.
        (capped.clone(), Some((30, 45))),
        (bounded.clone(), Some((30, 40))),
        // It is applied already, and not rolled out yet.
        (Case::plain().applied(55, 48), None),
        (bounded.clone().applied(55, 48), None),
        (capped.applied(55, 48), None),
        // The policy has a longer one than the evidence is about.
        (Case::of(json!({"shutdownTimeoutSeconds": 40})), Some((40, 55))),
        (Case::of(json!({"shutdownTimeoutSeconds": 60})), None),
        // A bound doesn't shorten a value because a longer one is recommended.
        (Case::of(json!({"recommendationBounds": {"maxSeconds": 20}})), None),
    ] {
        assert_eq!(case.change(&longer()), expected, "{} {:?}", case.policy, case.annotations);
    }
}

#[test]
fn a_shorter_value_is_applied_in_small_steps_one_a_day() {
    let minimum = |seconds: i64| Case::of(json!({"recommendationBounds": {"minSeconds": seconds}}));
    let timeout = |seconds: i64| Case::of(json!({"shutdownTimeoutSeconds": seconds}));
    let high = |current, recommended| recommend(current, recommended, Confidence::High);
    for (case, recommendation, expected) in [
        (Case::plain(), shorter(), Some((30, 23))),
        (Case::plain(), high(30, 24), Some((30, 24))),
        (Case::plain(), recommend(30, 12, Confidence::Medium), None),
        (Case::plain().applied(23, 23), high(23, 12), None),
        (Case::plain().applied(23, 24), high(23, 12), Some((23, 18))),
        (Case::plain().applied(23, -23), high(23, 12), None),
        // A forged time doesn't keep a value forever.
        (Case::plain().applied(23, -24), high(23, 12), Some((23, 18))),
        // The pods have an earlier value than the policy or the annotation.
        (Case::plain().applied(23, 48), shorter(), None),
        (timeout(60), shorter(), None),
        (minimum(25), shorter(), Some((30, 25))),
        (minimum(30), shorter(), None),
        // A bound doesn't shorten a value further than the evidence allows.
        (Case::of(json!({"recommendationBounds": {"maxSeconds": 20}})), shorter(), None),
        (Case::of(json!({"recommendationBounds": {"maxSeconds": 23}})), shorter(), Some((30, 23))),
        (Case::of(json!({"maxGracePeriodSeconds": 32})), high(30, 24), None),
        (timeout(6), high(6, 1), Some((6, 5))),
        (timeout(5), high(5, 1), None),
        (timeout(3), high(3, 1), None),
    ] {
        assert_eq!(
            case.change(&recommendation),
            expected,
            "{} {:?}: {recommendation:?}",
            case.policy,
            case.annotations
        );
    }
}

#[test]
fn nothing_is_applied_without_the_policy_or_against_the_user() {
    let grace_period = |recommendation: Recommendation| Recommendation {
        field: "terminationGracePeriodSeconds".into(),
        ..recommendation
    };
    for case in [
        Case::of(json!({"recommendations": "Off"})),
        Case::of(json!({"recommendations": "Report"})),
        Case::of(json!({"recommendations": null})),
        Case::of(json!({"mode": "Audit"})),
        Case::of(json!({"rollout": {"mode": "Revert"}})),
        Case::of(json!({"selector": null})),
        Case::annotated("adieu.dev/shutdown-timeout-seconds", "30"),
        Case::annotated("adieu.dev/graceful", "false"),
        Case { controlled: true, ..Case::plain() },
    ] {
        for recommendation in [longer(), shorter()] {
            assert_eq!(case.change(&recommendation), None, "{} {:?}", case.policy, case.annotations);
        }
    }
    for recommendation in [longer(), shorter()] {
        assert_eq!(Case::plain().change(&grace_period(recommendation)), None);
    }
}
