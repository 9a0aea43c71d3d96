//! The connection to the cluster: the options of all commands, as kubectl has them, and the client.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use kube::Client;

use super::duration::duration;
use crate::runtime::{
    api_errors::describe,
    client::{client_with_cluster_name, is_unreachable},
    connection::Connection,
};

/// The cluster, and the user to connect as. Every command accepts them, before or after its name.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Connection to the cluster")]
pub(super) struct Arguments {
    /// The kubeconfig file. Default: those of KUBECONFIG, then ~/.kube/config, then the pod's service account.
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig. Default: the current one.
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    context: Option<String>,

    /// The cluster of the kubeconfig, instead of that of the context.
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    cluster: Option<String>,

    /// The user of the kubeconfig, instead of that of the context.
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    user: Option<String>,

    /// The user to impersonate. A service account is system:serviceaccount:NAMESPACE:NAME.
    #[arg(long = "as", global = true, value_name = "USER", hide_short_help = true)]
    as_user: Option<String>,

    /// A group to impersonate. May be given several times.
    #[arg(long, global = true, value_name = "GROUP", requires = "as_user", hide_short_help = true)]
    as_group: Vec<String>,

    /// The UID to impersonate.
    #[arg(long, global = true, value_name = "UID", requires = "as_user", hide_short_help = true)]
    as_uid: Option<String>,

    /// The time limit for each answer of the API server, such as 5s or 2m. Default: 40s, also for 0.
    #[arg(long, global = true, value_name = "TIME", value_parser = request_timeout, hide_short_help = true)]
    request_timeout: Option<RequestTimeout>,
}

/// A time limit; `None` is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RequestTimeout(Option<Duration>);

/// Scripts for kubectl set 0.
fn request_timeout(text: &str) -> Result<RequestTimeout, String> {
    if matches!(text, "0" | "0s") {
        return Ok(RequestTimeout(None));
    }
    duration(text).map(|limit| RequestTimeout(Some(limit)))
}

impl Arguments {
    /// Applies them to all clients of this process.
    pub(super) fn apply(self) {
        let Self { kubeconfig, context, cluster, user, as_user, as_group, as_uid, request_timeout } = self;
        let connection = Connection {
            kubeconfig,
            context,
            cluster,
            user,
            impersonated_user: as_user,
            impersonated_groups: as_group,
            impersonated_uid: as_uid,
            request_timeout: request_timeout.and_then(|limit| limit.0),
        };
        connection.apply();
    }
}

/// Connects to the cluster of the arguments.
///
/// # Errors
/// There is no kubeconfig, it is invalid, or the API server doesn't answer. So no command sends many requests to it before
/// it fails.
pub(super) async fn connect() -> anyhow::Result<Client> {
    connect_with_cluster_name().await.map(|(client, _)| client)
}

/// The same, with the cluster's name for prompts: its address, and the context of the kubeconfig.
///
/// # Errors
/// As [`connect`].
pub(super) async fn connect_with_cluster_name() -> anyhow::Result<(Client, String)> {
    let (client, cluster) = client_with_cluster_name().await.map_err(failed).context(
        "cannot connect to the cluster: check the kubeconfig (--kubeconfig, KUBECONFIG) and its context (--context)",
    )?;
    // It may be denied, and an answer is enough.
    match client.apiserver_version().await {
        Err(error) if is_unreachable(&error) => Err(failed(error)).context("cannot connect to the cluster"),
        _ => Ok((client, cluster)),
    }
}

fn failed(error: kube::Error) -> anyhow::Error {
    anyhow::Error::msg(describe(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_timeout_has_a_unit_unless_it_is_0() {
        for (text, seconds) in [("0", None), ("0s", None), ("5s", Some(5)), ("2m", Some(120))] {
            assert_eq!(request_timeout(text), Ok(RequestTimeout(seconds.map(Duration::from_secs))), "{text}");
        }
        for text in ["", "5", "-1s", "soon"] {
            request_timeout(text).unwrap_err();
        }
    }
}
