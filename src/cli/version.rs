//! `adieu version`: the versions of the command line, of the API server and of the installed operator.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use serde::Serialize;

use super::{
    block_on::block_on,
    connection::connect_with_cluster_name,
    manifests::{escaped, warn},
    print,
};
use crate::runtime::api_errors::describe;

/// The text of `--help`.
pub(super) const HELP: &str = "\
Prints the versions of this command line, of the API server, and of the operator. An operator whose version differs from \
the command line's causes a warning, because their results may differ.

You need the right to list Deployments; without it the operator is unknown.

Examples:

  adieu version
  adieu version --client
  adieu version -o json";

/// The labels of the operator's Deployment.
const OPERATOR: &str = "app.kubernetes.io/name=adieu";
/// The label with its version.
const VERSION: &str = "app.kubernetes.io/version";
/// The version of this command line.
const OWN: &str = env!("CARGO_PKG_VERSION");

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Prints only the version of the command line, which needs no cluster.
    #[arg(long)]
    client: bool,

    /// The output format.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "text")]
    output: Format,
}

/// The format of the output.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// An object with `client`, `server` and `operators`.
    Json,
}

/// All versions.
#[derive(Debug, Serialize)]
struct Versions {
    client: &'static str,
    /// That of the API server; `None` if it isn't known.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Server>,
    /// Usually one; `None` if they aren't known.
    #[serde(skip_serializing_if = "Option::is_none")]
    operators: Option<Vec<Operator>>,
}

#[derive(Debug, Serialize)]
struct Server {
    /// Its address, and the context of the kubeconfig.
    cluster: String,
    /// `None` if you may not read it.
    version: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Operator {
    namespace: String,
    name: String,
    version: Option<String>,
    image: Option<String>,
    replicas: i32,
    ready_replicas: i32,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut versions = Versions { client: OWN, server: None, operators: None };
    let read = if arguments.client { Ok(()) } else { block_on(read(&mut versions)) };
    for operator in versions.operators.iter().flatten() {
        if let Some(version) = operator.version.as_deref().filter(|version| *version != OWN) {
            warn(&format!("the operator is {version} and this command line {OWN}: results may differ"));
        }
    }
    let text = match arguments.output {
        Format::Text => text(&versions),
        Format::Json => print::json(&versions)?,
    };
    print::output(&text)?;
    read
}

/// Reads the versions in the cluster, as far as it answers.
async fn read(versions: &mut Versions) -> anyhow::Result<()> {
    let (client, cluster) = connect_with_cluster_name().await?;
    let version = client.apiserver_version().await.ok().map(|version| version.git_version);
    versions.server = Some(Server { cluster, version });
    match operators(&client).await {
        Ok(operators) => versions.operators = Some(operators),
        Err(error) => warn(&format!("the operator is unknown: {}", describe(&error))),
    }
    Ok(())
}

async fn operators(client: &Client) -> Result<Vec<Operator>, kube::Error> {
    let deployments: Api<Deployment> = Api::all(client.clone());
    let found = deployments.list(&ListParams::default().labels(OPERATOR)).await?;
    Ok(found.items.into_iter().map(operator).collect())
}

fn operator(deployment: Deployment) -> Operator {
    let (namespace, name) = (deployment.namespace().unwrap_or_default(), deployment.name_any());
    let version = deployment.labels().get(VERSION).cloned();
    let status = deployment.status.unwrap_or_default();
    let spec = deployment.spec.unwrap_or_default();
    let containers = spec.template.spec.map(|pod| pod.containers).unwrap_or_default();
    Operator {
        namespace,
        name,
        version,
        image: containers.into_iter().find(|container| container.name == "adieu").and_then(|one| one.image),
        replicas: spec.replicas.unwrap_or(1),
        ready_replicas: status.ready_replicas.unwrap_or(0),
    }
}

fn text(versions: &Versions) -> String {
    let mut lines = vec![format!("Command line: {}", versions.client)];
    if let Some(Server { cluster, version }) = &versions.server {
        lines.push(format!("API server:   {}, {cluster}", version.as_deref().unwrap_or("unknown")));
    }
    match versions.operators.as_deref() {
        None => {}
        Some([]) => lines.push("Operator:     not installed".to_owned()),
        Some(operators) => lines.extend(operators.iter().map(|operator| {
            let Operator { namespace, name, version, image, replicas, ready_replicas } = operator;
            format!(
                "Operator:     {}, {namespace}/{name}, {ready_replicas} of {replicas} replicas ready, image {}",
                version.as_deref().unwrap_or("unknown"),
                image.as_deref().unwrap_or("unknown")
            )
        })),
    }
    lines.iter().fold(String::new(), |text, line| text + &escaped(line) + "\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::test_support::{client, failure};

    #[tokio::test]
    async fn operators_are_listed_with_version_image_and_replicas() {
        let deployment = json!({
            "metadata": {"name": "adieu", "namespace": "adieu-system", "labels": {VERSION: "0.1.0"}},
            "spec": {
                "replicas": 2, "selector": {},
                "template": {"spec": {"containers": [{"name": "adieu", "image": "registry/adieu:0.1.0"}]}},
            },
            "status": {"readyReplicas": 1},
        });
        let list = json!({"metadata": {}, "items": [deployment]});
        let client = client(move |_, target| {
            assert!(target.contains("labelSelector=app.kubernetes.io%2Fname%3Dadieu"), "{target}");
            Some((200, list.clone()))
        });
        let operators = operators(&client).await.unwrap();
        let expected = Operator {
            namespace: "adieu-system".into(),
            name: "adieu".into(),
            version: Some("0.1.0".into()),
            image: Some("registry/adieu:0.1.0".into()),
            replicas: 2,
            ready_replicas: 1,
        };
        assert_eq!(operators, [expected]);
        let server = Server { cluster: "the cluster https://shop".into(), version: Some("v1.36.2".into()) };
        let versions = Versions { client: "0.1.0", server: Some(server), operators: Some(operators) };
        assert_eq!(
            text(&versions),
            "Command line: 0.1.0\nAPI server:   v1.36.2, the cluster https://shop\n\
             Operator:     0.1.0, adieu-system/adieu, 1 of 2 replicas ready, image registry/adieu:0.1.0\n"
        );
    }

    #[tokio::test]
    async fn without_the_right_to_list_deployments_the_reason_is_an_error() {
        let denied = client(|_, _| Some((403, failure(403, "deployments.apps is forbidden"))));
        let error = operators(&denied).await.unwrap_err();
        assert_eq!(describe(&error), "deployments.apps is forbidden");
    }

    #[test]
    fn a_cluster_without_an_operator_is_reported() {
        let versions = Versions { client: "0.1.0", server: None, operators: Some(vec![]) };
        assert_eq!(text(&versions), "Command line: 0.1.0\nOperator:     not installed\n");
        let versions = Versions { client: "0.1.0", server: None, operators: None };
        assert_eq!(text(&versions), "Command line: 0.1.0\n");
    }
}
