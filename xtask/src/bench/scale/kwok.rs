//! kwok, which simulates nodes and their kubelets.

use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use crate::target::Target;
use crate::toolchain;

/// The annotation of nodes that it simulates.
pub const NODE: (&str, &str) = ("kwok.x-k8s.io/node", "fake");

/// The stages of nodes and pods.
const STAGES: &str = "tests/cluster/kwok/stages.yaml";

/// Its process, which ends when this is dropped.
pub struct Kwok(Child);

impl Kwok {
    /// Starts it, for nodes with the annotation [`NODE`].
    pub fn start(target: &Target) -> Result<Self> {
        let program = toolchain::build_kwok(target.workspace())?;
        let (annotation, value) = NODE;
        let mut kwok = target.command(program);
        kwok.arg("--kubeconfig").arg(target.kubeconfig());
        kwok.arg(format!("--manage-nodes-with-annotation-selector={annotation}={value}"));
        kwok.arg("--config").arg(target.workspace().root().join(STAGES));
        // Like a kubelet. Without leases the nodes would become unreachable.
        kwok.arg("--node-lease-duration-seconds=40");
        // A documentation address (RFC 5737).
        kwok.arg("--node-ip=192.0.2.1");
        let log = target.workspace().log("kwok");
        let log = std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        kwok.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(kwok.spawn().context("cannot run kwok")?))
    }
}

impl Drop for Kwok {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
