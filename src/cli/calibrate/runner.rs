//! Runs a calibration: prepare, confirm, create canaries, load, terminate, remove, report.

use std::{pin::pin, time::Duration};

use adieu_core::text::counted;
use anyhow::{Context as _, bail};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    arguments::Arguments,
    loads::{self, Load},
};
use crate::{
    calibration::{
        CalibrationReport, CanaryTermination, Connections, Stream, WayDescription, WayResult, WaySamples,
        profiles,
    },
    canaries::{
        CANARIES, Canaries, Observer, Pacing, RequiredAccess, StreamStates, Target, Way, apply_profiles,
        check_access, kubernetes_version, proxy_versions,
    },
    cli::{
        adieu_image::adieu_image,
        confirm::confirm,
        connection::connect_with_cluster_name,
        interruptible::{self, Interrupted},
        print::causes,
        verify::PhaseIndicator,
    },
    disruption::{self, Image, Job},
};

/// The limit for everything before the first termination, and for ending the last one.
const SETUP_LIMIT: Duration = Duration::from_mins(15);
/// The limit for each way to get its address.
const WAY_LIMIT: Duration = Duration::from_mins(5);
/// The time from ready canaries to the first request. A node that connects to a Service before its kube-proxy knows it
/// rejects later connections for up to two minutes.
const RULES_DELAY: Duration = Duration::from_secs(5);
/// The limit for the removal.
const REMOVE_LIMIT: Duration = Duration::from_secs(30);

/// A run of `adieu calibrate`.
pub(super) struct Runner<'a> {
    pub(super) arguments: &'a Arguments,
    pub(super) ways: Vec<(Way, Option<String>)>,
    pub(super) interrupted: &'a CancellationToken,
    pub(super) progress: PhaseIndicator,
}

/// The state before anything is created.
struct PreparedRun {
    client: Client,
    namespace: String,
    image: Image,
    kubernetes_version: String,
}

/// What was measured.
struct Measured {
    targets: Vec<Target>,
    samples: Vec<WaySamples>,
    terminations: Vec<CanaryTermination>,
    incomplete: Option<String>,
}

