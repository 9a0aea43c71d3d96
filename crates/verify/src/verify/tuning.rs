//! Finds the shortest drain that loses no request, by bisection with repeats. Pure: what to try next follows from the
//! trials so far.

use serde::Serialize;
use serde_json::Value;

use super::findings::RunDescription;

/// The probability with which the bound on terminations that lose requests is wrong.
const ERROR_PROBABILITY: f64 = 0.05;

/// The bounds of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TuningLimits {
    /// The longest drain to try, in seconds.
    pub max_seconds: u64,
    /// How many disruptions without a loss the shortest drain needs.
    pub repeats: usize,
    /// The maximum number of disruptions.
    pub disruptions: usize,
}

/// One disruption with a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// The drain.
    pub drain_seconds: u64,
    /// The requests that were sent.
    pub requests: u64,
    /// The requests that were lost.
    pub lost: u64,
    /// The pods that terminated.
    pub terminations: u64,
}

/// A search for the shortest drain that loses no request.
#[derive(Clone, Debug)]
pub struct Tuning {
    limits: TuningLimits,
    trials: Vec<Trial>,
}

/// The result of a search.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TuningReport {
    /// The workload, disruption and load.
    #[serde(flatten)]
    pub run: RunDescription,
    /// Every disruption, in order.
    pub trials: Vec<Trial>,
    /// The shortest drain that lost no request; absent if every drain did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortest_seconds: Option<u64>,
    /// Whether a drain that is one second shorter lost requests, and this one none in all its disruptions.
    pub is_confirmed: bool,
    /// The share of terminations that lose requests with this drain is lower, with a confidence of 95 %.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_bound: Option<f64>,
    /// A sentence about the result and its certainty.
    pub certainty: String,
    /// Why the search is incomplete, or what could not be restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
    /// A policy with this drain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Value>,
}

impl Tuning {
    /// A search without trials.
    #[must_use]
    pub fn new(limits: TuningLimits) -> Self {
        Self { limits, trials: vec![] }
    }

    /// The drain to try next, in seconds; `None` at the end of the search.
    ///
    /// A drain counts as too short if it or a longer one lost requests. Between the longest of those and the shortest
    /// other one that was tried, the middle is next; once they are neighbors, the shortest is repeated.
    #[must_use]
    pub fn next_drain(&self) -> Option<u64> {
        let TuningLimits { max_seconds, repeats, disruptions } = self.limits;
        let too_short = self.longest_lossy();
        if self.trials.len() >= disruptions || too_short.is_some_and(|lossy| lossy >= max_seconds) {
            return None;
        }
        let Some(shortest) = self.shortest_lossless() else { return Some(max_seconds) };
        if let Some(middle) = middle(too_short, shortest) {
            return Some(middle);
        }
        (self.with_drain(shortest).count() < repeats).then_some(shortest)
    }

    /// Adds a trial with the drain of [`Tuning::next_drain`].
    pub fn record(&mut self, trial: Trial) {
        self.trials.push(trial);
    }

    /// Whether no trial was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.trials.is_empty()
    }

    /// The result so far.
    #[must_use]
    pub fn report(self, run: RunDescription, incomplete: Option<String>) -> TuningReport {
        let shortest = self.shortest_lossless();
        let repeats = shortest.map_or(0, |seconds| self.with_drain(seconds).count());
        let is_bisected = shortest.is_some_and(|seconds| middle(self.longest_lossy(), seconds).is_none());
        let terminations = shortest
            .map_or(0, |seconds| self.with_drain(seconds).map(|trial| trial.terminations).sum::<u64>());
        let loss_bound = shortest.and_then(|_| loss_bound(terminations));
        let is_confirmed = is_bisected && repeats >= self.limits.repeats;
        TuningReport {
            run,
            shortest_seconds: shortest,
            is_confirmed,
            loss_bound,
            certainty: self.certainty(shortest, (repeats, terminations), loss_bound, is_bisected),
            incomplete,
            policy: None,
            trials: self.trials,
        }
    }

    fn certainty(
        &self,
        shortest: Option<u64>,
        (repeats, terminations): (usize, u64),
        loss_bound: Option<f64>,
        is_bisected: bool,
    ) -> String {
        let Some(seconds) = shortest else {
            return match self.longest_lossy() {
                Some(lossy) => format!(
                    "requests were lost with every drain up to {lossy} s: a drain does not prevent these losses; check \
                     connections that stay open with --idle, or a longer drain with --tune-max"
                ),
                None => "no drain was tried".to_owned(),
            };
        };
        let noun = if repeats == 1 { "disruption" } else { "disruptions" };
        let bound = loss_bound.map(|bound| {
            format!(
                ", so fewer than {:.0} % of terminations lose requests with it, with a confidence of 95 %",
                (bound * 100.0).ceil()
            )
        });
        let shorter = match self.longest_lossy() {
            Some(lossy) if is_bisected => format!("; with {lossy} s requests were lost"),
            Some(lossy) => format!("; with {lossy} s requests were lost, and drains between were not tried"),
            None if is_bisected => String::new(),
            None => "; shorter drains were not tried".to_owned(),
        };
        format!(
            "{seconds} s: no request was lost in {terminations} terminations by {repeats} {noun}{}{shorter}",
            bound.unwrap_or_default()
        )
    }

    /// The longest drain with which requests were lost.
    fn longest_lossy(&self) -> Option<u64> {
        self.trials.iter().filter(|trial| trial.lost > 0).map(|trial| trial.drain_seconds).max()
    }

    /// The shortest drain that was tried and is longer than all with which requests were lost.
    fn shortest_lossless(&self) -> Option<u64> {
        let lossy = self.longest_lossy();
        let drains = self.trials.iter().map(|trial| trial.drain_seconds);
        drains.filter(|seconds| lossy.is_none_or(|lossy| *seconds > lossy)).min()
    }

    fn with_drain(&self, seconds: u64) -> impl Iterator<Item = &Trial> {
        self.trials.iter().filter(move |trial| trial.drain_seconds == seconds)
    }
}

