//! The order of things: look, ask, load, disrupt, put back, wait, and count.

use std::{pin::pin, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use kube::{Client, Config};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Arguments, ask, progress::Progress};
use crate::{
    load::{self, Options},
    trial::{self, Disruption, Image, Job, Trial, Workload},
    verify::{Cause, Findings, Lives, Recording, Requests, Sample, Subject},
};

/// How long the load runs before the disruption begins.
const LEAD: Duration = Duration::from_secs(3);
/// Requests that have to be over by then.
const LEAD_REQUESTS: u64 = 5;
/// How long a watch may take to bring what there is.
const LIST_LIMIT: Duration = Duration::from_secs(30);
/// How long it may take to put back what was changed.
const UNDO_LIMIT: Duration = Duration::from_secs(30);
/// How long the Job's pod may take to start, and to be removed.
const JOB_LIMIT: Duration = Duration::from_mins(2);

/// The error of a run that was asked to stop.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; what was changed for the time being is put back")]
pub(super) struct Interrupted;

/// Runs it, and returns what it found and what that was found from.
pub(super) async fn run(
    arguments: &Arguments,
    options: &Options,
    interrupted: &CancellationToken,
) -> anyhow::Result<(Findings, Recording)> {
    let progress = Progress::new();
    progress.phase("looking at the cluster");
    let mut scene = stopped(interrupted, look(arguments, &progress)).await?;
    // Not to be interrupted: a Job that is created without our knowing its name could not be removed.
    let job = match &scene.image {
        Some(image) => {
            let limit = JOB_LIMIT + LEAD + arguments.limit + arguments.duration + options.timeout;
            Some(Job::start(&scene.client, &scene.workload.namespace, image, options, limit).await?)
        }
        None => None,
    };
    let course = load_and_disrupt(arguments, options, &mut scene, job.as_ref(), interrupted, &progress);
    let outcome = Box::pin(course).await;
    let Some(job) = job else { return outcome };
    let removed =
        timeout(UNDO_LIMIT, job.remove()).await.context("removing the Job of the load took too long");
    conclude(outcome, removed.and_then(|removed| removed.map_err(Into::into)))
}

/// What a run came to once `last` is done: where that failed, it is told with what was found.
fn conclude(
    outcome: anyhow::Result<(Findings, Recording)>,
    last: anyhow::Result<()>,
) -> anyhow::Result<(Findings, Recording)> {
    let Err(error) = last else { return outcome };
    match outcome {
        Ok((mut findings, recording)) => {
            note(&mut findings, &error);
            Ok((findings, recording))
        }
        // That says that everything is put back.
        Err(first) if first.is::<Interrupted>() => Err(error),
        Err(first) => bail!("{first:#}; {error:#}"),
    }
}

/// Tells of an error with what was found all the same.
fn note(findings: &mut Findings, error: &anyhow::Error) {
    let error = format!("{error:#}");
    findings.incomplete = match findings.incomplete.take() {
        Some(told) if told.contains(&error) => Some(told),
        Some(told) => Some(format!("{told}; {error}")),
        None => Some(error),
    };
}

/// What is there before anything is done.
struct Scene {
    client: Client,
    /// Of the load, where it runs in the cluster.
    image: Option<Image>,
    trial: Trial,
    workload: Workload,
    origin: Instant,
    lives: watch::Receiver<Lives>,
    /// Ends the watches.
    _follows: DropGuard,
}

/// What the load in the cluster runs.
async fn image(arguments: &Arguments, client: &Client) -> anyhow::Result<Image> {
    let name = match &arguments.image {
        Some(name) => name.clone(),
        None => trial::operator_image(client)
            .await
            .context("give --image")?
            .context("no image is known for the load, without one operator to take it from: give --image")?,
    };
    Ok(Image { name, pull_secret: arguments.image_pull_secret.clone() })
}

/// Checks all that can be checked, and asks.
async fn look(arguments: &Arguments, progress: &Progress) -> anyhow::Result<Scene> {
    let config = Config::infer().await.context("finding the cluster: is KUBECONFIG right?")?;
    let namespace = arguments.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("connecting to the cluster")?;
    let reference = &arguments.workload;
    let (workload, object) = Workload::find(&client, reference.kind, &namespace, &reference.name).await?;
    if let Some(objection) = arguments.disrupt.objection(workload.kind, &object) {
        bail!("{workload} can't be disrupted: {objection}");
    }
    trial::check_access(&client, &workload, arguments.disrupt, arguments.in_cluster).await?;
    let image = if arguments.in_cluster { Some(image(arguments, &client).await?) } else { None };
    let origin = Instant::now();
    let (lives, follow) = trial::follow(&client, &workload, origin);
    let ended = CancellationToken::new();
    tokio::spawn(ended.clone().run_until_cancelled_owned(follow));
    let follows = ended.drop_guard();
    let listed = timeout(LIST_LIMIT, lives.clone().wait_for(Lives::is_listed)).await.map(|_| ());
    listed.context("listing the workload's pods and EndpointSlices takes too long")?;
    let trial = Trial::new(&client, &workload, arguments.disrupt, lives.clone());
    let intention = trial.intention().await?;
    if arguments.disrupt != Disruption::None && !arguments.yes {
        progress.pause();
        // Not on this thread: Ctrl-C has to be heard meanwhile.
        tokio::task::spawn_blocking(move || ask(&intention)).await.context("asking")??;
    }
    Ok(Scene { client, image, trial, workload, origin, lives, _follows: follows })
}

/// What became of the requests so far, and of the last that was lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) requests: Requests,
    cause: Option<Cause>,
}

