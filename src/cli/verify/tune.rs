//! Finds the shortest drain that loses no request.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{
    prepared_run::PreparedRun,
    runner::{REVERT_LIMIT, Runner, Unanswered},
};
use crate::{
    cli::{interruptible::Interrupted, print::causes},
    disruption::{TargetWorkload, TemporaryDrain},
    plan::Kind,
    verify::{PodTimelines, Trial, Tuning, TuningLimits, TuningReport, VerificationReport},
};

/// How long requests may be lost because of an earlier disruption: connection tracking forgets a connection attempt to a
/// pod that is gone after two minutes.
const SETTLING_LIMIT: Duration = Duration::from_mins(3);

impl Runner<'_> {
    /// Disrupts the workload with different drains, and restores its annotation.
    pub(super) async fn tune(&self, limits: TuningLimits) -> anyhow::Result<TuningReport> {
        self.progress.phase("checking the cluster");
        let prepared = self.unless_interrupted(self.prepare()).await?;
        let TargetWorkload { kind, namespace, name, .. } = &prepared.workload;
        let found = TargetWorkload::find(&prepared.client, *kind, namespace, name);
        let (workload, object) = self.unless_interrupted(async { Ok(found.await?) }).await?;
        let mut drain = TemporaryDrain::of(&workload, &object);
        let mut tuning = Tuning::new(limits);
        let outcome = Box::pin(self.try_drains(&prepared, &mut drain, &mut tuning)).await;
        self.progress.phase("restoring the annotation");
        let restored = drain.restore(REVERT_LIMIT).await.map_err(anyhow::Error::from);
        let outcome = match outcome {
            // It says that everything is restored.
            Err(error) if error.is::<Interrupted>() => {
                restored?;
                return Err(error);
            }
            outcome => outcome,
        };
        let errors: Vec<_> = [outcome, restored]
            .into_iter()
            .filter_map(|outcome| outcome.err().map(|error| causes(&error)))
            .collect();
        if tuning.is_empty() && !errors.is_empty() {
            bail!("{}", errors.join("; "));
        }
        let incomplete = (!errors.is_empty()).then(|| errors.join("; "));
        let mut report = tuning.report(self.description(&workload), incomplete);
        report.policy = report.shortest_seconds.map(|seconds| policy(&workload, &object, seconds));
        Ok(report)
    }

    async fn try_drains(
        &self,
        prepared: &PreparedRun,
        drain: &mut TemporaryDrain,
        tuning: &mut Tuning,
    ) -> anyhow::Result<()> {
        let pods = prepared.timelines.borrow().alive().count();
        while let Some(seconds) = tuning.next_drain() {
            self.progress.phase(format!("rolling out a drain of {seconds} s"));
            self.unless_interrupted(async {
                drain.set(seconds).await?;
                self.wait_for_drain(prepared, pods, seconds).await
            })
            .await?;
            let report = Box::pin(self.disrupt_once(prepared)).await?;
            if let Some(why) = report.incomplete {
                bail!("the disruption with a drain of {seconds} s is incomplete: {why}");
            }
            if report.requests.not_sent > 0 {
                bail!("{} requests were due and not sent: use a lower --rate", report.requests.not_sent);
            }
            tuning.record(trial_of(&report, seconds));
        }
        Ok(())
    }

    /// Disrupts the workload once. Before that, requests may still be lost because of the drain of the last disruption: a
    /// slow proxy still sends to pods that are gone.
    async fn disrupt_once(&self, prepared: &PreparedRun) -> anyhow::Result<VerificationReport> {
        let started = Instant::now();
        loop {
            let mut trial = self.unless_interrupted(self.again(prepared)).await?;
            match Box::pin(self.run_prepared(&mut trial)).await {
                Err(error) if error.is::<Unanswered>() && started.elapsed() < SETTLING_LIMIT => {
                    self.progress.phase("waiting until no request is lost");
                }
                outcome => return outcome.map(|(report, _)| report),
            }
        }
    }

    /// Waits until all pods, and at least so many, are ready with this drain, and no other ones are left.
    async fn wait_for_drain(&self, prepared: &PreparedRun, pods: usize, seconds: u64) -> anyhow::Result<()> {
        let limit: Duration = self.arguments.limit;
        let mut timelines = prepared.timelines.clone();
        let waited = timeout(limit, timelines.wait_for(|found| have_drain(found, pods, seconds))).await;
        let waited = waited.map(|found| found.map(drop));
        let TargetWorkload { namespace, name, kind, .. } = &prepared.workload;
        waited
            .map_err(|_| {
                anyhow!(
                    "the pods have no drain of {seconds} s after {} s: check that the workload is managed, with \
                     `adieu explain {}/{name} -n {namespace}`",
                    limit.as_secs(),
                    kind.as_str().to_lowercase()
                )
            })?
            .context("the watch of the pods ended")
    }
}

/// Whether at least so many pods are ready with this drain, and all others are gone.
fn have_drain(timelines: &PodTimelines, pods: usize, seconds: u64) -> bool {
    let drain = i64::try_from(seconds).ok();
    let alive = || timelines.alive().map(|(_, timeline)| timeline);
    let is_ready = alive().all(|timeline| timeline.ready.is_some() && timeline.drain_seconds == drain);
    let all = timelines.all();
    let is_settled = all.iter().all(|timeline| timeline.terminating.is_none() || timeline.gone.is_some());
    is_ready && is_settled && alive().count() >= pods
}

fn trial_of(report: &VerificationReport, drain_seconds: u64) -> Trial {
    let terminated = report.pods.iter().filter(|pod| pod.terminating_seconds.is_some()).count();
    Trial {
        drain_seconds,
        requests: report.requests.sent,
        lost: report.requests.lost,
        terminations: u64::try_from(terminated).unwrap_or(u64::MAX),
    }
}

/// A policy that gives the workload this drain.
fn policy(workload: &TargetWorkload, object: &DynamicObject, seconds: u64) -> Value {
    let TargetWorkload { kind, namespace, name, .. } = workload;
    let mut spec = json!({"selector": object.data["spec"]["selector"], "drainSeconds": seconds});
    if *kind != Kind::Deployment {
        spec["kinds"] = json!([kind.as_str()]);
    }
    json!({
        "apiVersion": "adieu.dev/v1alpha1",
        "kind": "GracefulPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;

    use super::*;

    /// A pod with this drain, which is ready.
    fn pod(name: &str, drain: u64) -> Value {
        let hook = json!({"preStop": {"sleep": {"seconds": drain}}});
        json!({
            "metadata": {"name": name, "uid": name},
            "spec": {"containers": [{"name": "web", "lifecycle": hook}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        })
    }

    fn timelines(pods: &[Value]) -> PodTimelines {
        let mut timelines = PodTimelines::default();
        for pod in pods {
            timelines.pod_event(Duration::ZERO, &Event::Apply(serde_json::from_value(pod.clone()).unwrap()));
        }
        timelines
    }

    #[test]
    fn a_drain_is_rolled_out_once_all_pods_have_it_and_others_are_gone() {
        let terminating = |name: &str, drain| {
            let mut pod = pod(name, drain);
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-31T12:00:00Z");
            pod
        };
        for (pods, expected) in [
            (vec![pod("a", 5), pod("b", 5)], true),
            (vec![pod("a", 5)], false),
            (vec![pod("a", 5), pod("b", 10)], false),
            (vec![pod("a", 5), pod("b", 5), terminating("c", 10)], false),
        ] {
            assert_eq!(have_drain(&timelines(&pods), 2, 5), expected, "{pods:?}");
        }
    }
}
