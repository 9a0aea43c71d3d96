//! Completions that only the cluster or the kubeconfig has: names of workloads, namespaces and contexts.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt, api::ListParams, core::DynamicObject};

use super::{candidates::takes_workloads, position::Position};
use crate::{
    cli::reference::Reference,
    index::workloads::resource,
    plan::Kind,
    runtime::{
        client::{client, contexts},
        connection::Connection,
    },
};

/// How long a user waits for a completion.
const LIMIT: Duration = Duration::from_secs(3);
/// The maximum number of names: a longer list is of no use.
const MAX_NAMES: u32 = 500;

/// The names that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Contexts,
    Namespaces,
    /// Those of a kind, each after `prefix`.
    Workloads {
        kind: Kind,
        prefix: String,
    },
}

/// The names that may complete the word; `None` if it is completed without them.
pub(super) fn wanted(position: &Position<'_>, last: &str) -> Option<Wanted> {
    if let Some(option) = position.option {
        return match option.get_id().as_str() {
            "context" => Some(Wanted::Contexts),
            "namespace" => Some(Wanted::Namespaces),
            _ => None,
        };
    }
    if !takes_workloads(position.command) || last.starts_with('-') {
        return None;
    }
    let of_kind = |word: &str| format!("{word}/name").parse().ok().map(|found: Reference| found.kind);
    match (last.split_once('/'), position.positionals.first()) {
        (Some((word, _)), _) => {
            of_kind(word).map(|kind| Wanted::Workloads { kind, prefix: format!("{word}/") })
        }
        (None, Some(word)) => of_kind(word).map(|kind| Wanted::Workloads { kind, prefix: String::new() }),
        (None, None) => None,
    }
}

/// # Errors
/// The cluster or the kubeconfig can't be read.
pub(super) async fn read(position: &Position<'_>, wanted: Wanted) -> anyhow::Result<Vec<String>> {
    let connection = Connection {
        kubeconfig: position.value("kubeconfig").map(Into::into),
        context: position.value("context"),
        cluster: position.value("cluster"),
        user: position.value("user"),
        impersonated_user: position.value("as_user"),
        impersonated_groups: position.value("as_group").into_iter().collect(),
        impersonated_uid: None,
        request_timeout: Some(LIMIT),
    };
    connection.apply();
    if wanted == Wanted::Contexts {
        return Ok(contexts());
    }
    names(&client().await?, position.value("namespace"), wanted).await
}

async fn names(client: &Client, namespace: Option<String>, wanted: Wanted) -> anyhow::Result<Vec<String>> {
    let limited = ListParams::default().limit(MAX_NAMES);
    Ok(match wanted {
        Wanted::Contexts => vec![],
        Wanted::Namespaces => {
            let all: Api<Namespace> = Api::all(client.clone());
            all.list_metadata(&limited).await?.items.iter().map(ResourceExt::name_any).collect()
        }
        Wanted::Workloads { kind, prefix } => {
            let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
            let all: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource(kind));
            let found = all.list_metadata(&limited).await?.items;
            found.iter().map(|found| format!("{prefix}{}", found.name_any())).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};
    use serde_json::json;

    use super::*;
    use crate::runtime::test_support::client;

    #[test]
    fn names_are_wanted_after_a_kind_and_for_namespaces_and_contexts() {
        let value = |name: &'static str| Arg::new(name).long(name).global(true);
        let status = Command::new("status").arg(Arg::new("workload").num_args(1..));
        let mut command =
            Command::new("adieu").args([value("context"), value("namespace")]).subcommand(status);
        command.build();
        let of = |prefix: &str| Some(Wanted::Workloads { kind: Kind::Deployment, prefix: prefix.to_owned() });
        for (words, expected) in [
            (&["status", "deploy/w"][..], of("deploy/")),
            (&["status", "deploy", "w"], of("")),
            (&["status", "--namespace", "shop", "deploy", ""], of("")),
            (&["status", "--namespace", ""], Some(Wanted::Namespaces)),
            (&["--context", ""], Some(Wanted::Contexts)),
            (&["status", "w"], None),
            (&["status", "pod/w"], None),
            (&["status", "deploy", "--n"], None),
        ] {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            let (last, before) = words.split_last().unwrap();
            assert_eq!(wanted(&Position::of(&command, before), last), expected, "{words:?}");
        }
    }

    #[tokio::test]
    async fn names_are_those_of_the_cluster() {
        let client = client(|_, target| {
            let name = if target.starts_with("/apis/apps/v1/namespaces/shop/deployments?") {
                "web"
            } else {
                assert!(target.starts_with("/api/v1/namespaces?"), "{target}");
                "shop"
            };
            Some((200, json!({"metadata": {}, "items": [{"metadata": {"name": name}}]})))
        });
        let workloads = Wanted::Workloads { kind: Kind::Deployment, prefix: "deploy/".into() };
        assert_eq!(names(&client, Some("shop".into()), workloads).await.unwrap(), ["deploy/web"]);
        assert_eq!(names(&client, None, Wanted::Namespaces).await.unwrap(), ["shop"]);
    }
}
