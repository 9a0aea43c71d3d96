//! The leader: its pod, CPU and memory, and progress.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use http::Request;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::time::sleep;

use super::load::Load;
use crate::bench::scale::usage::{self, Metric, Sample, largest_memory};
use crate::install::{NAMESPACE, RELEASE};
use crate::interrupt;
use crate::progress::{Step, print_line};

/// How long CPU time is counted. The kubelet measures every ten to fifteen seconds.
const WINDOW: Duration = Duration::from_mins(1);
/// The minimal span of the samples.
const SPAN: Duration = Duration::from_secs(40);
/// The limit for the samples, and for another leader.
const LIMIT: Duration = Duration::from_mins(3);
const POLL: Duration = Duration::from_secs(2);
/// How long it must reconcile no workload until it counts as idle, and the limit, after which the measurement starts all
/// the same.
const IDLE_SPAN: Duration = Duration::from_secs(10);
const IDLE_LIMIT: Duration = Duration::from_mins(20);
/// Counts evaluated workloads.
const EVALUATIONS: &str = "adieu_evaluations_total";
/// Counts reconciled workloads.
const RECONCILES: &str = "adieu_reconciles_total";
/// Counts seconds of CPU time.
const CPU: &str = "process_cpu_seconds_total";
/// Counts observed terminations.
const TERMINATIONS: &str = "adieu_terminations_total";
/// The port of the metrics.
const PORT: &str = "admin";

/// The leading replica.
pub struct Leader {
    client: Client,
    pod: String,
    port: i32,
}

/// The leader's usage.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// CPU time, as a share of one core.
    pub cpu: f64,
    /// The largest working set of any replica, in bytes.
    pub memory: f64,
}

/// What the leader has counted since it started.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// The workloads that it has evaluated.
    pub evaluations: f64,
    /// Seconds of CPU time.
    pub cpu: f64,
}

impl Leader {
    pub async fn find(client: &Client) -> Result<Self> {
        let pod = holder(client).await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let spec = pods.get(&pod).await.with_context(|| format!("cannot get the pod {pod}"))?.spec;
        let containers = spec.map(|spec| spec.containers).unwrap_or_default();
        let mut ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
        let port = ports.find(|port| port.name.as_deref() == Some(PORT));
        let port = port.with_context(|| format!("{pod} has no port named {PORT}"))?.container_port;
        Ok(Self { client: client.clone(), pod, port })
    }