/// The middle of the drains between one that is too short and one that isn't; `None` if there is none.
fn middle(too_short: Option<u64>, enough: u64) -> Option<u64> {
    let first = too_short.map_or(0, |seconds| seconds + 1);
    (first < enough).then(|| first + (enough - first) / 2)
}

/// The share of terminations that may lose requests if none of so many did: a larger share would have shown itself with
/// the confidence.
fn loss_bound(terminations: u64) -> Option<f64> {
    let terminations = u32::try_from(terminations).ok().filter(|terminations| *terminations > 0)?;
    Some(1.0 - ERROR_PROBABILITY.powf(1.0 / f64::from(terminations)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: TuningLimits = TuningLimits { max_seconds: 60, repeats: 3, disruptions: 20 };

    /// Tunes with a simulated loss: of the drain, and the number of trials so far.
    fn tuned(limits: TuningLimits, loses: impl Fn(u64, usize) -> bool) -> TuningReport {
        let mut tuning = Tuning::new(limits);
        while let Some(drain_seconds) = tuning.next_drain() {
            assert!(drain_seconds <= limits.max_seconds && tuning.trials.len() < limits.disruptions);
            let lost = u64::from(loses(drain_seconds, tuning.trials.len()));
            tuning.record(Trial { drain_seconds, requests: 1000, lost, terminations: 4 });
        }
        tuning.report(RunDescription::default(), None)
    }

    #[test]
    fn the_shortest_drain_is_found_and_repeated() {
        for threshold in 0..=60 {
            let report = tuned(LIMITS, |seconds, _| seconds < threshold);
            assert_eq!((report.shortest_seconds, report.is_confirmed), (Some(threshold), true));
            assert!(report.trials.len() <= 10, "{:?}", report.trials);
            let repeats = report.trials.iter().filter(|trial| trial.drain_seconds == threshold).count();
            assert_eq!(repeats, 3);
            assert!(report.certainty.contains("in 12 terminations by 3 disruptions"), "{}", report.certainty);
            assert!(report.certainty.contains("fewer than 23 %"), "{}", report.certainty);
        }
    }

    #[test]
    fn a_loss_in_a_repeat_makes_the_drain_too_short() {
        // 10 s lose requests in the first repeat only.
        let report = tuned(LIMITS, |seconds, trials| seconds < 10 || (seconds == 10 && trials > 6));
        assert_eq!((report.shortest_seconds, report.is_confirmed), (Some(11), true), "{:?}", report.trials);
    }

    #[test]
    fn losses_with_every_drain_end_the_search() {
        let report = tuned(LIMITS, |_, _| true);
        assert_eq!((report.shortest_seconds, report.trials.len(), report.loss_bound), (None, 1, None));
        assert!(report.certainty.contains("with every drain up to 60 s"), "{}", report.certainty);
    }

    #[test]
    fn the_limit_of_disruptions_leaves_an_upper_bound() {
        let limits = TuningLimits { disruptions: 3, ..LIMITS };
        let report = tuned(limits, |seconds, _| seconds < 10);
        assert_eq!((report.shortest_seconds, report.is_confirmed), (Some(15), false), "{:?}", report.trials);
        assert!(report.certainty.contains("shorter drains were not tried"), "{}", report.certainty);
        let limits = TuningLimits { disruptions: 0, ..LIMITS };
        let report = tuned(limits, |_, _| false);
        assert_eq!(report.certainty, "no drain was tried");
    }

    #[test]
    fn the_bound_follows_from_the_number_of_terminations() {
        for (terminations, percent) in [(1, 95), (10, 26), (59, 5), (299, 1)] {
            let bound = loss_bound(terminations).unwrap() * 100.0;
            assert!((bound - f64::from(percent)).abs() < 0.5, "{terminations}: {bound}");
        }
        assert_eq!(loss_bound(0), None);
    }

    proptest! {
        #[test]
        fn any_losses_leave_a_drain_without_one_and_no_longer_one_with_one(
            losses in prop::collection::vec(any::<bool>(), 40),
            disruptions in 0..40_usize,
            max_seconds in 0..3600_u64,
        ) {
            let limits = TuningLimits { max_seconds, repeats: 3, disruptions };
            let report = tuned(limits, |_, trials| losses[trials]);
            prop_assert!(report.trials.len() <= disruptions);
            let lossy = report.trials.iter().filter(|trial| trial.lost > 0).map(|trial| trial.drain_seconds);
            let longest_lossy = lossy.max();
            match report.shortest_seconds {
                Some(seconds) => prop_assert!(longest_lossy.is_none_or(|lossy| lossy < seconds)),
                None => prop_assert!(report.trials.is_empty() || longest_lossy == Some(max_seconds)
                    || report.trials.len() == disruptions),
            }
        }
    }
}
