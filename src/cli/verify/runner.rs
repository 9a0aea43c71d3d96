//! Runs a verification: prepare, confirm, start the load, disrupt, restore, report.

use std::{pin::pin, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    arguments::Arguments,
    count::Count,
    load_balancers,
    prepared_run::{PreparedRun, follow},
    progress::PhaseIndicator,
};
use crate::{
    cli::{
        adieu_image::adieu_image,
        confirm::confirm,
        connection::connect_with_cluster_name,
        interruptible::{self, Interrupted, add_error},
    },
    disruption::{self, Disruption, Disruptor, Job, TargetWorkload},
    load::{self, Options, Probes},
    probe::{Target, hold, keep_alive},
    verify::{
        ConnectionInput, ConnectionReport, Measurements, Recording, Requests, RunDescription, Sample,
        TuningLimits, VerificationReport,
    },
};

/// How long the load runs before the disruption begins.
const WARM_UP: Duration = Duration::from_secs(3);
/// Requests that must have ended by then.
const WARM_UP_REQUESTS: u64 = 5;
/// The limit for restoring temporary changes.
pub(super) const REVERT_LIMIT: Duration = Duration::from_secs(30);
/// The limit for the Job's pod to start, and to be removed.
const JOB_LIMIT: Duration = Duration::from_mins(2);

type Outcome = anyhow::Result<(VerificationReport, Recording)>;

/// A run of `adieu verify`.
pub(super) struct Runner<'a> {
    pub(super) arguments: &'a Arguments,
    pub(super) options: &'a Options,
    pub(super) interrupted: &'a CancellationToken,
    pub(super) progress: PhaseIndicator,
}

/// When the disruption began and ended.
#[derive(Clone, Copy, Debug, Default)]
struct DisruptionTimes {
    began: Option<Duration>,
    ended: Option<Duration>,
}

