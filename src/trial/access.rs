//! What RBAC has to allow, asked before anything is done.

use futures::future::try_join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};

use super::{Disruption, Error, Workload};
use crate::index::workloads::resource;

/// A verb on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Need {
    verb: &'static str,
    group: &'static str,
    /// With its subresource, such as `pods/eviction`.
    resource: String,
    /// Absent for the whole cluster.
    namespace: Option<String>,
}

/// Checks that RBAC allows all that a trial does; `in_cluster` where its load runs as a Job.
///
/// # Errors
/// Where it doesn't: everything that is missing, at once.
pub async fn check(
    client: &Client,
    workload: &Workload,
    disruption: Disruption,
    in_cluster: bool,
) -> Result<(), Error> {
    let needs = needs(workload, disruption, in_cluster);
    let allowed = try_join_all(needs.iter().map(|need| is_allowed(client, need))).await?;
    let missing: Vec<_> =
        needs.iter().zip(allowed).filter(|(_, allowed)| !allowed).map(|(need, _)| need.to_string()).collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::Forbidden(missing.join(", nor "))) }
}

fn needs(workload: &Workload, disruption: Disruption, in_cluster: bool) -> Vec<Need> {
    let inside = Some(workload.namespace.clone());
    let need = |verb, group, resource: &str, namespace: &Option<String>| Need {
        verb,
        group,
        resource: resource.to_owned(),
        namespace: namespace.clone(),
    };
    let kind = resource(workload.kind).plural;
    let mut needs = vec![
        need("list", "", "pods", &inside),
        need("watch", "", "pods", &inside),
        need("list", "discovery.k8s.io", "endpointslices", &inside),
        need("watch", "discovery.k8s.io", "endpointslices", &inside),
    ];
    match disruption {
        Disruption::None => {}
        Disruption::Restart => {
            needs.extend(["patch", "list", "watch"].map(|verb| need(verb, "apps", &kind, &inside)));
        }
        Disruption::ScaleDown(_) => {
            let scale = format!("{kind}/scale");
            needs.extend(["get", "patch"].map(|verb| need(verb, "apps", &scale, &inside)));
        }
        Disruption::DeletePod => needs.push(need("delete", "", "pods", &inside)),
        Disruption::Evict => needs.push(need("create", "", "pods/eviction", &inside)),
        Disruption::DrainNode => {
            needs.extend(["list", "get", "patch"].map(|verb| need(verb, "", "nodes", &None)));
            needs.extend(["list", "watch"].map(|verb| need(verb, "", "pods", &None)));
            needs.push(need("create", "", "pods/eviction", &None));
        }
    }
    if in_cluster {
        needs.extend(["create", "delete"].map(|verb| need(verb, "batch", "jobs", &inside)));
        needs.push(need("get", "", "pods/log", &inside));
    }
    needs
}

async fn is_allowed(client: &Client, need: &Need) -> Result<bool, Error> {
    let (resource, subresource) = match need.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource)),
        None => (need.resource.as_str(), None),
    };
    let attributes = ResourceAttributes {
        verb: Some(need.verb.to_owned()),
        group: Some(need.group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(str::to_owned),
        namespace: need.namespace.clone(),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() },
        ..SelfSubjectAccessReview::default()
    };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await;
    let answer = answer.map_err(Error::api("asking what RBAC allows"))?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { verb, group, resource, namespace } = self;
        let dot = if group.is_empty() { "" } else { "." };
        match namespace {
            Some(namespace) => write!(f, "{verb} {resource}{dot}{group} in the namespace {namespace:?}"),
            None => write!(f, "{verb} {resource}{dot}{group} in the whole cluster"),
        }
    }
}
