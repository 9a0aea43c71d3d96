//! Opts out workloads, with a limited number of concurrent rollouts.

use std::{cell::RefCell, collections::HashSet, future::ready, time::Duration};

use futures::{StreamExt as _, stream};
use kube::{Client, core::DynamicObject};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    injected_pods::has_injected_pods,
    outcome::{Outcome, Step, Stop},
    pod_disruption_budgets,
    target::{Action, Before, Target},
};
use crate::{
    api::annotations::GRACEFUL,
    cli::live_object::{ReadError, get_workload},
    controller::write,
    plan::Kind,
    runtime::api_errors::describe,
    scheduler::progress::{
        BestCounts, RolloutProgress, RolloutState, has_not_started, is_condition_of_rollout,
        reason_pods_are_kept, replacement_time, rollout_state,
    },
};

/// The interval of checks of a rollout.
const INTERVAL: Duration = Duration::from_secs(2);

/// The maximum number of retries after a conflict.
const ATTEMPTS: usize = 10;

/// The limits of rollouts.
#[derive(Clone, Copy, Debug)]
pub(super) struct RolloutLimits {
    /// The number of concurrent rollouts.
    pub(super) max_concurrent: usize,
    /// The time without progress after which a rollout fails.
    pub(super) progress_deadline: Duration,
}

/// Opts out the targets in order. After a failed rollout no further target of its namespace is started, and none at all
/// once the API server doesn't answer or `interrupted` is cancelled. Returns the outcomes of those that were started.
pub(super) async fn opt_out(
    client: &Client,
    targets: Vec<Target>,
    limits: RolloutLimits,
    interrupted: &CancellationToken,
    report: impl Fn(&Target, &Step<'_>) + Copy,
) -> Vec<(Target, Outcome)> {
    let stopped = RefCell::new(Stopped::default());
    let may_start = |target: &Target| !interrupted.is_cancelled() && !stopped.borrow().includes(target);
    stream::iter(targets)
        .filter(|target| ready(may_start(target)))
        .map(|target| {
            let stopped = &stopped;
            async move {
                let run =
                    Run { client, target: &target, progress_deadline: limits.progress_deadline, interrupted };
                let outcome = run.opt_out(|step| report(&target, step)).await;
                report(&target, &Step::Done(&outcome));
                stopped.borrow_mut().add(&target, &outcome);
                (target, outcome)
            }
        })
        .buffer_unordered(limits.max_concurrent)
        .collect()
        .await
}

/// What is stopped.
#[derive(Default)]
struct Stopped {
    everything: bool,
    namespaces: HashSet<String>,
}

impl Stopped {
    fn includes(&self, target: &Target) -> bool {
        self.everything || self.namespaces.contains(&target.namespace)
    }

    /// Adds what an outcome stops.
    fn add(&mut self, target: &Target, outcome: &Outcome) {
        match outcome.stops() {
            Some(Stop::Everything) => self.everything = true,
            Some(Stop::Namespace) => drop(self.namespaces.insert(target.namespace.clone())),
            None => {}
        }
    }
}

/// The end of a rollout, or of waiting for it.
enum RolloutEnd {
    Complete,
    Deleted,
    Interrupted,
    Failed {
        reason: String,
        /// Whether no pod was replaced.
        not_started: bool,
    },
}

/// Opting out one target.
struct Run<'a> {
    client: &'a Client,
    target: &'a Target,
    progress_deadline: Duration,
    interrupted: &'a CancellationToken,
}

