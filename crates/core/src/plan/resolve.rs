//! Whether a workload is opted in, and its settings: annotations before an applied recommendation before policies before
//! defaults, field by field.

use std::{borrow::Cow, collections::BTreeSet};

use kube::ResourceExt as _;

use super::{
    applied_recommendation::AppliedRecommendation,
    auto_drain,
    context::NamespaceContext,
    matching::selects,
    policy_rank::{AnyPolicy, ranked, ranked_defaults},
    record::Record,
    settings::{ProbeChoice, Setting, Settings},
    source::Source,
    workload::Workload,
};
use crate::api::{
    ClusterGracefulPolicy, EffectiveValues, GracefulPolicy, GracefulPolicySpec, ReadinessProbe,
    RecommendationMode, RolloutMode,
    annotations::{self, Annotations, Invalid},
    defaults, labels,
};

/// Whether a workload is managed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptIn {
    /// By `adieu.dev/graceful: "true"`, by the name of a policy, by a policy's selector, or by the command line.
    In(Source),
    /// By `adieu.dev/graceful: "false"`, which wins over every policy. The workload's annotation wins over its
    /// template's.
    Out,
    /// Neither an annotation nor a policy decides.
    Unspecified,
}

/// The result of annotations and policies for one workload.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// Whether the workload is managed.
    pub opt_in: OptIn,
    /// The effective values, used if the workload is opted in.
    pub settings: Settings,
    /// Whether the injection is reverted: a policy opts the workload in, by its selector or by name, and the effective
    /// rollout mode is `Revert`. `adieu.dev/graceful: "true"` wins.
    pub reverts: bool,
    /// Whether recommendations are applied: the effective mode is `Apply`, and the workload is opted in, and neither
    /// reverted nor another controller's, which would revert the annotation.
    pub applies: bool,
    /// The recommendation in the workload's annotation, if recommendations are applied.
    pub(super) applied: Option<AppliedRecommendation>,
    /// Policies that select the workload or have defaults for it, and lose against another policy of their level.
    pub overridden_policies: Vec<Source>,
    /// Malformed annotations, treated as absent.
    pub invalid: Vec<Invalid>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

impl Resolution {
    /// The policies that opted the workload in or set one of its values.
    #[must_use]
    pub fn policies(&self) -> BTreeSet<&Source> {
        self.settings.sources().chain(self.opted_in_by()).filter_map(Source::policy).collect()
    }

    /// The source that opts the workload in.
    pub(super) fn opted_in_by(&self) -> Option<&Source> {
        match &self.opt_in {
            OptIn::In(source) => Some(source),
            OptIn::Out | OptIn::Unspecified => None,
        }
    }
}

/// One source of settings. The first level that sets a value wins.
struct Level<'a> {
    source: Source,
    spec: Cow<'a, GracefulPolicySpec>,
}

impl Level<'_> {
    /// Its settings, with the defaults of all that it doesn't set.
    fn alone(&self) -> Settings {
        merge(Settings::default(), std::slice::from_ref(self))
    }
}

/// Resolves the settings of a workload.
#[must_use]
pub fn resolve(workload: &Workload<'_>, context: &NamespaceContext) -> Resolution {
    resolve_levels(workload, None, context, |_| ()).0
}

/// Resolves the settings of a workload that replaces `old`: while its exposures are unknown, its automatic drain is not
/// shortened.
pub(super) fn resolve_update(
    new: &Workload<'_>,
    old: Option<&Workload<'_>>,
    context: &NamespaceContext,
) -> Resolution {
    resolve_levels(new, old, context, |_| ()).0
}

/// The [`resolve`]d settings, and those of each level alone, the first of which wins: annotations, the policy that they
/// name, the policies that select the workload, and the cluster's defaults. An applied recommendation comes after the
/// annotations.
pub(super) fn resolve_each(
    workload: &Workload<'_>,
    context: &NamespaceContext,
) -> (Resolution, Vec<(Source, Settings)>) {
    let alone = |levels: &[Level<'_>]| {
        levels.iter().map(|level| (level.source.clone(), level.alone())).collect::<Vec<_>>()
    };
    resolve_levels(workload, None, context, alone)
}

