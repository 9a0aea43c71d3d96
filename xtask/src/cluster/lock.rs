//! One command at a time for a cluster.

use std::fs::{File, OpenOptions, TryLockError};

use anyhow::{Context, Result, bail};

use super::files;
use super::layout::Cluster;

/// The lock of a cluster, held while this lives.
pub struct Lock {
    _file: File,
}

/// Takes the lock. It is an error if another process has it.
pub fn take(cluster: &Cluster) -> Result<Lock> {
    let path = cluster.lock_file();
    files::create_parent(&path)?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => {
            bail!(
                "another command is starting or stopping the cluster {}; wait for it to end",
                cluster.name()
            )
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}
