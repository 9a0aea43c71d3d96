//! Confirmation on the terminal.

use std::io::{IsTerminal as _, Write as _, stderr, stdin};

use anyhow::{Context as _, bail};

/// Checks that confirmation can be asked for. `action` is what needs it.
pub(super) fn check_terminal(action: &str) -> anyhow::Result<()> {
    if !stdin().is_terminal() {
        bail!("{action} needs confirmation, and standard input is not a terminal: use --yes");
    }
    Ok(())
}

/// Asks for confirmation on the terminal. Any answer but yes is an error.
pub(super) async fn confirm(intention: String) -> anyhow::Result<()> {
    // On another thread, so that Ctrl-C works meanwhile.
    let answer = tokio::task::spawn_blocking(move || ask(&intention));
    answer.await.context("cannot ask for confirmation")?
}

fn ask(intention: &str) -> anyhow::Result<()> {
    let mut terminal = stderr();
    write!(terminal, "This will {intention}.\nContinue? [y/N] ").and_then(|()| terminal.flush())?;
    let mut answer = String::new();
    stdin().read_line(&mut answer).context("cannot read the answer")?;
    if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        bail!("cancelled, nothing was changed");
    }
    Ok(())
}