impl Runner<'_> {
    /// Runs it, and returns the report with the recording that it is based on.
    pub(super) async fn run(&self) -> Outcome {
        self.progress.phase("checking the cluster");
        let mut prepared = self.unless_interrupted(self.prepare()).await?;
        self.run_prepared(&mut prepared).await
    }

    /// Runs it after the preparation.
    pub(super) async fn run_prepared(&self, prepared: &mut PreparedRun) -> Outcome {
        // Not interruptible: a Job that is created without its name being known could not be removed.
        let job = match &prepared.image {
            Some(image) => {
                let Arguments { limit, duration, .. } = self.arguments;
                let limit = self.idle_time() + WARM_UP + *limit + *duration + self.options.timeout;
                let namespace = &prepared.workload.namespace;
                Some(Job::start(&prepared.client, namespace, image, self.options, JOB_LIMIT + limit).await?)
            }
            None => None,
        };
        let outcome = Box::pin(self.load_and_disrupt(prepared, job.as_ref())).await;
        let Some(job) = job else { return outcome };
        let removed = timeout(REVERT_LIMIT, job.remove()).await.context("timed out deleting the load Job");
        merge_errors(outcome, removed.and_then(|removed| removed.map_err(Into::into)))
    }

    /// Checks everything that can be checked, and asks for confirmation.
    pub(super) async fn prepare(&self) -> anyhow::Result<PreparedRun> {
        let arguments = self.arguments;
        let (client, cluster) = connect_with_cluster_name().await?;
        let namespace = arguments.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let reference = &arguments.workload.0;
        let (workload, object) =
            TargetWorkload::find(&client, reference.kind, &namespace, &reference.name).await?;
        if let Some(reason) = arguments.disrupt.unsupported_reason(workload.kind, &object) {
            bail!("{workload} cannot be disrupted: {reason}");
        }
        let tuning = arguments.tune.limits();
        let (in_cluster, is_tuned) = (arguments.in_cluster, tuning.is_some());
        disruption::check_access(&client, &workload, arguments.disrupt, in_cluster, is_tuned).await?;
        let (image, secret) = (arguments.image.as_deref(), arguments.image_pull_secret.as_deref());
        let image = if in_cluster { Some(adieu_image(&client, image, secret).await?) } else { None };
        let mut load_balancers: Vec<_> = arguments.connections.load_balancer().into_iter().collect();
        if arguments.connections.finds_load_balancers() {
            load_balancers.extend(load_balancers::find(&client, &namespace, &object).await);
        }
        let (origin, timelines, watches) = follow(&client, &workload).await?;
        let disruptor = Disruptor::new(&client, &workload, arguments.disrupt, timelines.clone());
        let mut intention = disruptor.intention().await?;
        if let Some(TuningLimits { max_seconds, disruptions, .. }) = tuning {
            intention = format!(
                "{intention}; up to {disruptions} times, each time after rolling out a drain of 0 to {max_seconds} s"
            );
        }
        let intention = format!("{intention}; in {cluster}");
        if arguments.disrupt != Disruption::None && !arguments.run.yes {
            self.progress.pause();
            confirm(intention).await?;
        }
        Ok(PreparedRun {
            client,
            image,
            disruptor,
            workload,
            origin,
            timelines,
            load_balancers,
            _watches: watches,
        })
    }

    /// The same run again, in times from now on.
    pub(super) async fn again(&self, prepared: &PreparedRun) -> anyhow::Result<PreparedRun> {
        let PreparedRun { client, image, workload, load_balancers, .. } = prepared;
        let (origin, timelines, watches) = follow(client, workload).await?;
        Ok(PreparedRun {
            client: client.clone(),
            image: image.clone(),
            disruptor: Disruptor::new(client, workload, self.arguments.disrupt, timelines.clone()),
            workload: workload.clone(),
            origin,
            timelines,
            load_balancers: load_balancers.clone(),
            _watches: watches,
        })
    }

    async fn load_and_disrupt(&self, prepared: &mut PreparedRun, job: Option<&Job>) -> Outcome {
        let (count, requests) = watch::channel(Count::default());
        let stop = CancellationToken::new();
        let load = load(job, self.options, prepared.origin, count, stop.clone());
        let shown = self.progress.count(requests.clone());
        let origin = prepared.origin;
        let mut times = DisruptionTimes::default();
        let disrupt = self.disrupt(prepared, &mut times, &requests);
        let both = async {
            let mut load = pin!(load);
            tokio::select! {
                failed = disrupt => {
                    let failed = failed?;
                    self.progress.phase("waiting for the last answers");
                    stop.cancel();
                    let (measured, loaded) = load.await;
                    Ok((measured, [failed, loaded.err()]))
                }
                // The load ends by itself only if it fails.
                (measured, loaded) = &mut load => Ok((measured, [loaded.err(), None])),
            }
        };
        // Counting ends with the load.
        let (outcome, ()) = tokio::join!(self.unless_interrupted(both), shown);
        let disruption = times.began.map(|began| (began, times.ended.unwrap_or_else(|| origin.elapsed())));
        self.progress.phase("restoring temporary changes");
        let reverted = prepared.disruptor.revert(REVERT_LIMIT).await;
        let outcome = outcome.and_then(|(measured, errors)| {
            let mut errors: Vec<_> = errors.into_iter().flatten().collect();
            if disruption.is_none()
                && let Some(error) = errors.pop()
            {
                return Err(error);
            }
            let disruption = disruption.filter(|_| self.arguments.disrupt != Disruption::None);
            let connections = self.connections(prepared, &measured);
            let recording = Recording::new(measured.samples, prepared.timelines.borrow().all(), disruption);
            let mut report = VerificationReport::of(self.description(&prepared.workload), &recording);
            report.connections = connections;
            for error in &errors {
                add_error(&mut report.incomplete, error);
            }
            Ok((report, recording))
        });
        merge_errors(outcome, reverted.map_err(Into::into))
    }

    /// Disrupts the workload once the load has warmed up, and waits for the load after it. The result is the error of
    /// a disruption that has begun, since its effects are reported all the same.
    async fn disrupt(
        &self,
        prepared: &mut PreparedRun,
        times: &mut DisruptionTimes,
        requests: &watch::Receiver<Count>,
    ) -> anyhow::Result<Option<anyhow::Error>> {
        let arguments = self.arguments;
        self.progress.phase(match self.options.probes.idle_limit {
            Some(limit) => {
                format!("idle connections for {} s, then load without disruption", limit.as_secs())
            }
            None => "load without disruption".to_owned(),
        });
        self.warm_up(requests).await?;
        times.began = Some(prepared.origin.elapsed());
        self.progress.phase(format!("disruption: {}", arguments.disrupt));
        let outcome = timeout(arguments.limit, prepared.disruptor.run()).await;
        times.ended = Some(prepared.origin.elapsed());
        self.progress.phase("load after the disruption");
        match outcome {
            Ok(Ok(())) => {
                sleep(arguments.duration).await;
                Ok(None)
            }
            Ok(Err(error @ disruption::Error::Impossible(_))) => Err(error.into()),
            Ok(Err(error)) => Ok(Some(error.into())),
            Err(_) => Ok(Some(anyhow!(
                "the disruption took longer than {} s: check `kubectl -n {} get pods,pdb`",
                arguments.limit.as_secs(),
                prepared.workload.namespace
            ))),
        }
    }

    /// Waits until the load has run for a while. A lost request is an error.
    async fn warm_up(&self, count: &watch::Receiver<Count>) -> anyhow::Result<()> {
        let mut count = count.clone();
        let first = count.wait_for(|count| count.requests.sent > 0);
        // A load in the cluster has to start first, and idle connections are tested before the load.
        timeout(JOB_LIMIT + self.idle_time(), first)
            .await
            .context("the load did not start in time")?
            .context("the load ended")?;
        if self.arguments.disrupt == Disruption::None {
            return Ok(());
        }
        // A timeout means that no request was lost.
        let _ = timeout(WARM_UP, count.wait_for(|count| count.cause.is_some())).await;
        let enough = |count: &Count| count.cause.is_some() || count.requests.sent >= WARM_UP_REQUESTS;
        let so_far = *count.wait_for(enough).await.context("the load ended")?;
        if let Some(cause) = so_far.cause {
            let Requests { sent, lost, .. } = so_far.requests;
            return Err(Unanswered(format!(
                "{} does not answer ({cause}), so nothing was disrupted: {lost} of {sent} requests were lost before \
                 the disruption; use --disrupt none for details",
                self.options.url
            ))
            .into());
        }
        Ok(())
    }

    /// The longest time in which idle connections are tested before the load.
    fn idle_time(&self) -> Duration {
        let limit = self.options.probes.idle_limit;
        // A connection, a request before and one after the idle time.
        limit.map(|limit| limit + self.options.timeout * 3).unwrap_or_default()
    }

    /// The report about connections, if any were observed.
    fn connections(&self, prepared: &PreparedRun, measured: &Measurements) -> Option<ConnectionReport> {
        if self.options.probes == Probes::default() {
            return None;
        }
        let timelines = prepared.timelines.borrow().all();
        Some(ConnectionReport::of(ConnectionInput {
            observations: &measured.observations,
            timelines: &timelines,
            load_balancers: prepared.load_balancers.clone(),
            ended: prepared.origin.elapsed(),
        }))
    }

    pub(super) fn description(&self, workload: &TargetWorkload) -> RunDescription {
        RunDescription {
            workload: workload.to_string(),
            namespace: workload.namespace.clone(),
            disruption: self.arguments.disrupt.to_string(),
            url: self.options.url.clone(),
            rate: self.options.rate.get(),
        }
    }

    pub(super) async fn unless_interrupted<T>(
        &self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let done = self.interrupted.run_until_cancelled(work).await;
        done.unwrap_or_else(|| Err(Interrupted("temporary changes are restored").into()))
    }
}

