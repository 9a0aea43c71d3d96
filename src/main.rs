//! The adieu command line.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    adieu::cli::run(adieu::cli::Arguments::parse())
}
