//! The memory of the replicas over time.

use std::{
    fs, mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use kube::Client;
use nix::unistd::Pid;

use crate::{operator::Operator, processes::processes};

/// The interval of samples, and their number before replicas are listed again.
const SAMPLE: Duration = Duration::from_millis(20);
const SAMPLES: usize = 25;
/// The characters of a sparkline, each for an eighth of the limit.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The maximal length of a sparkline.
const LENGTH: usize = 24;

/// Samples the memory of the largest replica.
pub(super) struct MemoryCurve {
    over: Arc<AtomicBool>,
    phase: Arc<Mutex<Memory>>,
    sampler: thread::JoinHandle<()>,
}

impl MemoryCurve {
    /// Samples the replicas' containers, including those of later replicas.
    pub(super) fn start() -> Self {
        let (over, phase) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Memory>>::default());
        let (stop, current) = (over.clone(), phase.clone());
        let sampler = thread::spawn(move || {
            // A separate client, so that the test doesn't delay the samples.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let operator = runtime.block_on(async {
                let client = Client::try_default().await.expect("KUBECONFIG leads to a cluster");
                Operator::find(&client).await
            });
            while !stop.load(Ordering::Relaxed) {
                let processes: Vec<_> =
                    runtime.block_on(operator.pods()).iter().flat_map(processes).collect();
                for _ in 0..SAMPLES {
                    current.lock().unwrap().sample(&processes);
                    thread::sleep(SAMPLE);
                }
            }
        });
        Self { over, phase, sampler }
    }

    /// Ends a phase, and returns its memory.
    pub(super) fn take(&self) -> Memory {
        mem::take(&mut self.phase.lock().unwrap())
    }

    pub(super) fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        self.sampler.join().unwrap();
    }
}

/// The resident memory of the largest replica during a phase, in MiB.
#[derive(Debug, Default)]
pub(super) struct Memory {
    samples: Vec<f64>,
    /// The maximum that the kernel counts, also between two samples.
    pub(super) peak: f64,
}

impl Memory {
    fn sample(&mut self, processes: &[Pid]) {
        if self.samples.is_empty() {
            // Resets the maximum of earlier phases.
            for process in processes {
                let _ = fs::write(format!("/proc/{process}/clear_refs"), "5");
            }
        }
        let used: Vec<_> = processes.iter().copied().filter_map(resident).collect();
        // Replicas that have ended are still listed for a short time.
        if used.is_empty() {
            return;
        }
        let largest = |field: usize| used.iter().map(|memory| memory[field]).fold(0.0, f64::max);
        self.samples.push(largest(0));
        self.peak = self.peak.max(largest(1));
    }

    /// The memory over time, from 0 to `limit`, in MiB.
    pub(super) fn sparkline(&self, limit: f64) -> String {
        sparkline(&self.samples, limit)
    }
}

/// The resident memory of a process and its maximum since the last reset, in MiB.
fn resident(process: Pid) -> Option<[f64; 2]> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let mebibytes = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        let kibibytes: f64 = line.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok()?;
        Some(kibibytes / 1024.0)
    };
    Some([mebibytes("VmRSS:")?, mebibytes("VmHWM:")?])
}

/// At most [`LENGTH`] characters for parts of the same duration. Each shows the largest value of its part, from 0 to
/// `limit`.
fn sparkline(values: &[f64], limit: f64) -> String {
    let length = values.len().min(LENGTH);
    let part = |n: usize| &values[n * values.len() / length..(n + 1) * values.len() / length];
    let level = |value: f64| (1_u8..8).filter(|n| value >= limit * f64::from(*n) / 8.0).count();
    (0..length).map(|n| LEVELS[level(part(n).iter().copied().fold(0.0, f64::max))]).collect()
}

#[test]
fn a_sparkline_shows_the_largest_value_of_each_part() {
    assert_eq!(sparkline(&[], 128.0), "");
    assert_eq!(sparkline(&[0.0, 16.0, 63.9, 64.0, 112.0, 128.0, 200.0], 128.0), "▁▂▄▅███");
    let mut values = vec![10.0; 1000];
    values[500] = 100.0;
    assert_eq!(sparkline(&values, 128.0), format!("{}▇{}", "▁".repeat(12), "▁".repeat(11)));
}
