//! Who is opted in, and with which settings: annotations before policies before defaults, field by field.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
    jiff::Timestamp,
};
use kube::ResourceExt;

use super::{Kind, NamespaceContext, ProbeChoice, Setting, Settings, Source, Workload, record};
use crate::api::{
    ClusterGracefulPolicy, EffectiveValues, GracefulPolicy, GracefulPolicySpec, ReadinessProbe, RolloutMode,
    annotations::{self, Invalid},
    defaults, labels,
};

/// Whether a workload is managed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptIn {
    /// By `adieu.dev/graceful: "true"`, by naming a policy, selected by one, or by the command line.
    In(Source),
    /// By `adieu.dev/graceful: "false"`, which wins over every policy. The workload's own annotation counts
    /// before its template's.
    Out,
    /// Nobody said anything.
    Unmentioned,
}

/// What annotations and policies come to for one workload.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// Whether the workload is managed.
    pub opt_in: OptIn,
    /// The effective values; they count where the workload is opted in.
    pub settings: Settings,
    /// Whether what was injected is reverted: a policy opts the workload in, by its selector or because an
    /// annotation names it, and the effective rollout mode is `Revert`. `adieu.dev/graceful: "true"` wins.
    pub reverts: bool,
    /// Policies that select the workload or would give it defaults, and lost against another of their level.
    pub conflicted: Vec<Source>,
    /// Malformed annotations, which counted as absent.
    pub invalid: Vec<Invalid>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl Resolution {
    /// The policies that opted the workload in or set one of its values.
    #[must_use]
    pub fn policies(&self) -> BTreeSet<&Source> {
        self.settings.sources().chain(self.opted_in_by()).filter(|source| source.is_policy()).collect()
    }

    /// Who opted the workload in.
    pub(super) fn opted_in_by(&self) -> Option<&Source> {
        match &self.opt_in {
            OptIn::In(source) => Some(source),
            OptIn::Out | OptIn::Unmentioned => None,
        }
    }
}

/// Something that speaks for a workload; the first to say a value wins.
struct Level<'a> {
    source: Source,
    spec: &'a GracefulPolicySpec,
}

/// Resolves the settings of a workload.
#[must_use]
pub fn resolve(workload: &Workload<'_>, context: &NamespaceContext) -> Resolution {
    let [on_workload, on_template] = workload.parsed_annotations();
    let mut warnings = unknown_keys([&on_workload.unknown, &on_template.unknown].into_iter().flatten());
    let invalid = [on_workload.invalid, on_template.invalid].concat();
    let [on_workload, on_template] = [on_workload.annotations, on_template.annotations];
    let graceful = on_workload.graceful.or(on_template.graceful);
    let policy_name = on_workload.policy.as_ref().or(on_template.policy.as_ref());

    let named = policy_name.and_then(|name| {
        let found = context.policies.iter().find(|policy| policy.name_any() == *name);
        if found.is_none() {
            warnings.push(format!(
                "annotation {}: GracefulPolicy {name:?} doesn't exist in this namespace; without it the other settings count",
                annotations::POLICY
            ));
        }
        found
    });
    let in_cluster = || context.cluster_policies.iter();
    // There may be thousands of labels, and of policies.
    let labels = workload.template_labels();
    let selects = |spec: &GracefulPolicySpec| selects(spec, workload, &labels);
    let (selecting, lost) = ranked(context.policies.iter().filter(|p| selects(&p.spec)));
    let (cluster_selecting, cluster_lost) = ranked(in_cluster().filter(|p| selects(&p.spec.policy)));
    let (cluster_defaults, defaults_lost) = ranked_defaults(context);
    let cluster_lost = cluster_lost.into_iter().chain(defaults_lost).map(AnyPolicy::source);
    let conflicted = lost.into_iter().map(AnyPolicy::source).chain(cluster_lost).collect();

    let level = |source, spec| Level { source, spec };
    let levels: Vec<Level<'_>> = [
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

    // What the command line injected stands for policies that the cluster may not have, or not yet.
    let rendered = record::read(workload.template).filter(|record| record.rendered);

    let opt_in = if graceful == Some(false) {
        OptIn::Out
    } else if on_workload.graceful.is_some() || on_workload.policy.is_some() {
        OptIn::In(Source::WorkloadAnnotation)
    } else if graceful.is_some() || policy_name.is_some() {
        OptIn::In(Source::TemplateAnnotation)
    } else if let Some(source) = selecting.map(AnyPolicy::source).or(cluster_selecting.map(AnyPolicy::source))
    {
        OptIn::In(source)
    } else if rendered.as_ref().is_some_and(|record| !record.opted_in_by.is_annotation()) {
        OptIn::In(Source::CommandLine)
    } else {
        OptIn::Unmentioned
    };
    let base = rendered.map(|record| record.settings.said_by_command_line()).unwrap_or_default();
    let mut settings = merge(base, &levels);
    cap(&mut settings, &context.cluster_policies);
    let by_policy = matches!(&opt_in, OptIn::In(by) if *by != Source::CommandLine) && graceful.is_none();
    let reverts = by_policy && settings.rollout_mode.value == RolloutMode::Revert;
    Resolution { opt_in, settings, reverts, conflicted, invalid, warnings }
}

