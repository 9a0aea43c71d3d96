//! The terminations of one workload.

use std::collections::VecDeque;

use adieu_core::{
    api::{
        CauseCounts, Histograms, OutcomeCounts, RecentTermination, Recommendation, RequestedTimes,
        TerminationOutcome as Outcome, TerminationProfileStatus, WorkloadKind, limits,
    },
    hash::hash_of,
};
use k8s_openapi::jiff::Timestamp;

use crate::{
    distribution::Distribution,
    recommendation::{ignores_sigterm, recommendation},
    termination::Termination,
};

/// What the terminations of a workload's pods did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    observed_since: String,
    /// When the last termination ended, and how it went: of several in the same second the worst.
    last: (String, Option<Outcome>),
    terminations: i64,
    outcomes: OutcomeCounts,
    causes: CauseCounts,
    /// Outcomes since the pods were last given other times, like the shutdown times.
    current: OutcomeCounts,
    shutdown: Distribution,
    /// The longest time after its preStop hook until all containers of a pod had ended, whatever times it had.
    longest_seconds: i64,
    withdrawal: Distribution,
    requested: RequestedTimes,
    /// The latest first.
    recent: VecDeque<RecentTermination>,
}

impl Profile {
    /// The profile of a workload with this first termination.
    #[must_use]
    pub fn new(first: &Termination) -> Self {
        let mut profile = Self {
            observed_since: status_time(first.end),
            last: (status_time(first.end), None),
            terminations: 0,
            outcomes: OutcomeCounts::default(),
            causes: CauseCounts::default(),
            current: OutcomeCounts::default(),
            shutdown: Distribution::default(),
            longest_seconds: 0,
            withdrawal: Distribution::default(),
            requested: first.requested,
            recent: VecDeque::new(),
        };
        profile.add(first);
        profile
    }

    /// The profile that another leader wrote.
    #[must_use]
    pub fn of(status: TerminationProfileStatus) -> Self {
        Self {
            observed_since: status.observed_since,
            last: (status.last_termination_time, status.last_outcome),
            terminations: status.terminations,
            outcomes: status.outcomes,
            causes: status.causes,
            current: status.current_outcomes,
            shutdown: Distribution::of(&status.histograms.shutdown_seconds),
            longest_seconds: status.longest_seconds,
            withdrawal: Distribution::of(&status.histograms.endpoint_withdrawal_seconds),
            requested: status.requested.unwrap_or_default(),
            recent: status.recent.into_iter().take(limits::RECENT_TERMINATIONS).collect(),
        }
    }

    /// Counts a termination.
    pub fn add(&mut self, termination: &Termination) {
        let increase = |count: &mut i64| *count = (*count + 1).min(limits::TERMINATIONS);
        increase(&mut self.terminations);
        increase(self.outcomes.of(termination.outcome));
        increase(self.causes.of(termination.cause));
        let end = status_time(termination.end);
        // A pod that its kubelet ended may be deleted long after others that have other times.
        let is_outdated = termination.used_seconds.is_none() && end < self.last.0;
        self.last = (end.clone(), Some(termination.outcome)).max(std::mem::take(&mut self.last));
        if self.requested != termination.requested && !is_outdated {
            // Earlier terminations are no evidence about other times.
            (self.current, self.shutdown) = (OutcomeCounts::default(), Distribution::default());
            self.requested = termination.requested;
        }
        if self.requested == termination.requested {
            increase(self.current.of(termination.outcome));
            termination.shutdown_seconds.inspect(|seconds| self.shutdown.add(*seconds));
        }
        let needed = termination.seconds_after_pre_stop().min(limits::MEASURED_SECONDS);
        self.longest_seconds = self.longest_seconds.max(needed);
        termination.withdrawal_seconds.inspect(|seconds| self.withdrawal.add(*seconds));
        if termination.is_bad() {
            self.recent.push_front(RecentTermination {
                pod: termination.pod.clone(),
                container: Some(termination.container.clone()),
                time: end,
                outcome: termination.outcome,
                cause: termination.cause,
                reason: termination.reason(),
            });
            self.recent.truncate(limits::RECENT_TERMINATIONS);
        }
    }

    /// About how many bytes of memory it takes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let recent = self.recent.iter().map(|recent| {
            let container = recent.container.as_ref().map_or(0, String::len);
            size_of::<RecentTermination>()
                + recent.pod.len()
                + container
                + recent.time.len()
                + recent.reason.len()
        });
        size_of::<Self>() + self.shutdown.memory() + self.withdrawal.memory() + recent.sum::<usize>()
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> TerminationProfileStatus {
        TerminationProfileStatus {
            observed_since: self.observed_since.clone(),
            last_termination_time: self.last.0.clone(),
            last_outcome: self.last.1,
            terminations: self.terminations,
            outcomes: self.outcomes,
            causes: self.causes,
            current_outcomes: self.current,
            problem: self.problem(),
            shutdown_seconds: self.shutdown.quantiles(),
            endpoint_withdrawal_seconds: self.withdrawal.quantiles(),
            longest_seconds: self.longest_seconds,
            requested: Some(self.requested),
            recent: self.recent.iter().cloned().collect(),
            recommendation: self.recommendation(),
            histograms: Histograms {
                shutdown_seconds: self.shutdown.buckets(),
                endpoint_withdrawal_seconds: self.withdrawal.buckets(),
            },
        }
    }

    /// A better value than the one that the pods had, if there is enough evidence.
    #[must_use]
    pub fn recommendation(&self) -> Option<Recommendation> {
        recommendation(self.current, &self.shutdown, self.longest_seconds, self.requested)
    }

    /// The most frequent outcome that is a problem; of equally frequent ones the worst.
    fn problem(&self) -> Option<String> {
        let mut outcomes = self.current;
        let bad = [Outcome::PreStopFailed, Outcome::Crashed, Outcome::CutShort, Outcome::Killed];
        let (count, outcome) = bad.map(|outcome| (*outcomes.of(outcome), outcome)).into_iter().max()?;
        let all = self.current.sum();
        let what = match outcome {
            _ if count == 0 => return None,
            Outcome::Killed if ignores_sigterm(self.current) => "ignores SIGTERM, killed",
            Outcome::Killed => "too slow, killed",
            Outcome::PreStopFailed => "preStop failed",
            Outcome::CutShort => "cut short",
            _ => "crashed while stopping",
        };
        Some(format!("{what} ({count} of {all})"))
    }
}

/// The name of the `TerminationProfile` of a workload. That of a workload with a very long name ends with a hash.
#[must_use]
pub fn profile_name(kind: WorkloadKind, workload: &str) -> String {
    let name = format!("{}-{workload}", kind.as_str().to_lowercase());
    if name.len() <= limits::OBJECT_NAME_LENGTH {
        return name;
    }
    let hash = format!("-{:016x}", hash_of(&workload));
    let start = name.floor_char_boundary(limits::OBJECT_NAME_LENGTH - hash.len());
    format!("{}{hash}", name[..start].trim_end_matches(['.', '-']))
}

/// A time in a status: whole seconds.
fn status_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
