//! The policies of a namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use adieu_core::{
    api::{ClusterGracefulPolicy, GracefulPolicy, GracefulPolicySpec, WorkloadKind, limits},
    keys::WorkloadKey,
    plan::Resolution,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{ResourceExt, core::ObjectMeta};

use crate::{
    cluster_policy::with,
    group::{Group, groups},
    member::{Member, Members},
    name::{name, unused},
    note::{Note, annotations},
    policy_times::{context_of, label, raise_maximum, resolved, set, times},
    selector::{Labels, selectors},
    times::Times,
};

/// A policy with the workloads that it is for.
#[derive(Clone, Debug)]
pub struct RecommendedPolicy {
    /// The policy.
    pub policy: Arc<GracefulPolicy>,
    /// The workloads.
    pub workloads: Vec<WorkloadKey>,
    /// Whether it is a policy of a user with other times.
    pub is_edited: bool,
}

/// Recommends the policies of one namespace.
pub(crate) struct Recommender<'a> {
    members: &'a Members<'a>,
    cluster_policies: Vec<Arc<ClusterGracefulPolicy>>,
    /// The names of its policies.
    used: BTreeSet<String>,
    pub(crate) policies: Vec<RecommendedPolicy>,
    pub(crate) notes: Vec<Note>,
}

impl<'a> Recommender<'a> {
    /// Recommends the policies, if the cluster has these defaults.
    pub(crate) fn run(members: &'a Members<'a>, defaults: Option<&Arc<ClusterGracefulPolicy>>) -> Self {
        let mut recommender = Self {
            members,
            cluster_policies: with(&members.kept.cluster_policies, defaults),
            used: members.kept.policies.iter().map(|policy| policy.name_any()).collect(),
            policies: vec![],
            notes: vec![],
        };
        let mut by_base: BTreeMap<Option<String>, Vec<&Member<'a>>> = BTreeMap::new();
        for member in &members.all {
            let name = member.base.as_ref().map(|base| base.policy.name_any());
            by_base.entry(name).or_default().push(member);
        }
        for (_, members) in by_base {
            let base = members.first().and_then(|member| member.base.as_ref());
            let base = base.map(|base| base.policy.clone());
            match base {
                None => recommender.add_new(members),
                Some(policy) => recommender.edit(&policy, members),
            }
        }
        recommender
    }

    /// Policies for workloads that follow no policy of a user.
    fn add_new(&mut self, members: Vec<&'a Member<'a>>) {
        for Group { times, members } in groups(members) {
            let needs_one = |member: &&Member<'_>| !member.needs_no_policy(&self.cluster_policies);
            let selected: Vec<_> = members.iter().copied().filter(needs_one).collect();
            let mut new = GracefulPolicy::new("", GracefulPolicySpec::default());
            new.metadata.namespace = Some(self.members.namespace.name.clone());
            label(&mut new.metadata);
            // Those that need none have the same times.
            self.select(&new, name(None, times), times, (selected.as_slice(), members.as_slice()));
        }
    }

    /// A policy of a user with the times that most of its workloads need, and policies for the others.
    fn edit(&mut self, policy: &Arc<GracefulPolicy>, members: Vec<&'a Member<'a>>) {
        let named = |group: &Group<'_>| group.members.iter().filter(|member| member.names_policy()).count();
        let mut groups = groups(members);
        groups.sort_by_cached_key(|group| (named(group), group.members.len(), group.times));
        let Some(main) = groups.pop() else { return };
        let edited = self.with_times(GracefulPolicy::clone(policy), main.times, &main.members);
        let priority = edited.spec.priority.unwrap_or(0);
        for Group { times, members } in groups {
            let (named, selected): (Vec<_>, Vec<_>) =
                members.into_iter().partition(|member| member.names_policy() || priority >= limits::PRIORITY);
            let others = format!(
                "the other workloads of GracefulPolicy {} need other times: annotate it with {}",
                policy.name_any(),
                annotations(times)
            );
            self.note(&named, &others);
            let mut split = edited.clone();
            let namespace = policy.metadata.namespace.clone();
            split.metadata = ObjectMeta { namespace, ..ObjectMeta::default() };
            label(&mut split.metadata);
            split.status = None;
            split.spec.priority = Some(priority + 1);
            let name = name(policy.metadata.name.as_deref(), times);
            self.select(&split, name, times, (selected.as_slice(), selected.as_slice()));
        }
        let workloads = keys(&main.members);
        self.policies.push(RecommendedPolicy { policy: Arc::new(edited), workloads, is_edited: true });
    }

