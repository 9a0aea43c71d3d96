//! The kinds that the API server serves.

use kube::Client;

use super::problem::Problem;

/// Those of the kinds that the API server doesn't serve.
///
/// # Errors
/// It can't be reached.
pub(super) async fn missing_kinds<'a>(
    client: &Client,
    api_version: &str,
    kinds: &[&'a str],
) -> Result<Vec<&'a str>, Problem> {
    let served = match client.list_api_group_resources(api_version).await {
        Ok(list) => list.resources,
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(error) => return Err(Problem::Unreachable(error)),
    };
    let is_missing = |kind: &&str| !served.iter().any(|resource| resource.kind == *kind);
    Ok(kinds.iter().copied().filter(is_missing).collect())
}