impl Count {
    fn add(&mut self, sample: &Sample) {
        self.requests.count(sample.outcome);
        self.cause = sample.loss().or(self.cause);
    }
}

async fn load_and_disrupt(
    arguments: &Arguments,
    options: &Options,
    scene: &mut Scene,
    job: Option<&Job>,
    interrupted: &CancellationToken,
    progress: &Progress,
) -> anyhow::Result<(Findings, Recording)> {
    let (tell, requests) = watch::channel(Count::default());
    let stop = CancellationToken::new();
    let load = load(job, options, scene.origin, tell, stop.clone());
    let count = progress.count(requests.clone());
    let origin = scene.origin;
    let (mut begun, mut ended) = (None, None);
    let course = async {
        progress.phase("load without disruption");
        lead(arguments, options, &requests).await?;
        begun = Some(origin.elapsed());
        progress.phase(format!("disruption: {}", arguments.disrupt));
        let outcome = timeout(arguments.limit, scene.trial.run()).await;
        ended = Some(origin.elapsed());
        progress.phase("load after the disruption");
        let failed = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error @ trial::Error::Impossible(_))) => return Err(error.into()),
            // It has begun: what it cost is told all the same.
            Ok(Err(error)) => Some(error.into()),
            Err(_) => Some(anyhow!(
                "it took longer than {} s: `kubectl -n {} get pods,pdb` tells what it may have waited for",
                arguments.limit.as_secs(),
                scene.workload.namespace
            )),
        };
        if failed.is_none() {
            sleep(arguments.duration).await;
        }
        progress.phase("waiting for the last answers");
        stop.cancel();
        Ok::<_, anyhow::Error>(failed)
    };
    let both = async {
        let mut load = pin!(load);
        tokio::select! {
            failed = course => {
                let failed = failed?;
                let (samples, loaded) = load.await;
                Ok((samples, [failed, loaded.err()]))
            }
            // The load ends by itself only where it failed.
            (samples, loaded) = &mut load => Ok((samples, [loaded.err(), None])),
        }
    };
    // Counting ends with the load.
    let (outcome, ()) = tokio::join!(stopped(interrupted, both), count);
    let disruption = begun.map(|begun| (begun, ended.unwrap_or_else(|| origin.elapsed())));
    progress.phase("putting back what was changed");
    let undone = scene.trial.undo(UNDO_LIMIT).await;
    let outcome = outcome.and_then(|(samples, errors)| {
        let mut errors: Vec<_> = errors.into_iter().flatten().collect();
        if disruption.is_none()
            && let Some(error) = errors.pop()
        {
            return Err(error);
        }
        let disruption = disruption.filter(|_| arguments.disrupt != Disruption::None);
        let recording = Recording::new(samples, scene.lives.borrow().all(), disruption);
        let mut findings = Findings::of(subject(arguments, options, &scene.workload), &recording);
        for error in &errors {
            note(&mut findings, error);
        }
        Ok((findings, recording))
    });
    conclude(outcome, undone.map_err(Into::into))
}

/// The load, from here or from the cluster, until `stop`: its samples, and why it ended before.
async fn load(
    job: Option<&Job>,
    options: &Options,
    origin: Instant,
    tell: watch::Sender<Count>,
    stop: CancellationToken,
) -> (Vec<Sample>, anyhow::Result<()>) {
    let count = |sample: &Sample| tell.send_modify(|count| count.add(sample));
    if let Some(job) = job {
        let (samples, ended) = job.follow(origin, stop, count).await;
        return (samples, ended.map_err(Into::into));
    }
    let mut samples = Vec::new();
    let client = match load::Client::new(options) {
        Ok(client) => client,
        Err(error) => return (samples, Err(error.into())),
    };
    let sink = |sample| {
        count(&sample);
        samples.push(sample);
    };
    load::run(&client, options, origin, sink, stop).await;
    (samples, Ok(()))
}

/// Waits until the load has run for a while; an error where a request is lost meanwhile.
async fn lead(
    arguments: &Arguments,
    options: &Options,
    count: &watch::Receiver<Count>,
) -> anyhow::Result<()> {
    let mut count = count.clone();
    let first = count.wait_for(|count| count.requests.sent > 0);
    // A remote load has to start first.
    timeout(JOB_LIMIT, first).await.context("the load didn't start in time")?.context("the load ended")?;
    if arguments.disrupt == Disruption::None {
        return Ok(());
    }
    // No loss for a while is what is waited for.
    let _ = timeout(LEAD, count.wait_for(|count| count.cause.is_some())).await;
    let enough = |count: &Count| count.cause.is_some() || count.requests.sent >= LEAD_REQUESTS;
    let so_far = *count.wait_for(enough).await.context("the load ended")?;
    if let Some(cause) = so_far.cause {
        let Requests { sent, lost, .. } = so_far.requests;
        bail!(
            "{} doesn't answer ({cause}), so nothing was disrupted: {lost} of {sent} requests were lost before; \
             --disrupt none tells more",
            options.url
        );
    }
    Ok(())
}

fn subject(arguments: &Arguments, options: &Options, workload: &Workload) -> Subject {
    Subject {
        workload: workload.to_string(),
        namespace: workload.namespace.clone(),
        disruption: arguments.disrupt.to_string(),
        url: options.url.clone(),
        rate: options.rate.get(),
    }
}

async fn stopped<T>(
    interrupted: &CancellationToken,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    interrupted.run_until_cancelled(work).await.unwrap_or_else(|| Err(anyhow!(Interrupted)))
}

#[cfg(test)]
#[path = "course_tests.rs"]
mod tests;
