//! Names to addresses, at most once a second: a request on a new connection is no reason to ask the cluster's
//! DNS, whose own losses are not what is looked for.

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

/// How long an answer is used.
const FRESH: Duration = Duration::from_secs(1);

/// The machine's resolver, and what it said last. A load has one host, so one answer is kept.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    machine: GaiResolver,
    last: Arc<Mutex<Option<Learned>>>,
}

/// Addresses, and when they were learned.
type Learned = (Instant, Vec<SocketAddr>);

/// A name that leads nowhere.
#[derive(Debug, thiserror::Error)]
#[error("the name is not resolved: {0}")]
pub(super) struct Unresolved(#[from] io::Error);

impl Default for Resolver {
    fn default() -> Self {
        Self { machine: GaiResolver::new(), last: Arc::default() }
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Unresolved;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unresolved>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Unresolved>> {
        self.machine.poll_ready(context).map_err(Unresolved)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { mut machine, last } = self.clone();
        Box::pin(async move {
            let known = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some((_, addresses)) = known.filter(|(learned, _)| learned.elapsed() < FRESH) {
                return Ok(addresses.into_iter());
            }
            let addresses: Vec<_> = machine.call(name).await?.collect();
            let now = Some((Instant::now(), addresses.clone()));
            *last.lock().unwrap_or_else(PoisonError::into_inner) = now;
            Ok(addresses.into_iter())
        })
    }
}