impl Runner<'_> {
    pub(super) async fn run(&self) -> anyhow::Result<CalibrationReport> {
        self.progress.phase("checking the cluster");
        let prepared = self.unless_interrupted(self.prepare()).await?;
        let PreparedRun { client, namespace, image, .. } = &prepared;
        // Not interruptible: a Job that is created without its name being known could not be removed.
        let canaries = Canaries::start(client, namespace, image, self.pacing(), self.deadline()).await?;
        let outcome = Box::pin(self.unless_interrupted(self.measure(&prepared, &canaries))).await;
        self.progress.phase("removing the canaries");
        let removed = timeout(REMOVE_LIMIT, canaries.remove()).await;
        let removed = removed.with_context(|| {
            let name = &canaries.owner().name;
            format!("timed out removing the canaries: kubectl -n {namespace} delete job {name}")
        });
        let report = merge_errors(outcome, removed.and_then(|removed| removed.map_err(Into::into)))?;
        let applied = self.apply(client, &report).await;
        merge_errors(Ok(report), applied)
    }

    /// Writes the drains to the policy, if that is asked for.
    async fn apply(&self, client: &Client, report: &CalibrationReport) -> anyhow::Result<()> {
        let profiles = profiles(report);
        if self.arguments.apply && !profiles.is_empty() {
            self.progress.phase("writing the policy");
            apply_profiles(client, &self.arguments.policy, profiles).await?;
        }
        Ok(())
    }

    /// Checks everything that can be checked, and asks for confirmation.
    async fn prepare(&self) -> anyhow::Result<PreparedRun> {
        let arguments = self.arguments;
        let (client, cluster) = connect_with_cluster_name().await?;
        let namespace = arguments.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let required = RequiredAccess {
            needs_node: self.ways.iter().any(|(way, url)| *way == Way::NodePort && url.is_none()),
            applies: arguments.apply,
        };
        let ways: Vec<_> = self.ways.iter().map(|(way, _)| way.clone()).collect();
        check_access(&client, &namespace, &ways, required).await?;
        let (image, secret) = (arguments.image.as_deref(), arguments.image_pull_secret.as_deref());
        let image = adieu_image(&client, image, secret).await?;
        let kubernetes_version = kubernetes_version(&client).await?;
        if !arguments.run.yes {
            self.progress.pause();
            confirm(self.intention(&cluster, &namespace, &image)).await?;
        }
        Ok(PreparedRun { client, namespace, image, kubernetes_version })
    }

    /// The run in words, for the confirmation.
    fn intention(&self, cluster: &str, namespace: &str, image: &Image) -> String {
        let Arguments { terminations, rate, in_cluster, apply, policy, .. } = self.arguments;
        let names: Vec<_> = self.ways.iter().map(|(way, _)| way.to_string()).collect();
        let mut kinds: Vec<_> = self.ways.iter().flat_map(|(way, _)| way.kinds()).copied().collect();
        kinds.extend(["Job", "Service"]);
        kinds.sort_unstable();
        kinds.dedup();
        let streams = self.ways.len() * 2;
        let seconds = self.load_limit().as_secs();
        let requests = seconds * u64::from(rate.get()) * u64::try_from(streams).unwrap_or(u64::MAX);
        let load = if *in_cluster {
            format!("from {} in the cluster", counted(streams, "Job"))
        } else {
            "from here".to_owned()
        };
        let applied = if *apply {
            format!(", and write the drains to the ClusterGracefulPolicy {policy}")
        } else {
            String::new()
        };
        format!(
            "measure {} in {cluster}, namespace {namespace}: create {CANARIES} pods of the image {} and \
             objects of the kinds {}; send {} requests/s to them {load}, for {} min and {requests} requests at most; \
             delete {} of them one after the other, each replaced; remove everything at the end{applied}",
            names.join(", "),
            image.name,
            kinds.join(", "),
            u64::from(rate.get()) * u64::try_from(streams).unwrap_or(u64::MAX),
            seconds.div_ceil(60),
            terminations,
        )
    }

    fn pacing(&self) -> Pacing {
        let Arguments { quiet, window, .. } = *self.arguments;
        Pacing { quiet, window }
    }

    /// The longest time for which requests are sent.
    fn load_limit(&self) -> Duration {
        self.arguments.limit + self.arguments.window + SETUP_LIMIT
    }

    /// The time after which everything is removed whatever happens.
    fn deadline(&self) -> Duration {
        let ways = u32::try_from(self.ways.len()).unwrap_or(u32::MAX);
        self.load_limit() + WAY_LIMIT.saturating_mul(ways)
    }

    async fn measure(
        &self,
        prepared: &PreparedRun,
        canaries: &Canaries,
    ) -> anyhow::Result<CalibrationReport> {
        let PreparedRun { client, namespace, .. } = prepared;
        let origin = Instant::now();
        let (timelines, follow) = disruption::follow(client, namespace, &canaries.selector(), origin);
        let ended = CancellationToken::new();
        tokio::spawn(ended.clone().run_until_cancelled_owned(follow));
        let _watches = ended.drop_guard();
        self.progress.phase("creating canaries and what leads to them");
        for _ in 0..CANARIES {
            canaries.add().await?;
        }
        let targets = canaries.expose(&self.ways, &self.arguments.ways.exposed()).await?;
        let (states, seen) = watch::channel(StreamStates::new(targets.len()));
        let observer = Observer { canaries, timelines, states: seen, origin, pacing: self.pacing() };
        observer.ready().await?;
        sleep(RULES_DELAY).await;
        let loads = self.loads(prepared, canaries, &targets).await?;
        let stop = CancellationToken::new();
        let mut sent = pin!(loads::send(&loads, targets.len(), origin, &states, stop.clone()));
        let (terminations, incomplete) = tokio::select! {
            terminated = self.terminate(&observer, &targets) => terminated?,
            ended = &mut sent => {
                ended?;
                bail!("the load ended early");
            }
        };
        self.progress.phase("waiting for the last responses");
        stop.cancel();
        let samples = sent.await?;
        Ok(self.report(prepared, Measured { targets, samples, terminations, incomplete }).await)
    }

    /// The loads, each with its Job if they run in the cluster.
    async fn loads(
        &self,
        prepared: &PreparedRun,
        canaries: &Canaries,
        targets: &[Target],
    ) -> anyhow::Result<Vec<Load>> {
        let (rate, insecure) = (self.arguments.rate, self.arguments.ways.is_insecure());
        let mut loads = Vec::new();
        for (way, target) in targets.iter().enumerate() {
            for connections in Connections::ALL {
                let stream = Stream { way, connections };
                let options =
                    loads::options(canaries.stream_url(target, stream), connections, rate, insecure);
                let job = if self.arguments.in_cluster {
                    let PreparedRun { client, image, .. } = prepared;
                    let limit = self.load_limit();
                    Some(Job::start_owned(client, canaries.owner(), image, &options, limit).await?)
                } else {
                    None
                };
                loads.push(Load { stream, options, job });
            }
        }
        Ok(loads)
    }

    /// Terminates canaries, and says why they are fewer than planned. It is an error if there are none.
    async fn terminate(
        &self,
        observer: &Observer<'_>,
        targets: &[Target],
    ) -> anyhow::Result<(Vec<CanaryTermination>, Option<String>)> {
        self.progress.phase("waiting until requests reach canaries");
        let name = |target: &Target| format!("{} at {}", target.way, target.url);
        let names: Vec<_> = targets.iter().map(name).collect();
        observer.settled(&names).await?;
        let (started, planned) = (Instant::now(), self.arguments.terminations);
        let mut done = Vec::new();
        for number in 1..=planned {
            if started.elapsed() >= self.arguments.limit {
                let (limit, number) = (self.arguments.limit.as_secs(), done.len());
                let why =
                    format!("the limit of {limit} s was reached after {number} of {planned} terminations");
                return Ok((done, Some(why)));
            }
            let requests = observer.states.borrow().requests();
            self.progress.phase(format!("termination {number} of {planned}, {requests} requests so far"));
            match observer.terminate().await {
                Ok(termination) => done.push(termination),
                Err(error) if done.is_empty() => return Err(error.into()),
                Err(error) => return Ok((done, Some(causes(&error.into())))),
            }
        }
        Ok((done, None))
    }

    async fn report(&self, prepared: &PreparedRun, measured: Measured) -> CalibrationReport {
        let PreparedRun { client, namespace, kubernetes_version, .. } = prepared;
        let Arguments { rate, quiet, window, terminations: planned, .. } = *self.arguments;
        let Measured { targets, samples, terminations, incomplete } = measured;
        let mut ways = Vec::new();
        for (way, (target, samples)) in targets.into_iter().zip(&samples).enumerate() {
            let mut versions = if target.way.has_proxy() {
                proxy_versions(client, way, &terminations).await
            } else {
                Vec::new()
            };
            versions.push(format!("Kubernetes {kubernetes_version}"));
            let seen = terminations.iter().filter_map(|termination| termination.observe(way, samples, quiet));
            let described =
                WayDescription { exposure: target.exposure, url: target.url, version: versions.join(", ") };
            ways.push(WayResult::of(described, samples.requests(), seen.collect(), window));
        }
        CalibrationReport {
            namespace: namespace.clone(),
            kubernetes_version: kubernetes_version.clone(),
            time: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            rate: rate.get(),
            quiet_seconds: quiet.as_secs_f64(),
            planned_terminations: planned,
            incomplete,
            ways,
        }
    }

    async fn unless_interrupted<T>(
        &self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let done = self.interrupted.run_until_cancelled(work).await;
        done.unwrap_or_else(|| Err(Interrupted("everything is removed").into()))
    }
}

/// The outcome, together with the result of the last step.
fn merge_errors(
    outcome: anyhow::Result<CalibrationReport>,
    last: anyhow::Result<()>,
) -> anyhow::Result<CalibrationReport> {
    interruptible::merge_errors(outcome, last, |report| &mut report.incomplete)
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
