//! Runs that change a cluster and restore it, also if they are interrupted.

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;

use super::print::causes;
use crate::runtime::shutdown;

/// The error of an interrupted run, with what it has restored.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; {0}")]
pub(super) struct Interrupted(pub(super) &'static str);

/// Runs a function on two threads. Its token is cancelled after Ctrl-C, SIGTERM or when the terminal is closed.
///
/// # Errors
/// Those of the function, and if the runtime can't be started.
pub(super) fn block_on<T>(
    run: impl AsyncFnOnce(&CancellationToken) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the asynchronous runtime")?;
    let outcome = runtime.block_on(async { run(&interrupted()).await });
    // Don't wait for the thread that asks for confirmation.
    runtime.shutdown_background();
    outcome
}

/// A token that is cancelled after Ctrl-C, SIGTERM or when the terminal is closed.
pub(super) fn interrupted() -> CancellationToken {
    let interrupted = CancellationToken::new();
    let interrupt = interrupted.clone();
    tokio::spawn(async move {
        drop(shutdown::requested().await);
        interrupt.cancel();
    });
    interrupted
}

/// The outcome, together with the result of the last step, whose error becomes the reason why a report is `incomplete`.
pub(super) fn merge_errors<T>(
    outcome: anyhow::Result<T>,
    last: anyhow::Result<()>,
    incomplete: impl FnOnce(&mut T) -> &mut Option<String>,
) -> anyhow::Result<T> {
    let Err(error) = last else { return outcome };
    match outcome {
        Ok(mut report) => {
            add_error(incomplete(&mut report), &error);
            Ok(report)
        }
        // `Interrupted` says that everything is restored.
        Err(first) if first.is::<Interrupted>() => Err(error),
        Err(first) => bail!("{}; {}", causes(&first), causes(&error)),
    }
}

/// Adds an error to the reason why a report is incomplete. It stays valid for what was measured.
pub(super) fn add_error(incomplete: &mut Option<String>, error: &anyhow::Error) {
    let error = causes(error);
    *incomplete = Some(match incomplete.take() {
        Some(known) if known.contains(&error) => known,
        Some(known) => format!("{known}; {error}"),
        None => error,
    });
}