    /// Policies like `like` that select `selected` and no others, except those that need the same.
    fn select(
        &mut self,
        like: &GracefulPolicy,
        name: String,
        times: Times,
        (selected, same): (&[&'a Member<'a>], &[&'a Member<'a>]),
    ) {
        if selected.is_empty() {
            return;
        }
        let kinds = kinds(selected);
        let is_other = |key: &WorkloadKey| {
            kinds.contains(&key.kind) && !same.iter().any(|member| member.candidate.key == *key)
        };
        let candidates = &self.members.namespace.candidates;
        let others = candidates.iter().filter(|candidate| is_other(&candidate.key));
        let others: Vec<&Labels> = others.map(|candidate| &candidate.labels).collect();
        let labels: Vec<&Labels> = selected.iter().map(|member| &member.candidate.labels).collect();
        let (parts, left) = selectors(&labels, &others);
        let at = |positions: &[usize]| -> Vec<&'a Member<'a>> {
            positions.iter().filter_map(|position| selected.get(*position).copied()).collect()
        };
        for (selector, positions) in parts {
            self.add(like.clone(), unused(&name, &self.used), selector, (times, at(&positions)));
        }
        let without = format!(
            "no selector tells its pods from those of other workloads: annotate it with {}",
            annotations(times)
        );
        self.note(&at(&left), &without);
    }

    fn add(
        &mut self,
        mut policy: GracefulPolicy,
        name: String,
        selector: LabelSelector,
        (times, members): (Times, Vec<&'a Member<'a>>),
    ) {
        let kinds: Vec<WorkloadKind> = kinds(&members).into_iter().collect();
        policy.metadata.name = Some(name.clone());
        policy.spec.selector = Some(selector);
        policy.spec.kinds = (kinds != [WorkloadKind::Deployment]).then_some(kinds);
        let policy = Arc::new(self.with_times(policy, times, &members));
        self.used.insert(name);
        self.policies.push(RecommendedPolicy { policy, workloads: keys(&members), is_edited: false });
    }

    /// The policy with those of the times that some of its workloads don't have without them. For a workload that names the
    /// policy, a policy that selects it would set the others.
    fn with_times(
        &self,
        mut policy: GracefulPolicy,
        wanted: Times,
        members: &[&Member<'_>],
    ) -> GracefulPolicy {
        let is_named = members.iter().any(|member| member.names_policy());
        let present: Vec<_> = self.resolutions(&policy, members).iter().map(times).collect();
        let missing = |time: fn(Times) -> Option<i64>| {
            let differs = |seconds: &i64| present.iter().any(|present| time(*present) != Some(*seconds));
            time(wanted).filter(|seconds| is_named || differs(seconds))
        };
        let missing = Times {
            drain_seconds: missing(|times| times.drain_seconds),
            shutdown_timeout_seconds: missing(|times| times.shutdown_timeout_seconds),
        };
        set(&mut policy.spec, missing);
        for resolution in self.resolutions(&policy, members) {
            raise_maximum(&mut policy.spec, &resolution);
        }
        policy
    }

    /// The settings of workloads under a policy.
    fn resolutions(&self, policy: &GracefulPolicy, members: &[&Member<'_>]) -> Vec<Resolution> {
        let context = context_of(vec![Arc::new(policy.clone())], &self.cluster_policies);
        let name = policy.name_any();
        members.iter().map(|member| resolved(member.candidate, Some(&name), &context)).collect()
    }

    fn note(&mut self, members: &[&Member<'_>], message: &str) {
        let notes = members
            .iter()
            .map(|member| Note { workload: member.candidate.key.clone(), message: message.to_owned() });
        self.notes.extend(notes);
    }
}

fn kinds(members: &[&Member<'_>]) -> BTreeSet<WorkloadKind> {
    members.iter().map(|member| member.candidate.key.kind).collect()
}

fn keys(members: &[&Member<'_>]) -> Vec<WorkloadKey> {
    members.iter().map(|member| member.candidate.key.clone()).collect()
}
