//! The completions that the definition of the command line has.

use clap::{Arg, Command};

use super::position::Position;
use crate::plan::Kind;

/// What a shell may do with completions, as kubectl's library for command lines (cobra) numbers it.
const ADD_NO_SPACE: u8 = 2;
const ADD_NO_FILES: u8 = 4;

/// Words, with their descriptions.
#[derive(Debug)]
pub(super) struct Candidates {
    words: Vec<(String, String)>,
    /// What the shell may do.
    directive: u8,
}

impl Candidates {
    pub(super) fn of(position: &Position<'_>, last: &str) -> Self {
        let Position { command, option, positionals, .. } = position;
        let mut candidates = Self { words: vec![], directive: ADD_NO_FILES };
        if let Some(option) = option {
            candidates.words = values(option);
            let is_file = option.get_value_names().into_iter().flatten().any(|name| name.contains("FILE"));
            candidates.directive = if is_file { 0 } else { ADD_NO_FILES };
        } else if last.starts_with('-') {
            candidates.words = options(command);
        } else {
            candidates.words = if positionals.is_empty() { subcommands(command) } else { vec![] };
            candidates.words.extend(command.get_positionals().flat_map(values));
            if takes_workloads(command) && positionals.is_empty() && !last.contains('/') {
                candidates.directive |= ADD_NO_SPACE;
                let kinds = Kind::ALL.into_iter().map(|kind| kind.as_str().to_lowercase() + "/");
                candidates.words.extend(kinds.map(|kind| (kind, String::new())));
            }
        }
        candidates
    }

    pub(super) fn add_names(&mut self, names: Vec<String>) {
        self.words.extend(names.into_iter().map(|name| (name, String::new())));
    }

    /// The lines for kubectl, of the words that begin like `last`.
    pub(super) fn lines(&self, last: &str) -> String {
        let matching = self.words.iter().filter(|(word, _)| word.starts_with(last));
        let mut lines: Vec<_> = matching
            .map(|(word, help)| if help.is_empty() { word.clone() } else { format!("{word}\t{help}") })
            .collect();
        lines.push(format!(":{}", self.directive));
        lines.join("\n") + "\n"
    }
}

/// Whether a command takes workloads.
pub(super) fn takes_workloads(command: &Command) -> bool {
    command.get_positionals().any(|argument| argument.get_id() == "workload")
}

fn values(argument: &Arg) -> Vec<(String, String)> {
    let values = argument.get_possible_values().into_iter().filter(|value| !value.is_hide_set());
    values.map(|value| (value.get_name().to_owned(), sentence(value.get_help()))).collect()
}

fn options(command: &Command) -> Vec<(String, String)> {
    let options = command.get_arguments().filter(|option| !option.is_hide_set());
    let described = |option: &Arg| Some((format!("--{}", option.get_long()?), sentence(option.get_help())));
    options.filter_map(described).collect()
}

fn subcommands(command: &Command) -> Vec<(String, String)> {
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    commands.map(|command| (command.get_name().to_owned(), sentence(command.get_about()))).collect()
}

/// The first sentence of a text, on one line.
fn sentence(text: Option<&impl ToString>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.split(". ").next().unwrap_or_default().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use clap::ArgAction;

    use super::*;

    fn command() -> Command {
        let value = |name: &'static str, names: &'static str| Arg::new(name).long(name).value_name(names);
        let audit = Command::new("audit")
            .about("Finds workloads.")
            .arg(value("filename", "FILE|DIR|-").short('f'))
            .arg(value("output", "FORMAT").value_parser(["table", "json"]))
            .arg(Arg::new("all").long("all-namespaces").action(ArgAction::SetTrue).help("All. Not one"));
        let status = Command::new("status").arg(Arg::new("workload").num_args(1..));
        let mut root = Command::new("adieu")
            .disable_help_subcommand(true)
            .arg(value("context", "NAME").global(true))
            .subcommands([audit, status, Command::new("load").hide(true)]);
        root.build();
        root
    }

    #[test]
    fn commands_options_values_and_kinds_are_completed() {
        let command = command();
        for (words, expected) in [
            ("a", "audit\tFinds workloads\n:4\n"),
            ("l", ":4\n"),
            ("audit --a", "--all-namespaces\tAll\n:4\n"),
            ("audit --c", "--context\n:4\n"),
            ("audit --output j", "json\n:4\n"),
            ("audit --all-namespaces --o", "--output\n:4\n"),
            ("audit -f sr", ":0\n"),
            ("--context=x audit --output=json --fi", "--filename\n:4\n"),
            ("status d", "deployment/\ndaemonset/\n:6\n"),
            ("status deployment w", ":4\n"),
        ] {
            let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
            let (last, before) = words.split_last().unwrap();
            let position = Position::of(&command, before);
            assert_eq!(Candidates::of(&position, last).lines(last), expected, "{words:?}");
        }
    }
}