    /// Waits until no replica terminates, and one leads.
    pub async fn elected(client: &Client) -> Result<Self> {
        let (step, started) = (Step::start("waiting until a new replica leads"), Instant::now());
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        loop {
            interrupt::check()?;
            step.waiting();
            let all = pods.list(&ListParams::default()).await?;
            let terminating = all.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()).count();
            match Self::find(client).await {
                Ok(leader) if terminating == 0 => {
                    step.done();
                    return Ok(leader);
                }
                found if started.elapsed() >= LIMIT => {
                    found?;
                    bail!("{terminating} replicas of adieu do not terminate");
                }
                _ => sleep(POLL).await,
            }
        }
    }

    /// What it has counted so far.
    pub async fn counters(&self) -> Result<Counters> {
        let metrics = self.metrics().await?;
        let value = |name| sum(&metrics, name).with_context(|| format!("the leader has no metric {name}"));
        Ok(Counters { evaluations: value(EVALUATIONS)?, cpu: value(CPU)? })
    }

    /// How many terminations of pods it has observed since it started.
    pub async fn terminations(&self) -> Result<f64> {
        Ok(sum(&self.metrics().await?, TERMINATIONS).unwrap_or_default())
    }

    /// Waits until it reconciles no workload. Those that can wait take minutes, 20 a second.
    pub async fn until_idle(&self) -> Result<()> {
        let (step, started) =
            (Step::start("waiting until the leader reconciles no workload"), Instant::now());
        let (mut reconciled, mut since) = (self.reconciles().await?, started);
        while since.elapsed() < IDLE_SPAN {
            interrupt::check()?;
            step.waiting();
            if started.elapsed() >= IDLE_LIMIT {
                print_line("it still reconciles workloads: CPU time and latency will be higher");
                return Ok(());
            }
            sleep(POLL).await;
            let now = self.reconciles().await?;
            if now > reconciled {
                (reconciled, since) = (now, Instant::now());
            }
        }
        step.done();
        Ok(())
    }

    async fn reconciles(&self) -> Result<f64> {
        Ok(sum(&self.metrics().await?, RECONCILES).unwrap_or_default())
    }

    async fn metrics(&self) -> Result<String> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}:{}/proxy/metrics", self.pod, self.port);
        let text = self.client.request_text(Request::get(path).body(Vec::new())?).await;
        text.context("cannot read the leader's metrics")
    }

    /// The largest working set of any replica, in bytes.
    pub async fn memory(&self) -> Result<f64> {
        Ok(largest_memory(&usage::read(&self.client).await?))
    }

    /// Its usage over a minute, under `load` if any.
    pub async fn usage(&self, what: &str, mut load: Option<&mut Load>) -> Result<Usage> {
        let step = Step::start(format!("measuring the leader's CPU time {what}"));
        let (began, started) = (seconds_since_1970(), Instant::now());
        let (mut of_cpu, mut memory) = (Vec::new(), 0.0_f64);
        let cpu = loop {
            interrupt::check()?;
            if let Some(load) = &mut load {
                load.check().await?;
            }
            step.waiting();
            let samples = usage::read(&self.client).await?;
            memory = memory.max(largest_memory(&samples));
            of_cpu.extend(samples.into_iter().filter(|sample| self.is_cpu_since(sample, began)));
            if started.elapsed() >= WINDOW
                && let Some(share) = share(&of_cpu, SPAN)
            {
                break share;
            }
            ensure!(
                started.elapsed() < LIMIT,
                "the kubelet measures the CPU time of {} too rarely",
                self.pod
            );
            sleep(POLL).await;
        };
        let now = holder(&self.client).await?;
        ensure!(now == self.pod, "{now} leads instead of {}: the measurement is invalid", self.pod);
        step.done();
        Ok(Usage { cpu, memory })
    }

    fn is_cpu_since(&self, sample: &Sample, began: f64) -> bool {
        sample.metric == Metric::Cpu && sample.pod == self.pod && sample.at >= began
    }
}

/// The pod that holds the Lease.
async fn holder(client: &Client) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let lease = leases.get(RELEASE).await.with_context(|| format!("cannot get the Lease {RELEASE}"))?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty());
    holder.context("no replica of adieu leads")
}

/// The sum of all series of a metric; `None` without any.
fn sum(metrics: &str, name: &str) -> Option<f64> {
    let value = |line: &str| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']))?;
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    };
    metrics.lines().filter_map(value).reduce(|sum, next| sum + next)
}

/// CPU time from the first sample to the last, as a share of one core. `None` until they span `least`.
fn share(samples: &[Sample], least: Duration) -> Option<f64> {
    let (first, last) = (samples.first()?, samples.last()?);
    let seconds = last.at - first.at;
    (seconds >= least.as_secs_f64()).then(|| (last.value - first.value) / seconds)
}

fn seconds_since_1970() -> f64 {
    Timestamp::now().as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: f64, value: f64) -> Sample {
        Sample { metric: Metric::Cpu, pod: "adieu-a".into(), value, at }
    }

    #[test]
    fn the_share_is_between_the_first_sample_and_the_last() {
        let samples = [sample(100.0, 7.0), sample(100.0, 7.0), sample(115.0, 7.5), sample(140.0, 8.0)];
        let share = |samples: &[Sample]| share(samples, Duration::from_secs(40));
        assert!((share(&samples).unwrap() - 0.025).abs() < 1e-9);
        assert_eq!(share(&samples[..3]), None, "15 s are too few");
        assert_eq!(share(&[]), None);
    }

    #[test]
    fn the_series_of_a_metric_are_summed_up() {
        let metrics = "# TYPE adieu_evaluations counter\n\
            adieu_evaluations_total 42\n\
            adieu_workloads{kind=\"Deployment\",state=\"pending\"} 7\n\
            adieu_workloads{kind=\"Deployment\",state=\"injected\"} 5\n\
            adieu_workloads_more 9\n";
        assert_eq!(sum(metrics, "adieu_evaluations_total"), Some(42.0));
        assert_eq!(sum(metrics, "adieu_workloads"), Some(12.0));
        assert_eq!(sum(metrics, "adieu_evaluations"), None);
    }
}
