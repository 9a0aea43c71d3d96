//! The signals that shut the process down. The order of the shutdown is in `src/cli/controller.rs`.

use std::{fs, pin::pin};

use futures::future::OptionFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Returns on SIGTERM (the kubelet), SIGINT (a terminal) or SIGHUP (a closed terminal), which stays ignored if the
/// process was started with it ignored.
///
/// # Errors
/// If the handlers can't be installed.
pub async fn requested() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
    let hung_up = pin!(OptionFuture::from(hang_up.as_mut().map(Signal::recv)));
    tokio::select! {
        _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "shutting down"),
        _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "shutting down"),
        Some(_) = hung_up => tracing::info!(signal = "SIGHUP", "shutting down"),
    }
    Ok(())
}

/// Whether the process was started to outlive its terminal, as by `nohup`.
fn ignores_hangup() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, SignalKind::hangup()))
}

/// Whether a process with this status (proc(5)) ignores a signal.
fn ignores(status: &str, signal: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal.as_raw_value() - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::poll;
    use nix::{
        sys::signal::{Signal::SIGHUP, kill},
        unistd::Pid,
    };
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_closed_terminal_requests_the_shutdown() {
        // Without a handler the signal would end the tests.
        let _handler = signal(SignalKind::hangup()).unwrap();
        let mut requested = pin!(requested());
        assert!(poll!(requested.as_mut()).is_pending());
        kill(Pid::this(), SIGHUP).unwrap();
        timeout(Duration::from_secs(10), requested).await.unwrap().unwrap();
    }

    #[test]
    fn ignored_signals_are_read_from_proc_status() {
        let ignored = |mask: &str| {
            let status = format!("Name:\tadieu\nSigIgn:\t{mask}\nSigCgt:\t0000000000000001\n");
            [SignalKind::hangup(), SignalKind::terminate()].map(|signal| ignores(&status, signal))
        };
        assert_eq!(ignored("0000000000000001"), [true, false], "nohup");
        assert_eq!(ignored("0000000000005000"), [false, true]);
        assert_eq!(ignored("0000000000001000"), [false, false], "SIGPIPE");
    }
}
