//! The packages, programs and images of the end-to-end tests, in advance.

use anyhow::Result;

use super::scenarios;
use crate::workspace::Workspace;
use crate::{debian, image, toolchain};

/// The sample applications of tests other than the scenarios.
const APPLICATIONS: [&str; 2] = ["web", "relay"];

/// Installs the packages, and builds the programs and images, except adieu's. Where they are used, they are made if they
/// are missing.
pub fn prepare(workspace: &Workspace) -> Result<()> {
    debian::ensure_packages(workspace)?;
    debian::ensure_applications(workspace)?;
    image::pause(workspace)?;
    for name in APPLICATIONS.into_iter().chain(scenarios::PROGRAMS) {
        image::app(workspace, name)?;
    }
    for name in scenarios::ASSEMBLED {
        image::assembled(workspace, name)?;
    }
    toolchain::build_vegeta(workspace)?;
    toolchain::build_kwok(workspace)?;
    // Takes longest.
    toolchain::build_all(workspace)
}
