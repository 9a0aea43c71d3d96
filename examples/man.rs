//! Writes the man pages of the command line to a folder: `cargo run --example man -- DIR`.

use std::{env, fs, io};

use clap::CommandFactory as _;

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).ok_or_else(|| io::Error::other("name the folder of the man pages"))?;
    fs::create_dir_all(&folder)?;
    clap_mangen::generate_to(adieu::cli::Arguments::command(), folder)
}
