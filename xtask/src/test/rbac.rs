//! What the operator may do, held against what it did.

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

/// What a test cluster can't make it do: the kubelets' versions matter only where the API server is older than
/// 1.33.
const ELSEWHERE: (&str, &str, &str) = ("list", "", "nodes");

/// Kinds that the same code handles: what it does with one, it does with each.
const ALIKE: [(&str, &[&str]); 2] = [
    ("workloads", &["deployments", "statefulsets", "daemonsets"]),
    ("policies/status", &["gracefulpolicies/status", "clustergracefulpolicies/status"]),
];

/// The annotation of an entry that tells what became of its authorization.
const DECISION: &str = "authorization.k8s.io/decision";

/// A right: a verb on a resource, or subresource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    group: String,
    resource: String,
    verb: String,
}

impl Right {
    fn new(verb: &str, group: &str, resource: &str) -> Self {
        let alike = ALIKE.into_iter().find(|(_, resources)| resources.contains(&resource));
        let resource = alike.map_or(resource, |(name, _)| name);
        Self { group: group.to_owned(), resource: resource.to_owned(), verb: verb.to_owned() }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, resource, verb } = self;
        let dot = if group.is_empty() { "" } else { "." };
        write!(f, "{verb} {resource}{dot}{group}")
    }
}

/// An entry of the audit log, as far as it matters here.
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
}

#[derive(Deserialize)]
struct Status {
    code: Option<u16>,
}

/// What somebody asked for, and what of it was refused for want of a right.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    granted: BTreeSet<Right>,
    forbidden: BTreeSet<Right>,
}

/// Every right that the chart's roles give must have been used since the cluster started, and none must have
/// been missing. What was found.
pub fn check(target: &Target, log: &Path) -> Result<String> {
    let step = Step::start("comparing what the operator may do with what it did");
    let (username, given) = target.with_client(|client| async move {
        Ok((install::username(&client).await?, given(&client).await?))
    })?;
    let log = File::open(log).with_context(|| format!("cannot read {}", log.display()))?;
    let asked = asked(BufReader::new(log), &username)?;
    let unused: Vec<_> = given.difference(&asked.granted).filter(|right| !is_elsewhere(right)).collect();
    if !unused.is_empty() {
        bail!("the operator never did what it may do: {}", list(unused));
    }
    if !asked.forbidden.is_empty() {
        bail!("the operator tried what it may not do: {}", list(&asked.forbidden));
    }
    step.done();
    let elsewhere: Vec<_> = given.iter().filter(|right| is_elsewhere(right)).collect();
    Ok(format!(
        "{} of {} rights used, none missed; for older API servers: {}",
        given.intersection(&asked.granted).count(),
        given.len(),
        list(elsewhere)
    ))
}

fn list<'a>(rights: impl IntoIterator<Item = &'a Right>) -> String {
    rights.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn is_elsewhere(right: &Right) -> bool {
    ELSEWHERE == (&right.verb, &right.group, &right.resource)
}

fn asked(log: impl BufRead, username: &str) -> Result<Asked> {
    let mut asked = Asked::default();
    for line in log.lines() {
        let entry: Entry = serde_json::from_str(&line?).context("the audit log has a strange line")?;
        // Tests borrow the account to show what is refused; they say so in their agent.
        if entry.user.username != username || !entry.user_agent.starts_with("adieu/") {
            continue;
        }
        let Some(Reference { resource: Some(mut resource), subresource, api_group }) = entry.object_ref
        else {
            continue;
        };
        if let Some(subresource) = subresource {
            resource = format!("{resource}/{subresource}");
        }
        let group = api_group.unwrap_or_default();
        let right = Right::new(&entry.verb, &group, &resource);
        // Not every 403 is for want of a right: a namespace on its way out takes nothing new.
        if entry.annotations.get(DECISION).is_some_and(|decision| decision == "forbid") {
            asked.forbidden.insert(right);
            continue;
        }
        // An apply that creates takes the right to create as well.
        if entry.response_status.and_then(|status| status.code) == Some(201) {
            asked.granted.insert(Right::new("create", &group, &resource));
        }
        asked.granted.insert(right);
    }
    Ok(asked)
}

/// What the chart's roles give the operator: the aggregated ones are for the users of namespaces.
async fn given(client: &Client) -> Result<BTreeSet<Right>> {
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/instance={RELEASE}"));
    let not_aggregated = ListParams::default().labels(&format!(
        "app.kubernetes.io/instance={RELEASE},!rbac.authorization.k8s.io/aggregate-to-edit"
    ));
    let cluster = Api::<ClusterRole>::all(client.clone()).list(&not_aggregated).await?.items;
    let local = Api::<Role>::namespaced(client.clone(), NAMESPACE).list(&ours).await?.items;
    let rules = cluster.into_iter().filter_map(|role| role.rules);
    Ok(rules.chain(local.into_iter().filter_map(|role| role.rules)).flatten().flat_map(rights).collect())
}

fn rights(rule: PolicyRule) -> Vec<Right> {
    let PolicyRule { api_groups, resources, verbs, .. } = rule;
    let mut rights = Vec::new();
    for group in api_groups.iter().flatten() {
        for resource in resources.iter().flatten() {
            for verb in &verbs {
                rights.push(Right::new(verb, group, resource));
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
    fn what_the_operator_asked_for_is_read_from_the_audit_log() {
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
            entry("somebody", "adieu/0.1.0", "list", 200, "allow"),
            json!({"user": {"username": "operator"}, "userAgent": "adieu/0.1.0", "verb": "get"}),
        ];
        let log = log.map(|entry| entry.to_string()).join("\n");
        let right = |verb: &str| Right::new(verb, "events.k8s.io", "events");
        let expected = Asked {
            granted: BTreeSet::from(["create", "patch", "update"].map(right)),
            forbidden: BTreeSet::from([right("delete")]),
        };
        assert_eq!(asked(log.as_bytes(), "operator").ok(), Some(expected));
    }
}
