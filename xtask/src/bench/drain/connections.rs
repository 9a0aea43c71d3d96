//! The connection tracking of the node through which requests enter the cluster.

use anyhow::{Context, Result};

use crate::command;
use crate::target::Target;

/// The time for which the kernel keeps a connection that a deleted pod didn't answer, in seconds. A later connection from
/// the same port is sent there too, so one measurement would affect the next.
const TIMEOUT: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_syn_sent";
/// Longer than the interval at which clients repeat the first packet, in the 10 s until they time out.
const SHORT: &str = "10";
/// The kernel's default.
const DEFAULT: &str = "120";

/// The shorter timeout, until this is dropped. Nothing is changed in a cluster that isn't managed.
pub struct ShortTimeout<'a>(&'a Target);

impl<'a> ShortTimeout<'a> {
    /// Sets it.
    pub fn set(target: &'a Target) -> Result<Self> {
        write(target, SHORT)?;
        Ok(Self(target))
    }

    /// Removes the connections that deleted pods didn't answer. Call it while no requests are sent.
    pub fn forget_connections(&self) -> Result<()> {
        if self.0.cluster().is_none() {
            return Ok(());
        }
        let mut conntrack = self.0.command("conntrack");
        conntrack.args(["--delete", "--proto", "tcp", "--state", "SYN_SENT"]);
        // It fails if there are none.
        conntrack.output().map(drop).context("cannot run conntrack")
    }
}

impl Drop for ShortTimeout<'_> {
    fn drop(&mut self) {
        // The cluster may be gone.
        let _ = write(self.0, DEFAULT);
    }
}

fn write(target: &Target, seconds: &str) -> Result<()> {
    if target.cluster().is_none() {
        return Ok(());
    }
    let mut shell = target.command("sh");
    command::output(shell.args(["-c", &format!("echo {seconds} > {TIMEOUT}")]))
        .map(drop)
        .context("cannot change the timeout of connections")
}
