//! The arguments and files of commands that work on manifests.

mod input;
mod output;

use std::path::PathBuf;

use anyhow::Context as _;

pub(super) use self::input::STANDARD_INPUT;
pub(super) use super::print::escaped;
use crate::manifests::{self, Manifests};

/// The source and destination of manifests.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// A file with manifests (YAML with any number of documents, or JSON), a directory of .yaml, .yml and
    /// .json files, or - for standard input. May be given several times.
    #[arg(short, long, value_name = "FILE|DIR|-", required = true)]
    filename: Vec<PathBuf>,

    /// Processes the directories in a directory given with -f recursively.
    #[arg(short = 'R', long)]
    recursive: bool,

    /// The output format. With yaml, documents keep their text, also those in JSON, and only changed fields are
    /// rewritten. With json, several documents become one List.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "yaml")]
    output: Format,

    /// Writes to this file instead of standard output, once everything is done.
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,

    /// Omits the summary on standard error, but not the warnings.
    #[arg(short, long)]
    quiet: bool,
}

/// The format of the output.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// A sequence of documents.
    Yaml,
    /// One object.
    Json,
}

impl From<Format> for manifests::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Yaml => Self::Yaml,
            Format::Json => Self::Json,
        }
    }
}

impl Arguments {
    pub(super) fn has_files(&self) -> bool {
        !self.filename.is_empty()
    }

    pub(super) fn is_json(&self) -> bool {
        matches!(self.output, Format::Json)
    }

    pub(super) fn read(&self) -> anyhow::Result<Manifests> {
        read(&self.filename, self.recursive)
    }

    /// Writes all manifests together.
    pub(super) fn write(&self, manifests: &Manifests) -> anyhow::Result<()> {
        let text = manifests.render(self.output.into())?;
        match &self.output_file {
            Some(path) => {
                output::to_file(path, &text).with_context(|| format!("cannot write {}", path.display()))
            }
            None => super::print::output(&text),
        }
    }

    /// Prints a summary to standard error.
    pub(super) fn summarize(&self, summary: &str) {
        if !self.quiet {
            super::print::to_stderr(format!("adieu: {summary}"));
        }
    }
}

/// Reads files, directories and standard input.
pub(super) fn read(paths: &[PathBuf], recursive: bool) -> anyhow::Result<Manifests> {
    let mut manifests = Manifests::default();
    for file in input::read(paths, recursive)? {
        manifests.add(&file.name, &file.text).map_err(shown)?;
    }
    Ok(manifests)
}

/// Prints the warnings of an operation to standard error, and returns its outcome with a prefix for each message.
pub(super) fn report<T>(
    manifests: &mut Manifests,
    outcome: Result<T, manifests::Error>,
) -> anyhow::Result<T> {
    print_warnings(manifests);
    outcome.map_err(shown)
}

/// The error for standard error, with a prefix for each message.
fn shown(error: manifests::Error) -> anyhow::Error {
    let messages = match error {
        manifests::Error::Invalid(messages) => messages,
        error => vec![error.to_string()],
    };
    let messages: Vec<_> = messages.iter().map(|message| escaped(message)).collect();
    anyhow::Error::msg(messages.join("\nadieu: "))
}

/// Prints the warnings so far to standard error.
pub(super) fn print_warnings(manifests: &mut Manifests) {
    manifests.take_warnings().iter().for_each(|warning| warn(warning));
}

/// Prints a warning to standard error. It doesn't change the exit code.
pub(super) fn warn(message: &str) {
    super::print::to_stderr(format!("warning: {}", escaped(message)));
}
