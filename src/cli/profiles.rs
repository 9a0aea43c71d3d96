//! `adieu profiles`: the built-in drain profiles.

use adieu_exposures::{BUILT_IN, BuiltInProfile};
use comfy_table::{Table, presets};
use serde::Serialize;

use super::print;

/// The text of `--help`.
pub(super) const HELP: &str = "\
Lists the built-in drain profiles: for each way in which requests reach pods, the drain that it needs, and the source of the \
number. No cluster is needed.

Columns:

  PROFILE   the name of the profile
  DRAIN     the drain, if no object gives a delay
  MINIMUM   the shortest drain if an object gives a delay, such as the deregistration delay of a target group: the drain is \
then 10 s longer than the delay
  EXPOSURE  the way in which requests reach the pods
  SOURCE    where the number is from; -o json also has what is known as evidence

docs/drains.md explains how a drain follows from them.

Examples:

  adieu profiles
  adieu profiles -o json";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The output format.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "table")]
    output: Format,
}

/// The format of the output.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// An object with `profiles`.
    Json,
}

const COLUMNS: [&str; 5] = ["PROFILE", "DRAIN", "MINIMUM", "EXPOSURE", "SOURCE"];

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let text = match arguments.output {
        Format::Table => table(),
        Format::Json => print::json(&Json { profiles: BUILT_IN })?,
    };
    print::output(&text)
}

fn table() -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(COLUMNS);
    for BuiltInProfile { name, exposure, seconds, min_seconds, source, .. } in BUILT_IN {
        let [drain, minimum] = [seconds, min_seconds].map(|seconds| format!("{seconds} s"));
        table.add_row([(*name).to_owned(), drain, minimum, (*exposure).to_owned(), (*source).to_owned()]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

#[derive(Serialize)]
struct Json {
    profiles: &'static [&'static BuiltInProfile],
}
