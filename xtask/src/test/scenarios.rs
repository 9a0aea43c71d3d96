//! The applications of the scenarios in the end-to-end tests, and servers whose connections are verified.

use anyhow::Result;

use crate::target::Target;
use crate::{debian, image, toolchain};

/// Sample applications that are a single Go program.
pub const PROGRAMS: [&str; 3] = ["elegant", "integrii", "listener"];
/// Those with files from elsewhere.
pub const ASSEMBLED: [&str; 4] = ["nginx", "node", "redis", "spring"];

/// Loads the applications into the cluster. Returns the variables with their images.
pub fn prepare(target: &Target) -> Result<Vec<(String, String)>> {
    let workspace = target.workspace();
    debian::ensure_applications(workspace)?;
    toolchain::build_vegeta(workspace)?;
    let programs = PROGRAMS.into_iter().map(|name| image::app(workspace, name));
    let assembled = ASSEMBLED.into_iter().map(|name| image::assembled(workspace, name));
    let mut variables = Vec::new();
    for image in programs.chain(assembled) {
        let image = image?;
        target.load_image(&image.archive)?;
        let name = image.repository.trim_start_matches("localhost/").to_uppercase();
        variables.push((format!("ADIEU_TEST_{name}_IMAGE"), image.reference()));
    }
    Ok(variables)
}