/// A warning for each of the first, and one for the others: anybody can write thousands.
fn unknown_keys<'a>(mut keys: impl Iterator<Item = &'a String>) -> Vec<String> {
    const TOLD: usize = 8;
    let means_nothing = |key: &String| match key.as_str() {
        labels::INJECTION => {
            format!("annotation {key} has no effect: it is a label, of the namespace or of the pod template")
        }
        _ => format!("annotation {key} means nothing to adieu and is ignored: check its spelling"),
    };
    let mut warnings: Vec<_> = keys.by_ref().take(TOLD).map(means_nothing).collect();
    let others = keys.count();
    if others > 0 {
        warnings.push(format!(
            "{others} more annotations under adieu.dev/ mean nothing to adieu: check their spelling"
        ));
    }
    warnings
}

fn merge(mut settings: Settings, levels: &[Level<'_>]) -> Settings {
    // From the last level to the first, so that the first has the last word.
    for Level { source, spec } in levels.iter().rev() {
        fn say<T>(setting: &mut Setting<T>, value: Option<T>, source: &Source) {
            if let Some(value) = value {
                *setting = Setting { value, from: source.clone() };
            }
        }
        let pre_stop = spec.pre_stop.as_ref();
        let probe = spec.readiness_probe.as_ref().filter(|p| **p != ReadinessProbe::default());
        let rollout = spec.rollout.as_ref();
        say(&mut settings.drain_seconds, spec.drain_seconds, source);
        say(&mut settings.shutdown_timeout_seconds, spec.shutdown_timeout_seconds, source);
        say(&mut settings.sidecar_seconds, spec.sidecar_seconds, source);
        say(&mut settings.margin_seconds, spec.margin_seconds, source);
        say(&mut settings.max_grace_period_seconds, spec.max_grace_period_seconds, source);
        say(&mut settings.grace_period, spec.grace_period_policy, source);
        say(&mut settings.pre_stop_method, pre_stop.and_then(|p| p.method), source);
        say(&mut settings.http_get, pre_stop.and_then(|p| p.http_get.clone()).map(Some), source);
        say(&mut settings.existing, pre_stop.and_then(|p| p.existing_hook_policy), source);
        let choice = probe.map(|p| ProbeChoice { mode: p.mode.unwrap_or_default(), probe: p.probe.clone() });
        say(&mut settings.readiness_probe, choice, source);
        say(&mut settings.exclude, spec.excluded_containers.clone(), source);
        say(&mut settings.injection, spec.injection_target, source);
        say(&mut settings.spread, spec.topology_spread.clone().map(Some), source);
        say(&mut settings.disruption_budget, spec.disruption_budget.clone().map(Some), source);
        say(&mut settings.mode, spec.mode, source);
        say(&mut settings.rollout_mode, rollout.and_then(|r| r.mode), source);
    }
    settings
}

/// The maximum is outside the merge: the lowest of all cluster policies that match counts, whoever wins
/// otherwise.
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

/// How many workloads may roll out at a time because of a policy: what it says itself, or the cluster's
/// defaults do.
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
    let said = |spec: &GracefulPolicySpec| spec.rollout.as_ref()?.max_concurrent;
    let number = own.and_then(said).or_else(|| inherited.and_then(said));
    usize::try_from(number.unwrap_or(defaults::MAX_CONCURRENT)).unwrap_or(1)
}

