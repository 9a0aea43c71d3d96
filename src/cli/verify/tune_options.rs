//! The arguments of the search for the shortest drain.

use crate::verify::TuningLimits;

const MAX_SECONDS: u32 = 60;
const REPEATS: u32 = 3;
const DISRUPTIONS: u32 = 20;

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// Finds the shortest drain that loses no request: disrupts the workload repeatedly, each time with another
    /// annotation adieu.dev/drain-seconds, restores that annotation, and prints a policy.
    #[arg(long, conflicts_with_all = ["report", "idle", "websocket", "grpc_stream"])]
    tune: bool,

    /// The longest drain to try. Default: 60.
    #[arg(long, value_name = "SECONDS", requires = "tune", value_parser = clap::value_parser!(u32).range(1..=3600))]
    tune_max: Option<u32>,

    /// How many disruptions without a lost request the shortest drain needs. Default: 3.
    #[arg(long, value_name = "N", requires = "tune", value_parser = clap::value_parser!(u32).range(1..=1000))]
    tune_repeats: Option<u32>,

    /// The maximum number of disruptions. Default: 20.
    #[arg(long, value_name = "N", requires = "tune", value_parser = clap::value_parser!(u32).range(1..=1000))]
    tune_disruptions: Option<u32>,
}

impl Arguments {
    /// The bounds of the search; `None` without `--tune`.
    pub(super) fn limits(&self) -> Option<TuningLimits> {
        let number =
            |given: Option<u32>, default| usize::try_from(given.unwrap_or(default)).unwrap_or(usize::MAX);
        self.tune.then(|| TuningLimits {
            max_seconds: self.tune_max.unwrap_or(MAX_SECONDS).into(),
            repeats: number(self.tune_repeats, REPEATS),
            disruptions: number(self.tune_disruptions, DISRUPTIONS),
        })
    }
}
