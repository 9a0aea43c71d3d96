//! The adieu command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    adieu::cli::run(adieu::cli::Arguments::of_process())
}
