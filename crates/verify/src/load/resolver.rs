//! Resolves names at most once a second. New connections must not load the cluster's DNS, whose failures are not what
//! a run measures.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tokio::time::Instant;
use tower::Service;

/// How long a result is cached.
const TTL: Duration = Duration::from_secs(1);

/// The system's resolver, and its last result. A load has one host, so one result is cached.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    system: GaiResolver,
    last: Arc<Mutex<Option<Resolved>>>,
}

/// Addresses, and when they were resolved.
type Resolved = (Instant, Vec<SocketAddr>);

/// A name that doesn't resolve.
#[derive(Debug, thiserror::Error)]
#[error("the name is not resolved: {0}")]
pub(crate) struct Unresolved(#[from] io::Error);

impl Default for Resolver {
    fn default() -> Self {
        Self { system: GaiResolver::new(), last: Arc::default() }
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Unresolved;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unresolved>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Unresolved>> {
        self.system.poll_ready(context).map_err(Unresolved)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { mut system, last } = self.clone();
        Box::pin(async move {
            let cached = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some((_, addresses)) = cached.filter(|(at, _)| at.elapsed() < TTL) {
                return Ok(addresses.into_iter());
            }
            let addresses: Vec<_> = system.call(name).await?.collect();
            let now = Some((Instant::now(), addresses.clone()));
            *last.lock().unwrap_or_else(PoisonError::into_inner) = now;
            Ok(addresses.into_iter())
        })
    }
}
