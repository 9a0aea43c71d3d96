//! Where on a command line a word is to be completed.

use clap::{Arg, Command};

/// The position of a word, after those before it.
#[derive(Debug)]
pub(super) struct Position<'a> {
    /// The innermost command.
    pub(super) command: &'a Command,
    /// The option whose value the word is.
    pub(super) option: Option<&'a Arg>,
    /// The arguments of the command so far that are not options.
    pub(super) positionals: Vec<&'a str>,
    /// The ids of the options so far, with their values.
    values: Vec<(&'a str, &'a str)>,
}

impl<'a> Position<'a> {
    pub(super) fn of(root: &'a Command, before: &'a [String]) -> Self {
        let mut position = Self { command: root, option: None, positionals: vec![], values: vec![] };
        for word in before {
            position.read(word);
        }
        position
    }

    fn read(&mut self, word: &'a str) {
        if let Some(option) = self.option.take() {
            self.values.push((option.get_id().as_str(), word));
        } else if word.starts_with('-') {
            let (name, value) =
                word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            let option = option(self.command, name).filter(|option| option.get_action().takes_values());
            match (option, value) {
                (Some(option), Some(value)) => self.values.push((option.get_id().as_str(), value)),
                (option, None) => self.option = option,
                (None, Some(_)) => {}
            }
        } else if self.positionals.is_empty()
            && let Some(command) = self.command.find_subcommand(word)
        {
            self.command = command;
        } else {
            self.positionals.push(word);
        }
    }

    /// The last value of an option.
    pub(super) fn value(&self, id: &str) -> Option<String> {
        let of_option = self.values.iter().rev().find(|(option, _)| *option == id);
        of_option.map(|(_, value)| (*value).to_owned())
    }
}

/// The option with a name such as `--namespace` or `-n`.
fn option<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let mut options = command.get_arguments();
    if let Some(long) = name.strip_prefix("--") {
        options.find(|option| option.get_long() == Some(long))
    } else {
        let short = name.chars().nth(1)?;
        options.find(|option| option.get_short() == Some(short))
    }
}
