//! Writes the generated pages of the documentation to a folder: `cargo run --example reference -- DIR`.

#[path = "../tests/site/reference.rs"]
mod reference;

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).ok_or_else(|| io::Error::other("name the folder of the pages"))?;
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder)?;
    for (name, text) in reference::pages()? {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}
