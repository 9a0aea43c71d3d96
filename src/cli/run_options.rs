//! The arguments that `adieu verify` and `adieu calibrate` share.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct RunOptions {
    /// Starts without confirmation.
    #[arg(short, long)]
    pub(super) yes: bool,

    /// The format on standard output.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(super) output: Output,

    /// Writes a report with plots to a self-contained HTML file.
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Output {
    /// Tables and sentences.
    Table,
    /// The whole report as JSON.
    Json,
}
