//! The warnings of the webhook about a readiness probe, for a workload that was opted in while it was unavailable.

use super::{
    context::{InjectionContext, NamespaceContext},
    evaluate::{Evaluation, RolloutTiming},
    inject::inject,
    resolve::OptIn,
    workload::Workload,
};

/// The warnings that no request got, if an annotation opted the workload in and it has no injection yet. `evaluation` is
/// that of the workload; its own warnings are not repeated.
#[must_use]
pub fn missed_warnings(
    workload: &Workload<'_>,
    evaluation: &Evaluation,
    context: &NamespaceContext,
) -> Vec<String> {
    let Evaluation { resolution, timing, template, warnings, .. } = evaluation;
    let is_first = workload.template.record().is_none() && template.is_some();
    let OptIn::In(by) = &resolution.opt_in else { return vec![] };
    if !is_first || *timing != RolloutTiming::Immediate {
        return vec![];
    }
    let injection =
        InjectionContext { opting_in: true, ..InjectionContext::of(workload, context, false, by) };
    let injected = inject(&workload.template, None, &resolution.settings, &injection);
    injected.warnings.into_iter().filter(|warning| !warnings.contains(warning)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::GracefulPolicy,
        plan::{Kind, admit, evaluate},
    };

    /// A template with a port that no Service sends to.
    fn template() -> Value {
        json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [{"name": "web", "ports": [{"containerPort": 3000}]}],
                "terminationGracePeriodSeconds": 30,
            },
        })
    }

    fn annotated(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (format!("adieu.dev/{key}"), (*value).to_owned())).collect()
    }

    /// A policy with this spec for all workloads of the namespace.
    fn policy(mut spec: Value) -> NamespaceContext {
        spec["selector"] = json!({});
        let policy = json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"}, "spec": spec,
        });
        let policy: GracefulPolicy = serde_json::from_value(policy).unwrap();
        NamespaceContext { policies: vec![policy.into()], ..NamespaceContext::default() }
    }

    fn missed(
        template: &Value,
        annotations: &BTreeMap<String, String>,
        context: &NamespaceContext,
    ) -> Vec<String> {
        let workload = Workload::new(Kind::Deployment, annotations, template);
        missed_warnings(&workload, &evaluate(&workload, context), context)
    }

    #[test]
    fn an_annotation_that_bypassed_the_webhook_gets_the_warnings_of_its_request() {
        let (none, graceful, empty) =
            (annotated(&[]), annotated(&[("graceful", "true")]), NamespaceContext::default());
        let plain = template();
        let old = Workload::new(Kind::Deployment, &none, &plain);
        let new = Workload::new(Kind::Deployment, &graceful, &plain);
        let requested = admit(&new, Some(&old), &empty).warnings;
        assert_eq!(requested.len(), 1, "{requested:?}");
        assert_eq!(missed(&plain, &graceful, &empty), requested);

        let injected = evaluate(&new, &empty).template.unwrap();
        let without_port = json!({"spec": {"containers": [{"name": "web"}]}});
        let never = annotated(&[("graceful", "true"), ("readiness-probe", "never")]);
        for (template, annotations, context) in [
            (&injected, &graceful, &empty),
            (&without_port, &graceful, &empty),
            (&plain, &never, &empty),
            (&plain, &none, &empty),
            (&plain, &none, &policy(json!({}))),
            (&plain, &graceful, &policy(json!({"mode": "Audit"}))),
        ] {
            assert_eq!(missed(template, annotations, context), [""; 0], "{template} {annotations:?}");
        }
    }

    #[test]
    fn warnings_of_the_evaluation_are_not_repeated() {
        let graceful = annotated(&[("graceful", "true")]);
        let mut own_hook = template();
        own_hook["spec"]["containers"][0]["lifecycle"] =
            json!({"preStop": {"exec": {"command": ["/drain"]}}});
        let workload = Workload::new(Kind::Deployment, &graceful, &own_hook);
        let context = NamespaceContext::default();
        let evaluation = evaluate(&workload, &context);
        assert!(!evaluation.warnings.is_empty());
        let missed = missed_warnings(&workload, &evaluation, &context);
        assert!(missed.len() == 1 && missed[0].contains("no readiness probe"), "{missed:?}");
    }
}