/// How many workloads of the namespace may roll out at a time because of policies: the lowest value of the cluster
/// policies that match it.
pub(super) fn max_concurrent_per_namespace(context: &NamespaceContext) -> Option<usize> {
    let limits = context.cluster_policies.iter().filter_map(|policy| {
        let limit = policy.spec.policy.rollout.as_ref()?.max_concurrent_per_namespace?;
        usize::try_from(limit).ok()
    });
    limits.min()
}

/// What a policy comes to where no annotation and no other policy says otherwise: its own values, those of the cluster
/// policy that gives the defaults, or adieu's.
#[must_use]
pub fn effective(policy: &GracefulPolicySpec, context: &NamespaceContext) -> EffectiveValues {
    let level = |spec| Level { source: Source::Default, spec };
    let defaults = ranked_defaults(context).0.map(|p| &p.spec.policy);
    let levels: Vec<_> = [Some(policy), defaults].into_iter().flatten().map(level).collect();
    let settings = merge(Settings::default(), &levels);
    let [drain, shutdown_timeout, margin] =
        [settings.drain_seconds, settings.shutdown_timeout_seconds, settings.margin_seconds]
            .map(|setting| setting.value);
    EffectiveValues {
        mode: settings.mode.value,
        drain_seconds: drain,
        shutdown_timeout_seconds: shutdown_timeout,
        margin_seconds: margin,
        grace_period_seconds: drain + shutdown_timeout + margin,
    }
}

/// Whether `policy` holds for the workload: it is named by it, or selects it. Opting out ends both.
#[must_use]
pub fn holds_for(policy: &GracefulPolicy, workload: &Workload<'_>) -> bool {
    Asks::of(workload).is_some_and(|asks| asks.takes(policy))
}

/// Whether a cluster policy that matches the namespace selects the workload.
#[must_use]
pub fn cluster_policy_holds_for(policy: &ClusterGracefulPolicy, workload: &Workload<'_>) -> bool {
    Asks::of(workload).is_some_and(|asks| asks.takes_of_cluster(policy))
}

/// The policies that hold for the workload, of those that surround it.
#[must_use]
pub fn selecting(workload: &Workload<'_>, context: &NamespaceContext) -> BTreeSet<Source> {
    let Some(asks) = Asks::of(workload) else { return BTreeSet::new() };
    let policies = context.policies.iter().filter(|policy| asks.takes(policy));
    let of_cluster = context.cluster_policies.iter().filter(|policy| asks.takes_of_cluster(policy));
    let policies = policies.map(|policy| Source::Policy(policy.name_any()));
    policies.chain(of_cluster.map(|policy| Source::ClusterPolicy(policy.name_any()))).collect()
}

/// Which policies a workload takes: its annotations are read once for all of them.
struct Asks<'a> {
    workload: &'a Workload<'a>,
    labels: BTreeMap<String, String>,
    named: Option<String>,
}

impl<'a> Asks<'a> {
    /// `None` where it is opted out.
    fn of(workload: &'a Workload<'a>) -> Option<Self> {
        let [on_workload, on_template] = workload.parsed_annotations().map(|parsed| parsed.annotations);
        let graceful = on_workload.graceful.or(on_template.graceful);
        let named = on_workload.policy.or(on_template.policy);
        (graceful != Some(false)).then(|| Self { workload, labels: workload.template_labels(), named })
    }

