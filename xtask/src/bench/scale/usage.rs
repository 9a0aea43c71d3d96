//! CPU and memory of adieu's containers, as the kubelet measures them every ten to fifteen seconds.

use anyhow::{Context, Result};
use http::Request;
use kube::Client;

use crate::install::NAMESPACE;

/// The node of the operator's pods; the others are simulated.
const NODE: &str = "node-1";
/// Metrics of containers in the kubelet's `/metrics/resource`.
const METRICS: [(Metric, &str); 2] = [
    (Metric::Cpu, "container_cpu_usage_seconds_total"),
    (Metric::Memory, "container_memory_working_set_bytes"),
];

/// A metric of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Seconds of CPU time since the container started.
    Cpu,
    /// The working set, in bytes.
    Memory,
}

/// A measurement of one container.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub metric: Metric,
    pub pod: String,
    pub value: f64,
    /// Seconds since 1970.
    pub at: f64,
}

/// The latest samples of every replica.
pub async fn read(client: &Client) -> Result<Vec<Sample>> {
    let request = Request::get(format!("/api/v1/nodes/{NODE}/proxy/metrics/resource")).body(Vec::new())?;
    Ok(parse(&client.request_text(request).await.context("cannot ask the kubelet")?))
}

/// The working set of the largest replica, in bytes; 0 if none was measured.
pub fn largest_memory(samples: &[Sample]) -> f64 {
    let memory = samples.iter().filter(|sample| sample.metric == Metric::Memory);
    memory.map(|sample| sample.value).fold(0.0, f64::max)
}

/// A sample is `NAME{LABELS} VALUE MILLISECONDS`.
fn parse(text: &str) -> Vec<Sample> {
    let of_line = |line: &str| {
        let (name, rest) = line.split_once('{')?;
        let (labels, rest) = rest.split_once('}')?;
        let (metric, _) = METRICS.into_iter().find(|(_, of)| *of == name)?;
        let label = |name: &str| {
            let mut pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"'))
        };
        let pod = label("pod").filter(|_| label("namespace") == Some(NAMESPACE))?.to_owned();
        let mut numbers = rest.split_whitespace().filter_map(|number| number.parse::<f64>().ok());
        Some(Sample { metric, pod, value: numbers.next()?, at: numbers.next()? / 1000.0 })
    };
    text.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_the_operators_pods_and_times() {
        let text = r#"# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="adieu",namespace="adieu-system",pod="adieu-a"} 1.5 1700000000500
container_cpu_usage_seconds_total{container="web",namespace="shop",pod="web-a"} 99 1700000000500
container_memory_working_set_bytes{container="adieu",namespace="adieu-system",pod="adieu-a"} 2.5e+07 1700000000500
container_memory_working_set_bytes{container="adieu",namespace="adieu-system",pod="adieu-b"} 3e+07 1700000001000
container_start_time_seconds{container="adieu",namespace="adieu-system",pod="adieu-a"} 1.7e+09
node_cpu_usage_seconds_total 7 1700000000500
"#;
        let samples = parse(text);
        let cpu = Sample { metric: Metric::Cpu, pod: "adieu-a".into(), value: 1.5, at: 1_700_000_000.5 };
        assert_eq!((samples.len(), &samples[0]), (3, &cpu));
        assert!((largest_memory(&samples) - 3e7).abs() < 1.0);
        assert!(largest_memory(&[]).abs() < 1.0);
    }
}
