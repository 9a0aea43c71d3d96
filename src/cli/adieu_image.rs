//! adieu's image, for the pods that commands create.

use anyhow::Context as _;
use kube::Client;

use crate::disruption::{Image, operator_image};

/// The image of this name, or else that of the installed operator.
///
/// # Errors
/// No name is given, and the operator isn't found.
pub(super) async fn adieu_image(
    client: &Client,
    name: Option<&str>,
    pull_secret: Option<&str>,
) -> anyhow::Result<Image> {
    let name = match name {
        Some(name) => name.to_owned(),
        None => operator_image(client)
            .await
            .context("cannot find adieu's image: use --image")?
            .context("cannot determine adieu's image: found no adieu Deployment, or several: use --image")?,
    };
    Ok(Image { name, pull_secret: pull_secret.map(str::to_owned) })
}
