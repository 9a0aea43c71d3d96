//! Compares the operator's permissions with those that it used.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::api::ListParams;
use kube::{Api, Client};
use serde::Deserialize;

use crate::install::{self, NAMESPACE, RELEASE};
use crate::progress::Step;
use crate::target::Target;

/// Permissions that a test cluster can't exercise: the kubelets' versions matter only if the API server is older than
/// 1.33.
const ELSEWHERE: (&str, &str, &str) = ("list", "", "nodes");

/// The API groups of Gateways, proxies and load balancers, which a test cluster need not have.
const NOT_INSTALLED: [&str; 9] = [
    "gateway.networking.k8s.io",
    "networking.istio.io",
    "projectcontour.io",
    "traefik.io",
    "traefik.containo.us",
    "elbv2.k8s.aws",
    "gateway.k8s.aws",
    "cloud.google.com",
    "networking.gke.io",
];

/// Kinds that the same code handles, so using a permission for one counts for all.
const ALIKE: [(&str, &[&str]); 2] = [
    ("workloads", &["deployments", "statefulsets", "daemonsets"]),
    ("policies/status", &["gracefulpolicies/status", "clustergracefulpolicies/status"]),
];

/// The annotation of an entry with the authorization decision.
const DECISION: &str = "authorization.k8s.io/decision";

/// A permission: a verb on a resource or subresource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Permission {
    group: String,
    resource: String,
    verb: String,
}

impl Permission {
    fn new(verb: &str, group: &str, resource: &str) -> Self {
        let alike = ALIKE.into_iter().find(|(_, resources)| resources.contains(&resource));
        let resource = alike.map_or(resource, |(name, _)| name);
        Self { group: group.to_owned(), resource: resource.to_owned(), verb: verb.to_owned() }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, resource, verb } = self;
        let dot = if group.is_empty() { "" } else { "." };
        write!(f, "{verb} {resource}{dot}{group}")
    }
}

/// The parts of an audit log entry that are used here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    user: User,
    verb: String,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<Reference>,
    response_status: Option<Status>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    resource: Option<String>,
    subresource: Option<String>,
    api_group: Option<String>,
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    code: Option<u16>,
}

/// The permissions that a user used, and those that were missing: denied in a namespace, or across all, where the same
/// was never granted. A kube-apiserver that has just started denies for a moment what its roles allow, until it has
/// read them.
#[derive(Debug, Default, PartialEq, Eq)]
struct UsedPermissions {
    granted: BTreeSet<Permission>,
    forbidden: BTreeSet<Permission>,
}

/// Checks that every permission of the chart's roles has been used since the cluster started, and that none was
/// missing. Returns a summary.
pub fn check(target: &Target, log: &Path) -> Result<String> {
    let step = Step::start("comparing the operator's permissions with its requests");
    let (username, role_permissions) = target.with_client(|client| async move {
        Ok((install::username(&client).await?, role_permissions(&client).await?))
    })?;
    let log = File::open(log).with_context(|| format!("cannot read {}", log.display()))?;
    let used = used(BufReader::new(log), &username)?;
    let unused: Vec<_> =
        role_permissions.difference(&used.granted).filter(|permission| !is_elsewhere(permission)).collect();
    if !unused.is_empty() {
        bail!("the operator has unused permissions: {}", list(unused));
    }
    if !used.forbidden.is_empty() {
        bail!("the operator lacked permissions: {}", list(&used.forbidden));
    }
    step.done();
    let elsewhere: Vec<_> = role_permissions.iter().filter(|permission| is_elsewhere(permission)).collect();
    Ok(format!(
        "{} of {} permissions used, none missing; not needed here: {}",
        role_permissions.intersection(&used.granted).count(),
        role_permissions.len(),
        list(elsewhere)
    ))
}