/// Requests were lost before the disruption.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unanswered(String);

/// Sends the load, from here or from the cluster, until `stop`. Returns its measurements, and the error that ended it
/// early.
async fn load(
    job: Option<&Job>,
    options: &Options,
    origin: Instant,
    counts: watch::Sender<Count>,
    stop: CancellationToken,
) -> (Measurements, anyhow::Result<()>) {
    let count = |sample: &Sample| counts.send_modify(|count| count.add(sample));
    if let Some(job) = job {
        let (measured, ended) = job.follow(origin, stop, count).await;
        return (measured, ended.map_err(Into::into));
    }
    let Measurements { mut samples, mut observations } = Measurements::default();
    let loaded = async {
        let client = load::Client::new(options)?;
        let target = Arc::new(Target::new(options)?);
        if let Some(limit) = options.probes.idle_limit {
            observations.extend(keep_alive(&target, limit, &stop).await);
        }
        let sink = |sample| {
            count(&sample);
            samples.push(sample);
        };
        let observe = |observation| observations.push(observation);
        tokio::join!(
            load::run(&client, options, origin, sink, stop.clone()),
            hold(&target, origin, observe, stop.clone())
        );
        Ok::<(), anyhow::Error>(())
    };
    let loaded = loaded.await;
    (Measurements { samples, observations }, loaded)
}

/// The outcome, together with the result of the last step.
fn merge_errors(outcome: Outcome, last: anyhow::Result<()>) -> Outcome {
    interruptible::merge_errors(outcome, last, |(report, _)| &mut report.incomplete)
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
