//! Panics: a bug must not fail more than the request or the workload that triggers it.
//!
//! A panic in a request is answered with 500; one in a reconciliation counts as a failed attempt; an object whose
//! decoding or evaluation panics can't be used. A panic in a task that
//! the operator needs ends the process, so that Kubernetes restarts it. Each is logged and counted.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook},
    sync::Arc,
};

use axum::{
    body::Body,
    http::{Response, StatusCode},
    response::IntoResponse as _,
};
use futures::FutureExt as _;
use prometheus_client::metrics::{counter::Counter, family::Family};
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};
use tower_http::catch_panic::{CatchPanicLayer, ResponseForPanic};

use super::metrics::{Component, Metrics, PanicLabels};

/// The message of a panic that was caught.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Panicked(pub String);

/// Logs each panic with its location, instead of printing it.
pub fn log() {
    set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location, message = message(info.payload()), "panicked");
    }));
}

/// Runs `task`; counts a panic and returns it as an error.
///
/// # Errors
/// If the task panics.
pub async fn catch<T>(
    component: Component,
    metrics: &Metrics,
    task: impl Future<Output = T>,
) -> Result<T, Panicked> {
    // State is behind locks that survive a panic, or belongs to the task alone.
    let outcome = AssertUnwindSafe(task).catch_unwind().await;
    outcome.map_err(|panic| counted(component, &metrics.panics, &*panic))
}

/// Calls a function that works on one object; counts a panic and returns it as an error.
///
/// # Errors
/// If the function panics.
pub fn catch_on_object<T>(
    panics: &Family<PanicLabels, Counter>,
    function: impl FnOnce() -> T,
) -> Result<T, Panicked> {
    let outcome = catch_unwind(AssertUnwindSafe(function));
    outcome.map_err(|panic| counted(Component::Object, panics, &*panic))
}

fn counted(
    component: Component,
    panics: &Family<PanicLabels, Counter>,
    panic: &(dyn Any + Send),
) -> Panicked {
    panics.get_or_create(&PanicLabels { component }).inc();
    Panicked(format!("panicked: {}", message(panic)))
}

/// Runs the tasks that the operator needs, and reports panics.
#[derive(Clone, Debug)]
pub struct Watchdog {
    metrics: Arc<Metrics>,
    failed: watch::Sender<Option<String>>,
}

impl Watchdog {
    /// A watchdog without tasks.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, failed: watch::channel(None).0 }
    }

    /// Wraps a task so that a panic is reported; it then returns `None`.
    fn watch<T>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Option<T>> + Send + 'static
    where
        T: Send + 'static,
    {
        let Self { metrics, failed } = self.clone();
        async move {
            let outcome = catch(Component::Background, &metrics, task).await;
            outcome.map_err(|panic| failed.send_replace(Some(format!("{name} {panic}")))).ok()
        }
    }

    /// Spawns a task and reports a panic.
    pub fn spawn<T>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>>
    where
        T: Send + 'static,
    {
        self.spawn_on(&Handle::current(), name, task)
    }

    /// Spawns a task on another runtime, and reports a panic.
    pub fn spawn_on<T>(
        &self,
        threads: &Handle,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>>
    where
        T: Send + 'static,
    {
        threads.spawn(self.watch(name, task))
    }

    /// Returns once a task has panicked, with its name and message.
    pub async fn failed(&self) -> Panicked {
        let mut failed = self.failed.subscribe();
        let outcome = failed.wait_for(Option::is_some).await.map(|failed| failed.clone());
        // The sender lives as long as this does.
        Panicked(outcome.ok().flatten().unwrap_or_default())
    }
}

/// A layer that answers 500 if a handler panics.
#[must_use]
pub fn layer(component: Component, metrics: Arc<Metrics>) -> CatchPanicLayer<PanicResponse> {
    CatchPanicLayer::custom(PanicResponse { component, metrics })
}

/// Makes the response for a handler that panicked.
#[derive(Clone, Debug)]
pub struct PanicResponse {
    component: Component,
    metrics: Arc<Metrics>,
}

impl ResponseForPanic for PanicResponse {
    type ResponseBody = Body;

    fn response_for_panic(&mut self, panic: Box<dyn Any + Send + 'static>) -> Response<Body> {
        self.metrics.panics.get_or_create(&PanicLabels { component: self.component }).inc();
        let message = message(&*panic);
        tracing::error!(component = ?self.component, message, "handler panicked, responding with 500");
        (StatusCode::INTERNAL_SERVER_ERROR, "internal error, see the log\n").into_response()
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_caught_counted_and_reported() {
        let metrics = Metrics::default();
        let panic = catch(Component::Reconcile, &metrics, async { panic!("no {}", "luck") }).await;
        assert_eq!(panic.map_err(|panic: Panicked| panic.0), Err::<(), _>("panicked: no luck".to_owned()));
        let text = metrics.render().unwrap();
        assert!(text.contains("adieu_panics_total{component=\"reconcile\"} 1"), "{text}");
        assert!(text.contains("adieu_panics_total{component=\"webhook\"} 0"), "{text}");
        assert_eq!(catch(Component::Reconcile, &metrics, async { 1 }).await.ok(), Some(1));
    }

    #[tokio::test]
    async fn a_task_that_panics_is_reported_by_name() {
        let watchdog = Watchdog::new(Arc::default());
        assert_eq!(watchdog.watch("good", async { 1 }).await, Some(1));
        assert!(watchdog.failed().now_or_never().is_none());
        let task: Option<()> = watchdog.watch("watches", async { panic!("no luck") }).await;
        assert_eq!(task, None);
        assert_eq!(watchdog.failed().await.to_string(), "watches panicked: no luck");
    }
}
