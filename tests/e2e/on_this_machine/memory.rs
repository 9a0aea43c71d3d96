//! The memory of the replicas over time.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use nix::unistd::Pid;

use super::processes;
use crate::operator::Operator;

/// The interval of samples, and their number before replicas are listed again.
const SAMPLE: Duration = Duration::from_millis(20);

const SAMPLES: usize = 25;

/// The memory of the largest replica over time.
pub struct MemoryCurve {
    over: Arc<AtomicBool>,
    /// The peak of the current phase, in KiB.
    peak: Arc<AtomicU64>,
    sampler: thread::JoinHandle<()>,
}

impl MemoryCurve {
    /// Samples the replicas' containers, including those of later replicas.
    pub fn start(operator: Operator) -> Self {
        let (over, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stop, highest) = (over.clone(), peak.clone());
        let sampler = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            while !stop.load(Ordering::Relaxed) {
                let processes: Vec<_> =
                    runtime.block_on(operator.pods()).iter().flat_map(processes).collect();
                for _ in 0..SAMPLES {
                    let most = processes.iter().copied().filter_map(resident).max().unwrap_or_default();
                    highest.fetch_max(most, Ordering::Relaxed);
                    thread::sleep(SAMPLE);
                }
            }
        });
        Self { over, peak, sampler }
    }

    /// Ends a phase, and returns its peak in MiB.
    pub fn take(&self) -> u64 {
        self.peak.swap(0, Ordering::Relaxed) / 1024
    }

    pub fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        self.sampler.join().unwrap();
    }
}

/// The resident memory of a process, in KiB.
fn resident(process: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}
