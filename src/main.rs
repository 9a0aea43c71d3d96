//! The adieu command line: arguments and exit code.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    adieu::cli::run(adieu::cli::Arguments::parse())
}
