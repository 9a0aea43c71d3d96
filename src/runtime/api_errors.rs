//! Errors of requests to the API server, for people: its message, or its address and why it doesn't answer.

use std::{
    error::Error as StdError,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::BoxError;
use futures::{FutureExt as _, TryFutureExt as _, future::BoxFuture};
use kube::Error;
use tower::Service;

/// The API server didn't answer in time. The request may have taken effect.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer within {} s", .0.as_secs_f64())]
pub(super) struct Unanswered(pub(super) Duration);

/// The API server didn't answer. The cause is no source, because the message has it.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("the API server at {address} did not answer within {} s", .limit.as_secs_f64())]
    InTime { address: Arc<str>, limit: Duration },
    #[error("the API server at {address} cannot be reached: {cause}")]
    AtAll { address: Arc<str>, cause: String },
}

/// Adds the address of the API server to errors of requests without an answer.
pub(super) struct Addressed<S> {
    pub(super) inner: S,
    pub(super) address: Arc<str>,
}

impl<S, R> Service<R> for Addressed<S>
where
    S: Service<R, Error = BoxError, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let address = self.address.clone();
        self.inner.call(request).map_err(move |error| with_address(error, address)).boxed()
    }
}

fn with_address(error: BoxError, address: Arc<str>) -> BoxError {
    // Those are of credentials: nothing was sent.
    if error.is::<Error>() {
        return error;
    }
    let no_answer = match error.downcast_ref::<Unanswered>() {
        Some(Unanswered(limit)) => NoAnswer::InTime { address, limit: *limit },
        None => NoAnswer::AtAll { address, cause: innermost(&*error) },
    };
    no_answer.into()
}

/// The cause of all others, such as "Connection refused". Those around it say "client error (Connect)".
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// An error as a sentence, each cause once: the API server's message, or its address and why it doesn't answer.
#[must_use]
pub fn describe(error: &Error) -> String {
    match error {
        Error::Api(status) if status.message.is_empty() => {
            format!("the API server answered with the status {} {}", status.code, status.reason)
        }
        Error::Api(status) => status.message.clone(),
        Error::Service(error) => error.to_string(),
        Error::InferKubeconfig(error) => error.to_string(),
        // Its message repeats that of its source, and also reports the lack of a service account.
        Error::InferConfig(error) => error.source().map_or_else(|| error.to_string(), ToString::to_string),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use kube::core::Status;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    /// An error around another.
    #[derive(Debug, thiserror::Error)]
    #[error("client error (Connect)")]
    struct Outer(#[source] io::Error);

    async fn failed(error: impl Into<BoxError> + Send + 'static) -> BoxError {
        let mut error: Option<BoxError> = Some(error.into());
        let inner = service_fn(move |()| {
            let error = error.take();
            async move { Err::<(), _>(error.unwrap_or_else(|| "called twice".into())) }
        });
        Addressed { inner, address: "https://shop.example:6443".into() }.oneshot(()).await.unwrap_err()
    }

    #[tokio::test]
    async fn an_error_without_an_answer_names_the_address_and_its_cause_once() {
        let refused = Outer(io::Error::other("Connection refused"));
        let error = failed(refused).await;
        let expected = "the API server at https://shop.example:6443 cannot be reached: Connection refused";
        assert_eq!(error.to_string(), expected);
        assert!(error.source().is_none(), "the message has it");
        assert_eq!(describe(&Error::Service(error)), expected);
        let late = failed(Unanswered(Duration::from_millis(1500))).await;
        let expected = "the API server at https://shop.example:6443 did not answer within 1.5 s";
        assert_eq!(late.to_string(), expected);
        let credentials = failed(Error::TlsRequired).await;
        assert!(credentials.is::<Error>(), "{credentials}");
    }

    #[test]
    fn an_error_of_the_api_server_is_its_message() {
        let status = Status::failure("deployments.apps is forbidden", "Forbidden");
        assert_eq!(describe(&Error::Api(status.boxed())), "deployments.apps is forbidden");
        let silent = Status { code: 503, reason: "Unavailable".into(), ..Status::default() };
        assert_eq!(
            describe(&Error::Api(silent.boxed())),
            "the API server answered with the status 503 Unavailable"
        );
    }
}
