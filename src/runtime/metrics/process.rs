//! The [metrics of the process](https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics) that each
//! Prometheus client has. They are read from `/proc` for each scrape; without it, as on macOS, there are none.

use std::{
    fmt,
    fs::{read_dir, read_to_string},
    str::FromStr,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// The clock ticks per second in `/proc` (`USER_HZ`): 100 on every platform that adieu is released for. The C library of
/// a release, musl, has it as a constant too.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads the metrics of this process. They belong into a registry with the prefix `process`.
#[derive(Debug)]
pub(super) struct ProcessCollector {
    /// When the machine booted, in seconds since 1970.
    boot: Option<f64>,
}

impl ProcessCollector {
    pub(super) fn new() -> Self {
        let stat = read_to_string("/proc/stat");
        Self { boot: stat.ok().and_then(|stat| value(&stat, "btime ")) }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge =
            |name, help, unit, value| encode(&mut encoder, [name, help], unit, &ConstGauge::new(value));
        if let Some(bytes) =
            read_to_string("/proc/self/status").ok().and_then(|status| resident_bytes(&status))
        {
            gauge("resident_memory", "Resident memory size.", Some(Unit::Bytes), bytes)?;
        }
        if let Ok(open) = read_dir("/proc/self/fd") {
            // One of them is that of this folder.
            let count = open.count().saturating_sub(1) as u64;
            gauge("open_fds", "Open file descriptors.", None, count)?;
        }
        let Some(times) = read_to_string("/proc/self/stat").ok().and_then(|stat| times(&stat)) else {
            return Ok(());
        };
        let cpu = ConstCounter::new(times.cpu);
        encode(&mut encoder, ["cpu", "User and system CPU time spent."], Some(Unit::Seconds), &cpu)?;
        let Some(boot) = self.boot else { return Ok(()) };
        let start = ConstGauge::new(boot + times.start);
        let help = "Start time of the process since 1970.";
        encode(&mut encoder, ["start_time", help], Some(Unit::Seconds), &start)
    }
}

fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    [name, help]: [&str; 2],
    unit: Option<Unit>,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, unit.as_ref(), metric.metric_type())?)
}

/// Times of a process, in seconds.
#[derive(Debug, PartialEq)]
struct Times {
    /// The CPU time that it spent.
    cpu: f64,
    /// When it started, since the machine booted.
    start: f64,
}

/// The times in `/proc/PID/stat` (proc(5)).
fn times(stat: &str) -> Option<Times> {
    // The second field, the name in parentheses, may contain spaces and parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<_> = fields.split_ascii_whitespace().collect();
    let seconds = |field: usize| Some(fields.get(field - 3)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(Times { cpu: seconds(14)? + seconds(15)?, start: seconds(22)? })
}

/// The resident memory in `/proc/PID/status`, which has KiB.
fn resident_bytes(status: &str) -> Option<u64> {
    value::<u64>(status, "VmRSS:").map(|kib| kib * 1024)
}

/// The number after this start of a line.
fn value<T: FromStr>(text: &str, start: &str) -> Option<T> {
    let rest = text.lines().find_map(|line| line.strip_prefix(start))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    #[test]
    fn times_and_memory_are_read_from_proc() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 250 150 0 0 20 0 9 0 12345 1 2 3";
        assert_eq!(times(stat), Some(Times { cpu: 4.0, start: 123.45 }));
        assert_eq!((times("7 (a) S 1"), times("")), (None, None));
        let status = "Name:\tadieu\nVmHWM:\t   90 kB\nVmRSS:\t   64 kB\n";
        assert_eq!(resident_bytes(status), Some(64 << 10));
        assert_eq!(value::<u64>("cpu 1 2\nbtime 1700000000\n", "btime "), Some(1_700_000_000));
        assert_eq!(value::<u64>("cpu 1 2\n", "btime "), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_metrics_of_the_process_are_exported_with_their_usual_names() {
        let mut registry = Registry::default();
        let process = registry.sub_registry_with_prefix("process");
        process.register_collector(Box::new(ProcessCollector::new()));
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        let metric = |name: &str| {
            let found: Option<f64> = value(&text, &format!("{name} "));
            found.unwrap_or_else(|| panic!("no {name} in\n{text}"))
        };
        assert!(metric("process_resident_memory_bytes") > 1_000_000.0);
        assert!(metric("process_open_fds") >= 3.0);
        assert!(metric("process_cpu_seconds_total") >= 0.0);
        let now = Timestamp::now().as_duration().as_secs_f64();
        let age = now - metric("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }
}
