//! `adieu completion`: completion scripts of shells, and the completions of kubectl for `kubectl adieu`.

mod candidates;
mod names;
mod position;

use clap::Command;
use clap_complete::Shell;

use self::{candidates::Candidates, position::Position};
use super::{block_on::block_on, print};

/// The text of `--help`.
pub(super) const HELP: &str = "\
Prints a script with the completions of commands, options and their values.

kubectl completes `kubectl adieu` with the program kubectl_complete-adieu, a script that comes with the command line: put it \
into a directory of PATH. It also completes the names of workloads, namespaces and contexts.

Examples:

  source <(adieu completion bash)
  adieu completion zsh > \"${fpath[1]}/_adieu\"
  adieu completion fish > ~/.config/fish/completions/adieu.fish
  adieu completion powershell | Out-String | Invoke-Expression";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The shell.
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// The words so far; the last is to be completed.
#[derive(Debug, clap::Args)]
pub(super) struct Words {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

pub(super) fn run(arguments: &Arguments, mut command: Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "adieu", &mut script);
    print::output(&String::from_utf8(script)?)
}

/// Prints completions as kubectl reads them: one per line, with a tab and its description, and then what the shell may
/// add.
pub(super) fn complete(arguments: &Words, mut command: Command) -> anyhow::Result<()> {
    command.build();
    let Some((last, before)) = arguments.words.split_last() else { return Ok(()) };
    let position = Position::of(&command, before);
    let mut candidates = Candidates::of(&position, last);
    if let Some(wanted) = names::wanted(&position, last) {
        // Without an answer of the cluster there are no names.
        candidates.add_names(block_on(names::read(&position, wanted)).unwrap_or_default());
    }
    print::output(&candidates.lines(last))
}
