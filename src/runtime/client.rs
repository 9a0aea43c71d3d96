//! A client of the API server that says who it is, for those who read audit logs.

use axum::http::{HeaderValue, header::USER_AGENT};
use kube::{Client, Config, Error};

const NAME: &str = concat!("adieu/", env!("CARGO_PKG_VERSION"));

/// The API server that `KUBECONFIG` or the pod's service account leads to.
///
/// # Errors
/// When there is neither, or what is there can't be used.
pub async fn client() -> Result<Client, Error> {
    let mut config = Config::infer().await.map_err(Error::InferConfig)?;
    config.headers.push((USER_AGENT, HeaderValue::from_static(NAME)));
    Client::try_from(config)
}