fn resolve_levels<T>(
    workload: &Workload<'_>,
    old: Option<&Workload<'_>>,
    context: &NamespaceContext,
    read: impl FnOnce(&[Level<'_>]) -> T,
) -> (Resolution, T) {
    let [on_workload, on_template] = workload.parsed_annotations();
    let mut warnings = unknown_keys([&on_workload.unknown, &on_template.unknown].into_iter().flatten());
    let invalid = [on_workload.invalid, on_template.invalid].concat();
    let annotations = [on_workload.annotations, on_template.annotations];
    let [on_workload, on_template] = &annotations;
    let named = named_policy(&annotations, context, &mut warnings);
    // There may be thousands of labels, and of policies.
    let labels = workload.template_labels();
    let selects = |spec: &GracefulPolicySpec| selects(spec, workload, &labels);
    let (selecting, overridden) = ranked(context.policies.iter().filter(|p| selects(&p.spec)));
    let cluster_policies = context.cluster_policies.iter();
    let (cluster_selecting, cluster_overridden) =
        ranked(cluster_policies.filter(|p| selects(&p.spec.policy)));
    let (cluster_defaults, defaults_lost) = ranked_defaults(context);
    let cluster_overridden = cluster_overridden.into_iter().chain(defaults_lost).map(AnyPolicy::source);
    let overridden_policies =
        overridden.into_iter().map(AnyPolicy::source).chain(cluster_overridden).collect();

    let level = |source, spec| Level { source, spec: Cow::Borrowed(spec) };
    let mut levels: Vec<Level<'_>> = [
        Some(level(Source::WorkloadAnnotation, &on_workload.settings)),
        Some(level(Source::TemplateAnnotation, &on_template.settings)),
        named.map(|p| level(p.source(), &p.spec)),
        selecting.map(|p| level(p.source(), &p.spec)),
        cluster_selecting.map(|p| level(p.source(), &p.spec.policy)),
        cluster_defaults.map(|p| level(p.source(), &p.spec.policy)),
    ]
    .into_iter()
    .flatten()
    .collect();

    // A manifest that the command line injected may come from policies that the cluster doesn't have, or not yet.
    let rendered = workload.template.rendered_record();
    let selected_by = selecting.map(AnyPolicy::source).or(cluster_selecting.map(AnyPolicy::source));
    let opt_in = opt_in(&annotations, selected_by, rendered);
    let base = rendered.map(|record| record.settings.of_command_line()).unwrap_or_default();
    let mut settings = merge(base, &levels);
    cap(&mut settings, &context.cluster_policies);
    if matches!(opt_in, OptIn::In(_)) {
        warnings.extend(auto_drain::with_exposures(&mut settings, workload, old, &labels, context));
    }
    let graceful = on_workload.graceful.or(on_template.graceful);
    let by_policy = matches!(&opt_in, OptIn::In(by) if *by != Source::CommandLine) && graceful.is_none();
    let reverts = by_policy && settings.rollout_mode.value == RolloutMode::Revert;
    let is_applied = matches!(opt_in, OptIn::In(_)) && !reverts && !workload.controlled;
    let applies = is_applied && settings.recommendations.value == RecommendationMode::Apply;
    let applied = if applies { AppliedRecommendation::of(workload) } else { None };
    let setting = applied.as_ref().and_then(|of| of.setting(workload, &settings, context.native_sleep));
    if let Some(setting) = setting {
        insert_applied(setting, &mut settings, &mut levels);
    }
    let resolution =
        Resolution { opt_in, settings, reverts, applies, applied, overridden_policies, invalid, warnings };
    (resolution, read(&levels))
}

/// Inserts the level of an applied recommendation after the two of annotations.
fn insert_applied(applied: Setting<i64>, settings: &mut Settings, levels: &mut Vec<Level<'_>>) {
    let Setting { value, from: source } = applied.clone();
    let spec = GracefulPolicySpec { shutdown_timeout_seconds: Some(value), ..GracefulPolicySpec::default() };
    levels.insert(2, Level { source, spec: Cow::Owned(spec) });
    if !settings.shutdown_timeout_seconds.from.is_annotation() {
        settings.shutdown_timeout_seconds = applied;
    }
}

/// The policy that the annotations of the workload and its template name.
fn named_policy<'a>(
    [on_workload, on_template]: &[Annotations; 2],
    context: &'a NamespaceContext,
    warnings: &mut Vec<String>,
) -> Option<&'a GracefulPolicy> {
    let name = on_workload.policy.as_ref().or(on_template.policy.as_ref())?;
    let found = context.policies.iter().find(|policy| policy.name_any() == *name);
    if found.is_none() {
        warnings.push(format!(
            "annotation {}: GracefulPolicy {name:?} does not exist in this namespace and is ignored; the other \
             settings apply",
            annotations::POLICY
        ));
    }
    found.map(AsRef::as_ref)
}

