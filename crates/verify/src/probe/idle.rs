//! Measures how long the server keeps idle connections.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    http1::{Http1, Lost},
    target::Target,
};
use crate::verify::{Ending, IdleOutcome, IdleProbe, Observation, idle_times};

/// Tests idle times up to `limit`, each on its own connection, all at the same time: takes little more than `limit`.
/// Returns nothing after `stop`.
pub async fn keep_alive(target: &Arc<Target>, limit: Duration, stop: &CancellationToken) -> Vec<Observation> {
    let mut probes = JoinSet::new();
    for idle in idle_times(limit) {
        let target = target.clone();
        probes.spawn(async move { probe(&target, idle).await });
    }
    let mut observations = Vec::new();
    while let Some(Some(probe)) = stop.run_until_cancelled(probes.join_next()).await {
        observations.extend(probe.ok().map(Observation::Idle));
    }
    if stop.is_cancelled() { vec![] } else { observations }
}

/// Sends a request, leaves the connection idle, and sends another one.
async fn probe(target: &Target, idle: Duration) -> IdleProbe {
    let mut probe = IdleProbe { idle, outcome: IdleOutcome::Failed, advertised_seconds: None };
    let Ok(mut connection) = Http1::open(target).await else { return probe };
    let Ok(first) = connection.request(target).await else { return probe };
    probe.advertised_seconds = first.advertised_seconds;
    if first.is_last {
        probe.outcome = IdleOutcome::NotKept;
        return probe;
    }
    let since = Instant::now();
    probe.outcome = tokio::select! {
        end = connection.ended() => match end {
            Ending::Reset => IdleOutcome::Reset(since.elapsed()),
            Ending::Closed | Ending::Cut => IdleOutcome::Closed(since.elapsed()),
        },
        () = sleep(idle) => match connection.request(target).await {
            Ok(_) => IdleOutcome::Answered,
            Err(Lost::NotSent | Lost::Closed) => IdleOutcome::Closed(idle),
            Err(Lost::Reset) => IdleOutcome::Reset(idle),
            Err(Lost::TimedOut) => IdleOutcome::Lost,
        },
    };
    probe
}