fn list<'a>(rights: impl IntoIterator<Item = &'a Permission>) -> String {
    rights.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn is_elsewhere(permission: &Permission) -> bool {
    let Permission { group, resource, verb } = permission;
    ELSEWHERE == (verb, group, resource) || NOT_INSTALLED.contains(&group.as_str())
}

fn used(log: impl BufRead, username: &str) -> Result<UsedPermissions> {
    let mut used = UsedPermissions::default();
    let (mut granted, mut forbidden) = (BTreeSet::new(), BTreeSet::new());
    for line in log.lines() {
        let entry: Entry = serde_json::from_str(&line?).context("the audit log has an invalid line")?;
        // Tests impersonate the account to check denials, with another user agent.
        if entry.user.username != username || !entry.user_agent.starts_with("adieu/") {
            continue;
        }
        let Some(reference) = entry.object_ref else { continue };
        let Reference { resource: Some(mut resource), subresource, api_group, namespace } = reference else {
            continue;
        };
        if let Some(subresource) = subresource {
            resource = format!("{resource}/{subresource}");
        }
        let group = api_group.unwrap_or_default();
        let permission = Permission::new(&entry.verb, &group, &resource);
        // Not every 403 means a missing permission: a terminating namespace rejects new objects.
        if entry.annotations.get(DECISION).is_some_and(|decision| decision == "forbid") {
            forbidden.insert((permission, namespace));
            continue;
        }
        // An apply that creates needs the permission to create as well.
        if entry.response_status.and_then(|status| status.code) == Some(201) {
            used.granted.insert(Permission::new("create", &group, &resource));
        }
        used.granted.insert(permission.clone());
        granted.insert((permission, namespace));
    }
    used.forbidden = forbidden.difference(&granted).map(|(permission, _)| permission.clone()).collect();
    Ok(used)
}

/// The permissions of the operator in the chart's roles. Aggregated roles are for users of namespaces.
async fn role_permissions(client: &Client) -> Result<BTreeSet<Permission>> {
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/instance={RELEASE}"));
    let not_aggregated = ListParams::default().labels(&format!(
        "app.kubernetes.io/instance={RELEASE},!rbac.authorization.k8s.io/aggregate-to-edit"
    ));
    let cluster = Api::<ClusterRole>::all(client.clone()).list(&not_aggregated).await?.items;
    let local = Api::<Role>::namespaced(client.clone(), NAMESPACE).list(&ours).await?.items;
    let rules = cluster.into_iter().filter_map(|role| role.rules);
    Ok(rules.chain(local.into_iter().filter_map(|role| role.rules)).flatten().flat_map(rights).collect())
}

fn rights(rule: PolicyRule) -> Vec<Permission> {
    let PolicyRule { api_groups, resources, verbs, .. } = rule;
    let mut rights = Vec::new();
    for group in api_groups.iter().flatten() {
        for resource in resources.iter().flatten() {
            for verb in &verbs {
                rights.push(Permission::new(verb, group, resource));
            }
        }
    }
    rights
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn used_permissions_are_read_from_the_audit_log() {
        let entry = |user: &str, agent: &str, verb: &str, code: u16, decision: &str| {
            let reference = json!({"resource": "events", "apiGroup": "events.k8s.io", "subresource": null});
            json!({
                "user": {"username": user}, "userAgent": agent, "verb": verb,
                "objectRef": reference, "responseStatus": {"code": code},
                "annotations": {"authorization.k8s.io/decision": decision},
            })
        };
        let log = [
            entry("operator", "adieu/0.1.0", "patch", 201, "allow"),
            entry("operator", "adieu/0.1.0", "update", 403, "allow"),
            entry("operator", "adieu/0.1.0", "delete", 403, "forbid"),
            entry("operator", "curl/8", "get", 200, "allow"),
            entry("other", "adieu/0.1.0", "list", 200, "allow"),
            json!({"user": {"username": "operator"}, "userAgent": "adieu/0.1.0", "verb": "get"}),
        ];
        let log = log.map(|entry| entry.to_string()).join("\n");
        let permission = |verb: &str| Permission::new(verb, "events.k8s.io", "events");
        let expected = UsedPermissions {
            granted: BTreeSet::from(["create", "patch", "update"].map(permission)),
            forbidden: BTreeSet::from([permission("delete")]),
        };
        assert_eq!(used(log.as_bytes(), "operator").ok(), Some(expected));
    }
    #[test]
    fn a_permission_that_was_granted_at_another_time_is_not_missing_where_it_was_granted() {
        let entry = |namespace: Option<&str>, verb: &str, decision: &str| {
            json!({
                "user": {"username": "operator"}, "userAgent": "adieu/0.1.0", "verb": verb,
                "objectRef": {"resource": "secrets", "namespace": namespace},
                "annotations": {"authorization.k8s.io/decision": decision},
            })
        };
        let log = [
            entry(Some("adieu"), "watch", "forbid"),
            entry(Some("adieu"), "watch", "allow"),
            entry(Some("adieu"), "list", "allow"),
            entry(None, "list", "forbid"),
        ];
        let log = log.map(|entry| entry.to_string()).join("\n");
        let forbidden = used(log.as_bytes(), "operator").map(|used| used.forbidden).ok();
        assert_eq!(forbidden, Some(BTreeSet::from([Permission::new("list", "", "secrets")])));
    }
}