    fn takes(&self, policy: &GracefulPolicy) -> bool {
        self.named.is_some() && self.named == policy.metadata.name || self.selects(&policy.spec)
    }

    fn takes_of_cluster(&self, policy: &ClusterGracefulPolicy) -> bool {
        self.selects(&policy.spec.policy)
    }

    fn selects(&self, spec: &GracefulPolicySpec) -> bool {
        selects(spec, self.workload, &self.labels)
    }
}

/// Whether a label selector matches. One that can't be read matches nothing; the policy's status says so.
///
/// Every policy is held against every workload, so nothing is copied, as kube's `Selector` would.
#[must_use]
pub fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let mut expected = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    expected.all(|(key, value)| labels.get(key) == Some(value))
        && expressions.all(|LabelSelectorRequirement { key, operator, values }| {
            let value = labels.get(key);
            match (operator.as_str(), values) {
                ("In", Some(values)) => value.is_some_and(|value| values.contains(value)),
                ("NotIn", Some(values)) => value.is_none_or(|value| !values.contains(value)),
                ("Exists", _) => value.is_some(),
                ("DoesNotExist", _) => value.is_none(),
                _ => false,
            }
        })
}

/// Whether a policy selects a workload, by the labels of its template.
fn selects(spec: &GracefulPolicySpec, workload: &Workload<'_>, labels: &BTreeMap<String, String>) -> bool {
    let kinds = spec.kinds.as_deref().unwrap_or(&[Kind::Deployment]);
    workload.kind.is_some_and(|kind| kinds.contains(&kind))
        && spec.selector.as_ref().is_some_and(|selector| matches(selector, labels))
}

/// What the two kinds of policy have in common here.
trait AnyPolicy: ResourceExt {
    fn source(&self) -> Source;
    fn priority(&self) -> i32;
}

impl AnyPolicy for GracefulPolicy {
    fn source(&self) -> Source {
        Source::Policy(self.name_any())
    }

    fn priority(&self) -> i32 {
        self.spec.priority.unwrap_or(0)
    }
}

impl AnyPolicy for ClusterGracefulPolicy {
    fn source(&self) -> Source {
        Source::ClusterPolicy(self.name_any())
    }

    fn priority(&self) -> i32 {
        self.spec.policy.priority.unwrap_or(0)
    }
}

/// Whether a policy says nothing but a maximum, which counts whoever wins.
fn is_cap(spec: &GracefulPolicySpec) -> bool {
    let GracefulPolicySpec { priority, max_grace_period_seconds, .. } = *spec;
    *spec == GracefulPolicySpec { priority, max_grace_period_seconds, ..GracefulPolicySpec::default() }
}

/// The cluster policies without a selector: they select nobody, and the first of them gives the defaults. What is
/// only a maximum stands in nobody's way.
fn ranked_defaults(
    context: &NamespaceContext,
) -> (Option<&ClusterGracefulPolicy>, Vec<&ClusterGracefulPolicy>) {
    let gives_defaults = |spec: &GracefulPolicySpec| spec.selector.is_none() && !is_cap(spec);
    ranked(context.cluster_policies.iter().filter(|policy| gives_defaults(&policy.spec.policy)))
}

/// The policy that wins at its level, by priority, then the older, then the first by name, and the others.
fn ranked<'a, P: AnyPolicy + 'a>(
    policies: impl Iterator<Item = &'a std::sync::Arc<P>>,
) -> (Option<&'a P>, Vec<&'a P>) {
    let mut policies: Vec<&P> = policies.map(AsRef::as_ref).collect();
    policies.sort_by_cached_key(|policy| {
        let created = policy.creation_timestamp().map_or(Timestamp::MAX, |time| time.0);
        (Reverse(policy.priority()), created, policy.name_any())
    });
    let mut policies = policies.into_iter();
    (policies.next(), policies.collect())
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
