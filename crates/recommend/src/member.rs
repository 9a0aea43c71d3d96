//! The workloads of a namespace that recommended policies are for, and the policies that they have.

use std::{collections::BTreeMap, sync::Arc};

use adieu_core::{
    api::{ClusterGracefulPolicy, GracefulPolicy},
    plan::{NamespaceContext, OptIn, Source},
};

use crate::{
    candidate::{AnnotatedOptIn, Candidate, Namespace, Options},
    note::Note,
    policy_times::{context_of, is_recommended, resolved, times},
    times::Times,
};

/// A workload that policies are recommended for.
#[derive(Clone, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) candidate: &'a Candidate,
    /// The times that it gets.
    pub(crate) wanted: Times,
    /// The policy of a user that it follows.
    pub(crate) base: Option<Base>,
    /// Whether something else than a `GracefulPolicy` that selects it opts it in.
    pub(crate) is_opted_in: bool,
}

/// A policy of a user.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub(crate) policy: Arc<GracefulPolicy>,
    /// Whether an annotation names it. Otherwise it selects the workload.
    pub(crate) is_named: bool,
}

impl Member<'_> {
    /// Whether the workload names a policy that exists, so that no other one replaces it.
    pub(crate) fn names_policy(&self) -> bool {
        self.base.as_ref().is_some_and(|base| base.is_named)
    }

    /// Whether it gets its times without a `GracefulPolicy` that selects it.
    pub(crate) fn needs_no_policy(&self, cluster_policies: &[Arc<ClusterGracefulPolicy>]) -> bool {
        let without = || times(&resolved(self.candidate, None, &context_of(vec![], cluster_policies)));
        self.is_opted_in && self.wanted.is_compatible(without())
    }
}

/// The workloads of a namespace that policies are recommended for, and the policies that are kept.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    pub(crate) namespace: &'a Namespace,
    /// The policies, without those that are replaced.
    pub(crate) kept: NamespaceContext,
    /// In the order of their keys.
    pub(crate) all: Vec<Member<'a>>,
}

impl<'a> Members<'a> {
    /// Finds them, with a note for each that gets longer times than it needs.
    pub(crate) fn of(namespace: &'a Namespace, options: Options) -> (Self, Vec<Note>) {
        let kept = kept(&namespace.context, options);
        let wanted = namespace.candidates.iter().filter_map(|candidate| Some((candidate, candidate.wanted?)));
        let members = wanted.map(|(candidate, wanted)| Member {
            candidate,
            wanted,
            base: base(candidate, &kept),
            is_opted_in: is_opted_in(candidate, &kept),
        });
        let mut all: Vec<_> = members.collect();
        all.sort_by(|a, b| a.candidate.key.cmp(&b.candidate.key));
        let notes = unify(&mut all);
        (Self { namespace, kept, all }, notes)
    }
}

/// The policies that are not replaced.
pub(crate) fn kept(context: &NamespaceContext, options: Options) -> NamespaceContext {
    let policies = context.policies.iter();
    let policies = policies.filter(|policy| !options.replaces_earlier || !is_recommended(&policy.metadata));
    let cluster_policies = context.cluster_policies.iter();
    let cluster_policies =
        cluster_policies.filter(|policy| !options.sets_defaults || !is_recommended(&policy.metadata));
    NamespaceContext {
        policies: policies.cloned().collect(),
        cluster_policies: cluster_policies.cloned().collect(),
        ..context.clone()
    }
}

fn base(candidate: &Candidate, kept: &NamespaceContext) -> Option<Base> {
    let find = |name: &str| {
        kept.policies.iter().find(|policy| policy.metadata.name.as_deref() == Some(name)).cloned()
    };
    if let AnnotatedOptIn::Policy(name) = &candidate.opt_in
        && let Some(policy) = find(name)
    {
        return Some(Base { policy, is_named: true });
    }
    match resolved(candidate, None, kept).opt_in {
        OptIn::In(Source::Policy(name)) => find(&name).map(|policy| Base { policy, is_named: false }),
        _ => None,
    }
}

fn is_opted_in(candidate: &Candidate, kept: &NamespaceContext) -> bool {
    let by_cluster_policy = || {
        let resolution = resolved(candidate, None, &context_of(vec![], &kept.cluster_policies));
        matches!(resolution.opt_in, OptIn::In(_))
    };
    candidate.opt_in != AnnotatedOptIn::None || by_cluster_policy()
}

/// No selector tells workloads with the same labels apart, so they get the longest times that one of them needs.
fn unify(members: &mut [Member<'_>]) -> Vec<Note> {
    let mut longest = BTreeMap::new();
    for member in members.iter().filter(|member| !member.names_policy()) {
        let candidate = member.candidate;
        let times = longest.entry((candidate.key.kind, &candidate.labels)).or_insert(member.wanted);
        *times = times.longest(member.wanted);
    }
    let mut notes = Vec::new();
    for member in members.iter_mut().filter(|member| !member.names_policy()) {
        let candidate = member.candidate;
        let Some(times) = longest.get(&(candidate.key.kind, &candidate.labels)) else { continue };
        if !member.wanted.is_compatible(*times) {
            let message = "another workload has the same pod labels and needs longer times, so both get the longer ones";
            notes.push(Note { workload: candidate.key.clone(), message: message.to_owned() });
        }
        member.wanted = *times;
    }
    notes
}
