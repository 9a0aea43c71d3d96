//! Runs the asynchronous part of a command.

use std::pin::{Pin, pin};

use anyhow::{Context as _, anyhow};

/// Runs a future on this thread. It is called through a pointer, so that the runtime is compiled once for all commands.
///
/// # Errors
/// Those of the future, and if the runtime can't be started.
pub(super) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut output = Err(anyhow!("the asynchronous runtime ended too early"));
    {
        let mut future = pin!(async { output = future.await });
        run(future.as_mut())?;
    }
    output
}

fn run(future: Pin<&mut dyn Future<Output = ()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the asynchronous runtime")?.block_on(future);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_the_future_is_returned() {
        assert_eq!(block_on(async { Ok(1) }).unwrap(), 1);
        let failed = block_on::<()>(async { Err(anyhow!("no answer")) });
        assert_eq!(failed.unwrap_err().to_string(), "no answer");
    }
}