impl Run<'_> {
    async fn opt_out(&self, report: impl Fn(&Step<'_>)) -> Outcome {
        let mut was_broken = false;
        match &self.target.action {
            Action::Skip(reason) => return Outcome::Skipped { reason: reason.clone() },
            Action::Wait => return self.wait(&report).await,
            // A rollout in progress is not interrupted. If it fails, the injection may be the cause.
            Action::Restore if self.target.before == Before::Rolling => {
                report(&Step::Waits);
                match self.settled(None, None, Duration::ZERO).await {
                    RolloutEnd::Complete => {}
                    RolloutEnd::Deleted => return Outcome::Deleted,
                    RolloutEnd::Interrupted => return Outcome::NotStarted,
                    RolloutEnd::Failed { .. } => was_broken = true,
                }
            }
            Action::Restore | Action::Annotate => {}
        }
        let (before, written) = match self.write().await {
            Ok(Some(written)) => written,
            Ok(None) => return Outcome::Deleted,
            Err(outcome) => return outcome,
        };
        // A workload that was broken when it was listed may have recovered.
        was_broken |= self.target.before == Before::Broken
            && rollout_state(self.target.kind, &before) != RolloutState::Complete;
        self.clean_up(&written, &report).await;
        if let Some(warning) = reapply_warning(&before) {
            report(&Step::Warns(&warning));
        }
        if written.metadata.generation == before.metadata.generation {
            let is_restored = self.target.action == Action::Restore;
            if !is_restored || Before::of(self.target.kind, &before) != Before::Rolling {
                return Outcome::Annotated;
            }
            // Another run restored it meanwhile.
        }
        report(&Step::RollsOut);
        if let Some(reason) = reason_pods_are_kept(self.target.kind, &before) {
            report(&Step::Warns(&format!("{reason}: its pods keep the injection until you replace them")));
        }
        let condition_before = RolloutProgress::of(self.target.kind, &before, || false).condition;
        let of_old_pods = replacement_time(self.target.kind, &before);
        let end = self.settled(written.metadata.generation, condition_before, of_old_pods).await;
        Outcome::of(end, was_broken, self.target.kind)
    }

    /// Waits for the rollout of a workload that is opted out already.
    async fn wait(&self, report: &impl Fn(&Step<'_>)) -> Outcome {
        report(&Step::Waits);
        // An earlier run may have been killed before this.
        if let Ok(Some(object)) = self.read().await {
            self.clean_up(&object, report).await;
        }
        let end = self.settled(None, None, Duration::ZERO).await;
        if let RolloutEnd::Failed { reason, .. } = &end
            && !self.may_have_injected_pods(report).await
        {
            return Outcome::UnrelatedFailure { reason: format!("its rollout {reason}") };
        }
        // Unready pods of the previous template block the rollout.
        let was_broken = self.target.before == Before::Broken
            || matches!(end, RolloutEnd::Failed { not_started: true, .. });
        Outcome::of(end, was_broken, self.target.kind)
    }

    /// Whether its rollout may replace injected pods.
    async fn may_have_injected_pods(&self, report: &impl Fn(&Step<'_>)) -> bool {
        let Ok(Some(object)) = self.read().await else { return true };
        has_injected_pods(self.client, &object).await.unwrap_or_else(|error| {
            report(&Step::Warns(&format!(
                "its pods cannot be listed, so its rollout counts as one that reverts the injection: {}",
                describe(&error)
            )));
            true
        })
    }

    /// The workload; `None` if it doesn't exist.
    async fn read(&self) -> Result<Option<DynamicObject>, ReadError> {
        let Target { kind, namespace, name, .. } = self.target;
        get_workload(self.client, *kind, namespace, name).await
    }

    /// Removes adieu's PodDisruptionBudget and then its entry in managedFields: as long as that exists, a later run repeats
    /// both.
    async fn clean_up(&self, written: &DynamicObject, report: &impl Fn(&Step<'_>)) {
        if let Err(error) = pod_disruption_budgets::remove(self.client, written).await {
            report(&Step::Warns(&format!(
                "adieu's PodDisruptionBudget for it, if there is one, is not deleted: {}",
                describe(&error)
            )));
            // Without the right to delete it, no later run succeeds either.
            if !matches!(&error, kube::Error::Api(status) if status.code == 403) {
                return;
            }
        }
        write::drop_managed_fields(self.client, self.target.kind, written).await;
    }

    /// Returns the object before and after the write; `None` if it was deleted.
    async fn write(&self) -> Result<Option<(DynamicObject, DynamicObject)>, Outcome> {
        let mut attempts = 0..ATTEMPTS;
        loop {
            let before = match self.read().await {
                Ok(Some(object)) => object,
                Ok(None) => return Ok(None),
                Err(error) => return Err(Outcome::unknown(&error, error.is_unreachable())),
            };
            match write::opt_out(self.client, self.target.kind, &before).await {
                Ok(written) => return Ok(Some((before, written))),
                Err(error) if error.is_conflict() && attempts.next().is_some() => {}
                Err(error) if error.is_rejection() || error.is_conflict() => {
                    return Err(Outcome::Rejected { reason: error.to_string() });
                }
                Err(error) => return Err(Outcome::unknown(&error, error.is_unreachable())),
            }
        }
    }

    /// Waits until the rollout of this generation, or the current one, completes or fails. Retries if the API server
    /// doesn't answer. `condition_before` is the condition of the previous rollout, and `of_old_pods` how long replacing one
    /// of its pods may take.
    async fn settled(
        &self,
        generation: Option<i64>,
        condition_before: Option<u64>,
        of_old_pods: Duration,
    ) -> RolloutEnd {
        let deadline = self.progress_deadline + of_old_pods;
        let kind = self.target.kind;
        let (mut best, mut since) = (None, Instant::now());
        let mut not_started = false;
        loop {
            match self.read().await {
                Ok(None) => return RolloutEnd::Deleted,
                Ok(Some(object)) if object.metadata.generation >= generation => {
                    let now = RolloutProgress::of(kind, &object, || false);
                    let is_of_this = is_condition_of_rollout(now.condition, condition_before);
                    match now.state {
                        RolloutState::Complete => return RolloutEnd::Complete,
                        RolloutState::Failed if is_of_this => {
                            let reason = "made no progress within progressDeadlineSeconds".into();
                            return RolloutEnd::Failed { reason, not_started: false };
                        }
                        RolloutState::Failed | RolloutState::Progressing => {}
                    }
                    not_started = has_not_started(kind, &object);
                    if let Some(counts) = now.counts
                        && BestCounts::update(&mut best, now.generation.unwrap_or(0), counts)
                    {
                        since = Instant::now();
                    }
                }
                Ok(Some(_)) => {}
                Err(error) => tracing::debug!(%error, "cannot read the workload, retrying"),
            }
            if since.elapsed() >= deadline {
                let reason = format!("made no progress for {} s", deadline.as_secs());
                return RolloutEnd::Failed { reason, not_started };
            }
            if self.interrupted.run_until_cancelled(sleep(INTERVAL)).await.is_none() {
                return RolloutEnd::Interrupted;
            }
        }
    }
}

impl Outcome {
    /// The outcome of a rollout.
    fn of(end: RolloutEnd, was_broken: bool, kind: Kind) -> Self {
        match end {
            RolloutEnd::Complete => Self::Restored,
            RolloutEnd::Deleted => Self::Deleted,
            RolloutEnd::Interrupted => Self::RollsOut,
            RolloutEnd::Failed { reason, .. } => {
                let ordered = "; delete a pod of the previous revision that never became ready";
                let remedy = if kind == Kind::StatefulSet { ordered } else { "" };
                Self::Failed { reason: format!("its rollout {reason}{remedy}"), was_broken }
            }
        }
    }

    fn unknown(error: &impl ToString, unreachable: bool) -> Self {
        Self::Unknown { reason: error.to_string(), unreachable }
    }
}

/// Clients that apply manifests with updates instead of server-side apply.
const APPLIERS: [&str; 4] = ["kubectl-client-side-apply", "helm", "Helm", "argocd-controller"];

/// The warning about a workload whose annotation another field manager applies.
fn reapply_warning(object: &DynamicObject) -> Option<String> {
    let opted_in = object.metadata.annotations.as_ref()?.get(GRACEFUL).is_some_and(|value| value != "false");
    let key = format!("f:{GRACEFUL}");
    let manager = object.metadata.managed_fields.iter().flatten().find_map(|entry| {
        let applier = entry.manager.as_deref().is_some_and(|manager| APPLIERS.contains(&manager));
        let applies = applier || entry.operation.as_deref() == Some("Apply");
        let fields = entry.fields_v1.as_ref().filter(|_| applies)?;
        let applies = fields.0["f:metadata"]["f:annotations"].get(&key).is_some();
        entry.manager.as_ref().filter(|_| opted_in && applies)
    })?;
    Some(format!(
        "the field manager {manager:?} applies its annotation {GRACEFUL}: change it there too, or the next apply opts \
         the workload in again"
    ))
}

#[cfg(test)]
#[path = "rollouts_tests/mod.rs"]
mod tests;
