//! A figure with its limit.

use std::fmt::{self, Display, Formatter};

/// How much longer than that of an arm that exceeds the limit too adieu's p99 may be.
const RELATIVE_TO_ARM: f64 = 1.1;

/// A figure with its limit.
pub struct Criterion {
    pub what: &'static str,
    value: f64,
    limit: Limit,
    unit: Unit,
    arm: Option<Arm>,
}

/// The same figure without the part of adieu that the criterion is about, but under the same load.
struct Arm {
    name: &'static str,
    value: f64,
    /// The p99 with that part, relative to the one without.
    p99: f64,
}

#[derive(Clone, Copy)]
pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Clone, Copy)]
pub enum Unit {
    /// Of one core; values are shares.
    Percent,
    Mebibytes,
    PerSecond,
    Seconds,
    Times,
}

/// The result for one criterion; the greater, the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Met,
    /// This arm misses the limit too, and adieu is hardly slower.
    MissedByArmToo(&'static str),
    Missed,
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Met => f.write_str("met"),
            Self::MissedByArmToo(name) => write!(f, "missed, by {name} too"),
            Self::Missed => f.write_str("missed"),
        }
    }
}

impl Criterion {
    pub fn new(what: &'static str, value: f64, limit: Limit, unit: Unit) -> Self {
        Self { what, value, limit, unit, arm: None }
    }

    /// The same, with the arm `name`, whose figure is `value`. `p99` is adieu's p99 relative to that of the arm.
    pub fn beside(self, name: &'static str, value: f64, p99: f64) -> Self {
        Self { arm: Some(Arm { name, value, p99 }), ..self }
    }

    pub fn outcome(&self) -> Outcome {
        match &self.arm {
            _ if self.allows(self.value) => Outcome::Met,
            Some(arm) if !self.allows(arm.value) && arm.p99 <= RELATIVE_TO_ARM => {
                Outcome::MissedByArmToo(arm.name)
            }
            _ => Outcome::Missed,
        }
    }

    fn allows(&self, value: f64) -> bool {
        match self.limit {
            Limit::AtMost(limit) => value <= limit,
            Limit::AtLeast(limit) => value >= limit,
        }
    }

    /// The value with its limit, and the value of the arm, if there is one.
    pub fn described(&self) -> String {
        let Self { what, arm, .. } = self;
        let arm = arm.as_ref().map(|arm| format!(", and {} has {}", arm.name, self.unit.shown(arm.value)));
        let (shown, limit) = (self.shown(), self.limit_shown());
        format!("{what}: {shown}, {limit} is allowed{}", arm.unwrap_or_default())
    }

    pub fn shown(&self) -> String {
        self.unit.shown(self.value)
    }

    pub fn limit_shown(&self) -> String {
        let (word, limit) = match self.limit {
            Limit::AtMost(limit) => ("at most", limit),
            Limit::AtLeast(limit) => ("at least", limit),
        };
        match self.unit {
            Unit::Percent => format!("{word} {} %", limit * 100.0),
            Unit::Mebibytes => format!("{word} {limit} MiB"),
            Unit::PerSecond => format!("{word} {limit}/s"),
            Unit::Seconds => format!("{word} {limit} s"),
            Unit::Times => format!("{word} {limit}"),
        }
    }
}

impl Unit {
    fn shown(self, value: f64) -> String {
        match self {
            Self::Percent => format!("{:.2} %", value * 100.0),
            Self::Mebibytes => format!("{value:.1} MiB"),
            Self::PerSecond => format!("{value:.1}/s"),
            Self::Seconds => format!("{value:.2} s"),
            Self::Times => format!("{value:.2}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outcome of a p99 that is this multiple of the one at rest, beside an arm with another multiple.
    fn outcome(value: f64, arm: f64) -> Outcome {
        let criterion = Criterion::new("p99", value, Limit::AtMost(1.5), Unit::Times);
        criterion.beside("the arm", arm, value / arm).outcome()
    }

    #[test]
    fn a_limit_that_the_arm_misses_too_allows_a_tenth_more_than_the_arm() {
        assert_eq!(outcome(1.5, 3.0), Outcome::Met);
        assert_eq!(outcome(2.1, 2.0), Outcome::MissedByArmToo("the arm"));
        assert_eq!(outcome(2.3, 2.0), Outcome::Missed, "more than a tenth");
        assert_eq!(outcome(1.6, 1.5), Outcome::Missed, "the arm meets it");
        assert_eq!(outcome(1.6, f64::NAN), Outcome::Missed, "nothing is known of the arm");
        let without = Criterion::new("p99", 1.6, Limit::AtMost(1.5), Unit::Times);
        assert_eq!(without.outcome(), Outcome::Missed);
    }

    #[test]
    fn an_unknown_value_misses_its_limit() {
        for limit in [Limit::AtMost(1.0), Limit::AtLeast(1.0)] {
            assert_eq!(Criterion::new("p99", f64::NAN, limit, Unit::Times).outcome(), Outcome::Missed);
        }
    }

    #[test]
    fn the_worst_outcome_is_the_greatest() {
        let outcomes = [Outcome::Missed, Outcome::MissedByArmToo("the arm"), Outcome::Met];
        assert_eq!(outcomes.into_iter().max(), Some(Outcome::Missed));
        assert_eq!(outcomes[1..].iter().max(), Some(&Outcome::MissedByArmToo("the arm")));
        assert_eq!(outcomes.map(|outcome| outcome.to_string())[..2], ["missed", "missed, by the arm too"]);
    }

    #[test]
    fn a_criterion_is_described_with_its_arm() {
        let criterion = Criterion::new("CPU", 0.02, Limit::AtMost(0.01), Unit::Percent);
        assert_eq!(criterion.described(), "CPU: 2.00 %, at most 1 % is allowed");
        assert_eq!(
            criterion.beside("the arm", 0.03, 0.7).described(),
            "CPU: 2.00 %, at most 1 % is allowed, and the arm has 3.00 %"
        );
    }
}
