//! Checks permissions, of a disruption and others.

use futures::future::try_join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};

use super::{error::Error, kind::Disruption, workload::TargetWorkload};
use crate::index::workloads::resource;

/// A verb on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Such as `list`.
    pub verb: &'static str,
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// With its subresource, such as `pods/eviction`.
    pub resource: String,
    /// Absent for the whole cluster.
    pub namespace: Option<String>,
}

/// Checks that RBAC allows a disruption, if `in_cluster` a load that runs as a Job, and if `is_tuned` another drain.
///
/// # Errors
/// All missing permissions.
pub async fn check(
    client: &Client,
    workload: &TargetWorkload,
    disruption: Disruption,
    in_cluster: bool,
    is_tuned: bool,
) -> Result<(), Error> {
    require(client, &required_permissions(workload, disruption, in_cluster, is_tuned)).await
}

/// Checks that RBAC allows all of these.
///
/// # Errors
/// All missing permissions.
pub async fn require(client: &Client, required: &[Permission]) -> Result<(), Error> {
    let missing = missing(client, required).await?;
    let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::Forbidden(missing.join(", "))) }
}

/// The permissions that the user doesn't have.
///
/// # Errors
/// They can't be checked.
pub async fn missing<'a>(client: &Client, required: &'a [Permission]) -> Result<Vec<&'a Permission>, Error> {
    let allowed = try_join_all(required.iter().map(|permission| is_allowed(client, permission))).await?;
    Ok(required.iter().zip(allowed).filter(|(_, allowed)| !allowed).map(|(one, _)| one).collect())
}

fn required_permissions(
    workload: &TargetWorkload,
    disruption: Disruption,
    in_cluster: bool,
    is_tuned: bool,
) -> Vec<Permission> {
    let inside = Some(workload.namespace.clone());
    let permission = |verb, group, resource: &str, namespace: &Option<String>| Permission {
        verb,
        group,
        resource: resource.to_owned(),
        namespace: namespace.clone(),
    };
    let kind = resource(workload.kind).plural;
    let mut required = vec![
        permission("list", "", "pods", &inside),
        permission("watch", "", "pods", &inside),
        permission("list", "discovery.k8s.io", "endpointslices", &inside),
        permission("watch", "discovery.k8s.io", "endpointslices", &inside),
    ];
    match disruption {
        Disruption::None => {}
        Disruption::Restart => {
            required.extend(["patch", "list", "watch"].map(|verb| permission(verb, "apps", &kind, &inside)));
        }
        Disruption::ScaleDown(_) => {
            let scale = format!("{kind}/scale");
            required.extend(["get", "patch"].map(|verb| permission(verb, "apps", &scale, &inside)));
        }
        Disruption::DeletePod => required.push(permission("delete", "", "pods", &inside)),
        Disruption::Evict => required.push(permission("create", "", "pods/eviction", &inside)),
        Disruption::DrainNode => {
            required.extend(["list", "get", "patch"].map(|verb| permission(verb, "", "nodes", &None)));
            required.extend(["list", "watch"].map(|verb| permission(verb, "", "pods", &None)));
            required.push(permission("create", "", "pods/eviction", &None));
        }
    }
    let patch = permission("patch", "apps", &kind, &inside);
    if is_tuned && !required.contains(&patch) {
        required.push(patch);
    }
    if in_cluster {
        required.extend(["create", "delete"].map(|verb| permission(verb, "batch", "jobs", &inside)));
        required.push(permission("get", "", "pods/log", &inside));
    }
    required
}

async fn is_allowed(client: &Client, permission: &Permission) -> Result<bool, Error> {
    let (resource, subresource) = match permission.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource)),
        None => (permission.resource.as_str(), None),
    };
    let attributes = ResourceAttributes {
        verb: Some(permission.verb.to_owned()),
        group: Some(permission.group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(str::to_owned),
        namespace: permission.namespace.clone(),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() },
        ..SelfSubjectAccessReview::default()
    };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await;
    let answer = answer.map_err(Error::api("check permissions"))?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

impl std::fmt::Display for Permission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { verb, group, resource, namespace } = self;
        let dot = if group.is_empty() { "" } else { "." };
        match namespace {
            Some(namespace) => write!(f, "{verb} {resource}{dot}{group} in namespace {namespace:?}"),
            None => write!(f, "{verb} {resource}{dot}{group} in the whole cluster"),
        }
    }
}
