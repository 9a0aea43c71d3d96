//! The packages and programs of the end-to-end tests, in advance.

use anyhow::Result;

use super::scenarios;
use crate::workspace::Workspace;
use crate::{debian, toolchain};

/// Installs the packages and builds the programs, except those of [`toolchain::build_clients`]. Their users do the same
/// if they are missing.
pub fn prepare(workspace: &Workspace) -> Result<()> {
    debian::ensure_packages(workspace)?;
    debian::ensure_applications(workspace)?;
    toolchain::build_etcd(workspace)?;
    toolchain::build_pause(workspace)?;
    toolchain::build_vegeta(workspace)?;
    toolchain::build_kwok(workspace)?;
    for name in ["web", "relay"].into_iter().chain(scenarios::PROGRAMS) {
        toolchain::build_app(workspace, name)?;
    }
    Ok(())
}
