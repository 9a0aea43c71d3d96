//! Images in the containerd of a node.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::progress::Step;
use crate::workspace::Workspace;

/// Imports an archive into the containerd that listens at `socket`.
pub fn import_image(workspace: &Workspace, step: &Step, socket: &Path, archive: &Path) -> Result<()> {
    let mut ctr = Command::new("ctr");
    ctr.args(["--namespace", "k8s.io", "--address"]).arg(socket).args(["images", "import"]).arg(archive);
    command::run(step, &mut ctr, &workspace.log("load-image"))
        .with_context(|| format!("cannot load {}", archive.display()))
}
