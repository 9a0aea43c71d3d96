//! Sends the requests, one after the other on one connection, and holds what comes back against what should.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http::{Request, header};
use kube::Client;
use tokio::time::sleep;

use super::arms::{ARMS, Arm, COUNT, order};
use super::report::Calls;
use crate::interrupt;
use crate::progress::Step;
use crate::workspace::Workspace;

/// Requests of each arm before those that count: connections are made, expressions compiled, heaps grown.
const WARM_UP: u32 = 300;
/// How long it may take until every arm does what it should: the API server learns of webhooks and policies
/// by watches.
const LIMIT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(200);

/// Measures every arm, in turns.
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
        // One that is called for another's requests would add to both.
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

/// Seconds of every request, by arm.
pub type Samples = [(Arm, Vec<f64>); COUNT];

/// A connection, and what is sent on it.
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

    /// Returns once every arm does what it should.
    async fn wait_until_effective(&self) -> Result<()> {
        let step = Step::start("waiting until every arm does what it should");
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
        let [_, _, injected @ ..] = specs.as_slice() else { bail!("there are more arms") };
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

    /// Creates with every arm in each of `rounds` rounds.
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

    /// One dry-run create: how many seconds it took from its first byte to the answer's last, and the answer.
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
        AllCalls::ask(&self.client).await
    }
}

/// The calls of every webhook that was called, by its name.
#[derive(Debug, Default)]
pub struct AllCalls(BTreeMap<String, Calls>);

impl AllCalls {
    /// How often the API server has called each webhook, and how long it waited.
    pub async fn ask(client: &Client) -> Result<Self> {
        let metrics = client.request_text(Request::get("/metrics").body(Vec::new())?).await;
        Ok(Self::read(&metrics.context("cannot read the API server's metrics")?))
    }

    /// Those of one webhook, by its name.
    pub fn of(&self, webhook: &str) -> Calls {
        self.0.get(webhook).copied().unwrap_or_default()
    }

    /// Reads them from the API server's metrics.
    fn read(metrics: &str) -> Self {
        const PREFIX: &str = "apiserver_admission_webhook_admission_duration_seconds_";
        let mut all = BTreeMap::<String, Calls>::new();
        for line in metrics.lines().filter_map(|line| line.strip_prefix(PREFIX)) {
            let name = line.split_once("name=\"").and_then(|(_, rest)| rest.split_once('"'));
            let value = line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok());
            let (Some((name, _)), Some(value)) = (name, value) else { continue };
            let calls = all.entry(name.to_owned()).or_default();
            if line.starts_with("sum{") {
                calls.seconds += value;
            } else if line.starts_with("count{") {
                // A counter that is a whole number, in the form of all numbers there.
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let count = value as u64;
                calls.count += count;
            }
        }
        Self(all)
    }

    pub fn since(&self, earlier: &Self) -> Self {
        let difference = |(name, calls): (&String, &Calls)| {
            let before = earlier.0.get(name).copied().unwrap_or_default();
            let count = calls.count.saturating_sub(before.count);
            (name.clone(), Calls { count, seconds: calls.seconds - before.seconds })
        };
        Self(self.0.iter().map(difference).collect())
    }

    /// Those of the arms that have a webhook.
    pub fn of_webhooks(&self) -> impl Iterator<Item = (Arm, Calls)> {
        ARMS.into_iter().filter_map(|arm| Some((arm, self.of(arm.webhook()?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = r#"# TYPE apiserver_admission_webhook_admission_duration_seconds histogram
apiserver_admission_webhook_admission_duration_seconds_bucket{name="annotated.adieu.dev",operation="CREATE",rejected="false",type="admit",le="+Inf"} 7
apiserver_admission_webhook_admission_duration_seconds_sum{name="annotated.adieu.dev",operation="CREATE",rejected="false",type="admit"} 0.5
apiserver_admission_webhook_admission_duration_seconds_count{name="annotated.adieu.dev",operation="CREATE",rejected="false",type="admit"} 7
apiserver_admission_webhook_admission_duration_seconds_sum{name="annotated.adieu.dev",operation="UPDATE",rejected="false",type="admit"} 0.25
apiserver_admission_webhook_admission_duration_seconds_count{name="annotated.adieu.dev",operation="UPDATE",rejected="false",type="admit"} 2
apiserver_admission_webhook_request_total{name="noop.adieu-bench.svc"} 99
"#;

    #[test]
    fn calls_are_read_from_the_metrics_and_counted_from_an_earlier_reading() {
        let all = AllCalls::read(METRICS);
        let of = |all: &AllCalls| all.of_webhooks().collect::<Vec<_>>();
        assert_eq!(
            of(&all),
            [
                (Arm::Noop, Calls::default()),
                (Arm::Patch, Calls::default()),
                (Arm::Condition, Calls::default()),
                (Arm::Adieu, Calls { count: 9, seconds: 0.75 }),
                (Arm::Labelled, Calls::default()),
            ]
        );
        let later = AllCalls::read(&METRICS.replace("} 7", "} 10").replace("} 0.5", "} 0.75"));
        assert_eq!(of(&later.since(&all))[3], (Arm::Adieu, Calls { count: 3, seconds: 0.25 }));
    }
}