fn opt_in(
    [on_workload, on_template]: &[Annotations; 2],
    selected_by: Option<Source>,
    rendered: Option<&Record>,
) -> OptIn {
    let graceful = on_workload.graceful.or(on_template.graceful);
    let opts_in = |annotations: &Annotations| annotations.graceful.is_some() || annotations.policy.is_some();
    if graceful == Some(false) {
        OptIn::Out
    } else if opts_in(on_workload) {
        OptIn::In(Source::WorkloadAnnotation)
    } else if opts_in(on_template) {
        OptIn::In(Source::TemplateAnnotation)
    } else if let Some(source) = selected_by {
        OptIn::In(source)
    } else if rendered.is_some_and(|record| !record.opted_in_by.is_annotation()) {
        OptIn::In(Source::CommandLine)
    } else {
        OptIn::Unspecified
    }
}

/// One warning for each of the first keys, and one for the others: there may be thousands.
fn unknown_keys<'a>(mut keys: impl Iterator<Item = &'a String>) -> Vec<String> {
    const MAX_NAMED: usize = 8;
    let warning = |key: &String| match key.as_str() {
        labels::INJECTION => {
            format!(
                "annotation {key} has no effect: set it as a label of the namespace or of the pod template"
            )
        }
        _ => format!("unknown annotation {key} is ignored: check its spelling"),
    };
    let mut warnings: Vec<_> = keys.by_ref().take(MAX_NAMED).map(warning).collect();
    let others = keys.count();
    if others > 0 {
        let (s, are, their) = if others == 1 { ("", "is", "its") } else { ("s", "are", "their") };
        warnings.push(format!(
            "{others} more unknown annotation{s} under adieu.dev/ {are} ignored: check {their} spelling"
        ));
    }
    warnings
}

