//! The policies of all namespaces.

use std::{collections::BTreeSet, sync::Arc};

use adieu_core::{
    api::{ClusterGracefulPolicy, GracefulPolicy},
    plan::NamespaceContext,
};

use crate::{
    candidate::{Namespace, Options},
    cluster_policy::{self, with},
    member::{Members, kept},
    note::Note,
    policies::{RecommendedPolicy, Recommender},
    policy_times::is_recommended,
};

/// The recommended policies.
#[derive(Clone, Debug)]
pub struct Recommended {
    /// The policy with the defaults of the cluster.
    pub cluster_policy: Option<Arc<ClusterGracefulPolicy>>,
    /// The policies of the namespaces, in the order of namespaces and names.
    pub policies: Vec<RecommendedPolicy>,
    /// Workloads that don't get exactly the times that they need.
    pub notes: Vec<Note>,
    options: Options,
}

/// Recommends policies for the workloads of these namespaces.
#[must_use]
pub fn recommend(namespaces: &[Namespace], options: Options) -> Recommended {
    let (members, notes): (Vec<_>, Vec<_>) =
        namespaces.iter().map(|namespace| Members::of(namespace, options)).unzip();
    let mut notes = notes.concat();
    let cluster_policy = if options.sets_defaults { cluster_policy::recommended(&members) } else { None };
    let mut policies: Vec<RecommendedPolicy> = Vec::new();
    for members in &members {
        let recommender = Recommender::run(members, cluster_policy.as_ref());
        policies.extend(recommender.policies);
        notes.extend(recommender.notes);
    }
    policies.sort_by(|a, b| key(a).cmp(&key(b)));
    notes.sort_unstable();
    Recommended { cluster_policy, policies, notes, options }
}

/// The namespace and name of a policy.
fn key(recommended: &RecommendedPolicy) -> (Option<&str>, Option<&str>) {
    let metadata = &recommended.policy.metadata;
    (metadata.namespace.as_deref(), metadata.name.as_deref())
}

impl Recommended {
    /// The context of a namespace once the policies are applied, and those that are replaced are deleted.
    #[must_use]
    pub fn context(&self, namespace: &str, present: &NamespaceContext) -> NamespaceContext {
        let kept = kept(present, self.options);
        let inside = self.policies.iter().filter(|recommended| key(recommended).0 == Some(namespace));
        let recommended: Vec<_> = inside.map(|recommended| &recommended.policy).collect();
        let names: BTreeSet<_> = recommended.iter().map(|policy| &policy.metadata.name).collect();
        let others = kept.policies.iter().filter(|policy| !names.contains(&policy.metadata.name));
        NamespaceContext {
            policies: others.chain(recommended.iter().copied()).cloned().collect(),
            cluster_policies: with(&kept.cluster_policies, self.cluster_policy.as_ref()),
            ..kept.clone()
        }
    }

    /// Whether a policy of an earlier recommendation is no longer needed.
    #[must_use]
    pub fn is_obsolete(&self, policy: &GracefulPolicy) -> bool {
        let metadata = &policy.metadata;
        let own = (metadata.namespace.as_deref(), metadata.name.as_deref());
        let is_known = self.policies.iter().any(|known| key(known) == own);
        self.options.replaces_earlier && is_recommended(metadata) && !is_known
    }

    /// Whether a cluster policy of an earlier recommendation is no longer needed.
    #[must_use]
    pub fn is_obsolete_in_cluster(&self, policy: &ClusterGracefulPolicy) -> bool {
        let is_it = |known: &Arc<ClusterGracefulPolicy>| known.metadata.name == policy.metadata.name;
        self.options.sets_defaults
            && is_recommended(&policy.metadata)
            && !self.cluster_policy.as_ref().is_some_and(is_it)
    }
}
