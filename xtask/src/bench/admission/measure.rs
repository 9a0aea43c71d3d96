//! Sends the requests one after another on one connection, and checks the answers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http::{Request, header};
use kube::Client;
use tokio::time::sleep;

use super::arms::{ARMS, Arm, COUNT, order};
use super::calls::AllCalls;
use crate::interrupt;
use crate::progress::Step;
use crate::workspace::Workspace;

/// Requests of each arm that don't count, until connections are open, expressions compiled and heaps grown.
const WARM_UP: u32 = 300;
/// The limit until every arm is in effect: the API server watches webhooks and policies.
const LIMIT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(200);

/// Measures all arms, alternating.
pub async fn measure(client: Client, workspace: &Workspace, requests: u32) -> Result<(Samples, AllCalls)> {
    let session = Session::new(client, workspace)?;
    session.wait_until_effective().await?;
    let step = Step::start(format!("measuring {requests} dry-run creates of each arm"));
    session.rounds(WARM_UP, &step).await?;
    let before = session.calls().await?;
    let samples = session.rounds(requests, &step).await?;
    let calls = session.calls().await?.since(&before);
    step.done();
    for (arm, calls) in calls.of_webhooks() {
        // A webhook that is called for another arm would add to both.
        if calls.count != u64::from(requests) {
            bail!(
                "the webhook of {} was called {} times for {requests} requests: does something else write \
                 Deployments to this cluster?",
                arm.title(),
                calls.count
            );
        }
    }
    Ok((samples, calls))
}

/// Latencies in seconds, by arm.
pub type Samples = [(Arm, Vec<f64>); COUNT];

/// A connection with the requests to send.
struct Session {
    client: Client,
    bodies: [(Arm, Vec<u8>); COUNT],
}

impl Session {
    fn new(client: Client, workspace: &Workspace) -> Result<Self> {
        let mut bodies = ARMS.map(|arm| (arm, Vec::new()));
        for (arm, body) in &mut bodies {
            *body = arm.body(workspace)?;
        }
        Ok(Self { client, bodies })
    }

    /// Waits until every arm is in effect.
    async fn wait_until_effective(&self) -> Result<()> {
        let step = Step::start("waiting until every arm is in effect");
        let started = Instant::now();
        while let Err(error) = self.effective().await {
            interrupt::check()?;
            if started.elapsed() > LIMIT {
                return Err(error).with_context(|| format!("waited {} s", LIMIT.as_secs()));
            }
            step.waiting();
            sleep(POLL).await;
        }
        step.done();
        Ok(())
    }

    async fn effective(&self) -> Result<()> {
        let before = self.calls().await?;
        let mut specs = Vec::new();
        for arm in ARMS {
            specs.push(arm.check(&self.create(arm).await?.1)?);
        }
        let [_, _, injected @ ..] = specs.as_slice() else { bail!("the number of arms has changed") };
        if let [first, others @ ..] = injected
            && let Some(other) = others.iter().find(|other| *other != first)
        {
            bail!("the arms that inject make different pod specs:\n{first}\n{other}");
        }
        for (arm, calls) in self.calls().await?.since(&before).of_webhooks() {
            if calls.count != 1 {
                bail!("the webhook of {} was called {} times for one request", arm.title(), calls.count);
            }
        }
        Ok(())
    }

    /// Sends one request of every arm in each of `rounds` rounds.
    async fn rounds(&self, rounds: u32, step: &Step) -> Result<Samples> {
        let mut samples: Samples = ARMS.map(|arm| (arm, Vec::new()));
        for round in 0..rounds {
            interrupt::check()?;
            step.waiting();
            for arm in order(round) {
                let (seconds, answer) = self.create(arm).await?;
                arm.check(&answer)?;
                samples.iter_mut().filter(|(of, _)| *of == arm).for_each(|(_, of)| of.push(seconds));
            }
        }
        Ok(samples)
    }

    /// Sends one dry-run create. Returns the seconds from its first byte to the last byte of the answer, and the
    /// answer.
    async fn create(&self, arm: Arm) -> Result<(f64, String)> {
        let body = self.bodies.iter().find(|(of, _)| *of == arm).map(|(_, body)| body.clone());
        let path = format!("/apis/apps/v1/namespaces/{}/deployments?dryRun=All", arm.namespace());
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.unwrap_or_default())?;
        let started = Instant::now();
        let answer = self.client.request_text(request).await;
        let seconds = started.elapsed().as_secs_f64();
        Ok((seconds, answer.with_context(|| format!("{}: the request failed", arm.title()))?))
    }

    async fn calls(&self) -> Result<AllCalls> {
        AllCalls::fetch(&self.client).await
    }
}