fn merge(mut settings: Settings, levels: &[Level<'_>]) -> Settings {
    // From the last level to the first, so that the first one wins.
    for Level { source, spec } in levels.iter().rev() {
        fn set<T>(setting: &mut Setting<T>, value: Option<T>, source: &Source) {
            if let Some(value) = value {
                *setting = Setting { value, from: source.clone() };
            }
        }
        let pre_stop = spec.pre_stop.as_ref();
        let probe = spec.readiness_probe.as_ref().filter(|p| **p != ReadinessProbe::default());
        let rollout = spec.rollout.as_ref();
        if let Some(drain) = spec.drain_seconds {
            settings.drain_seconds = auto_drain::given(drain, source);
        }
        set(&mut settings.shutdown_timeout_seconds, spec.shutdown_timeout_seconds, source);
        set(&mut settings.sidecar_seconds, spec.sidecar_seconds, source);
        set(&mut settings.margin_seconds, spec.margin_seconds, source);
        set(&mut settings.max_grace_period_seconds, spec.max_grace_period_seconds, source);
        set(&mut settings.grace_period, spec.grace_period_policy, source);
        set(&mut settings.pre_stop_method, pre_stop.and_then(|p| p.method), source);
        set(&mut settings.http_get, pre_stop.and_then(|p| p.http_get.clone()).map(Some), source);
        set(&mut settings.existing, pre_stop.and_then(|p| p.existing_hook_policy), source);
        let choice = probe.map(|p| ProbeChoice { mode: p.mode.unwrap_or_default(), probe: p.probe.clone() });
        set(&mut settings.readiness_probe, choice, source);
        set(&mut settings.exclude, spec.excluded_containers.clone(), source);
        set(&mut settings.injection, spec.injection_target, source);
        set(&mut settings.spread, spec.topology_spread.clone().map(Some), source);
        set(&mut settings.disruption_budget, spec.disruption_budget.clone().map(Some), source);
        set(&mut settings.mode, spec.mode, source);
        set(&mut settings.rollout_mode, rollout.and_then(|r| r.mode), source);
        set(&mut settings.on_exposure_change, rollout.and_then(|r| r.on_exposure_change), source);
        set(&mut settings.recommendations, spec.recommendations, source);
        set(&mut settings.recommendation_bounds, spec.recommendation_bounds, source);
    }
    settings
}

/// The maximum isn't merged: the lowest of all matching cluster policies applies.
fn cap(settings: &mut Settings, cluster_policies: &[std::sync::Arc<ClusterGracefulPolicy>]) {
    let caps = cluster_policies.iter().filter_map(|policy| {
        let value = policy.spec.policy.max_grace_period_seconds?;
        Some(Setting { value, from: policy.source() })
    });
    if let Some(lowest) = caps.min_by_key(|cap| (cap.value, cap.from.clone()))
        && (lowest.value < settings.max_grace_period_seconds.value
            || settings.max_grace_period_seconds.from == Source::Default)
    {
        settings.max_grace_period_seconds = lowest;
    }
}

/// How many workloads may roll out at the same time for a policy: its own value, or that of the cluster's defaults.
pub(super) fn max_concurrent(policy: &Source, context: &NamespaceContext) -> usize {
    let own = match policy {
        Source::Policy(name) => context.policies.iter().find(|p| p.name_any() == *name).map(|p| &p.spec),
        Source::ClusterPolicy(name) => {
            let found = context.cluster_policies.iter().find(|p| p.name_any() == *name);
            found.map(|p| &p.spec.policy)
        }
        _ => None,
    };
    let inherited = ranked_defaults(context).0.map(|p| &p.spec.policy);
    let value = |spec: &GracefulPolicySpec| spec.rollout.as_ref()?.max_concurrent;
    let number = own.and_then(value).or_else(|| inherited.and_then(value));
    usize::try_from(number.unwrap_or(defaults::MAX_CONCURRENT)).unwrap_or(1)
}

/// How many workloads of the namespace may roll out at the same time because of policies: the lowest value of the
/// matching cluster policies.
pub(super) fn max_concurrent_per_namespace(context: &NamespaceContext) -> Option<usize> {
    let limits = context.cluster_policies.iter().filter_map(|policy| {
        let limit = policy.spec.policy.rollout.as_ref()?.max_concurrent_per_namespace?;
        usize::try_from(limit).ok()
    });
    limits.min()
}

/// The values of a policy that neither annotations nor other policies override: its own, those of the cluster policy
/// with the defaults, or the built-in ones. The exposures of a workload may need a longer drain.
#[must_use]
pub fn effective(policy: &GracefulPolicySpec, context: &NamespaceContext) -> EffectiveValues {
    let level = |spec| Level { source: Source::Default, spec: Cow::Borrowed(spec) };
    let defaults = ranked_defaults(context).0.map(|p| &p.spec.policy);
    let levels: Vec<_> = [Some(policy), defaults].into_iter().flatten().map(level).collect();
    let given = levels.iter().find_map(|level| level.spec.drain_seconds);
    let settings = merge(Settings::default(), &levels);
    let [drain, shutdown_timeout, margin] =
        [settings.drain_seconds, settings.shutdown_timeout_seconds, settings.margin_seconds]
            .map(|setting| setting.value);
    EffectiveValues {
        mode: settings.mode.value,
        drain: Some(given.unwrap_or_default()),
        drain_seconds: drain,
        shutdown_timeout_seconds: shutdown_timeout,
        margin_seconds: margin,
        grace_period_seconds: drain + shutdown_timeout + margin,
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
