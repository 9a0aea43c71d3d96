//! An attack in phases, while another namespace deploys and the replicas' memory is sampled.

use std::time::Duration;

use super::memory::MemoryCurve;
use crate::{
    admissions::Admissions,
    figures::row,
    operator::{Operator, memory_limit},
    support::Scene,
};

/// The limit for others' admissions at the 99th percentile.
const P99: Duration = Duration::from_secs(1);
/// The number of admissions after each phase, for a meaningful percentile.
const FURTHER: usize = 100;

pub(super) struct Attack<'a> {
    /// The table of its figures.
    table: &'static str,
    neighbour: &'a Scene,
    curve: MemoryCurve,
    /// The memory limit of a replica, in MiB.
    limit: f64,
    /// The share of it that a replica may use: sockets count in addition to resident memory.
    share: f64,
}

impl<'a> Attack<'a> {
    pub(super) async fn start(table: &'static str, neighbour: &'a Scene, share: f64) -> Self {
        let operator = Operator::find(&neighbour.client).await;
        let limit = memory_limit(&operator.pods().await[0]);
        Self { table, neighbour, curve: MemoryCurve::start(), limit, share }
    }

    /// Runs a phase, and reports its `result`. Deployments of the other namespace must be injected correctly and in
    /// time, and no replica may come near its memory limit.
    pub(super) async fn phase<T>(
        &self,
        what: &str,
        acts: impl Future<Output = T>,
        result: impl FnOnce(&T) -> String,
    ) -> T {
        self.curve.take();
        let admissions = Admissions::start(self.neighbour);
        admissions.further(1).await;
        let outcome = acts.await;
        admissions.further(FURTHER).await;
        let (others, memory) = (admissions.end().await, self.curve.take());
        let p99 = others.percentile(99);
        let [p50, high, slowest] = [others.percentile(50), p99, others.slowest].map(|time| time.as_millis());
        let cells = [
            what.to_owned(),
            result(&outcome),
            memory.sparkline(self.limit),
            format!("{:.0} MiB", memory.peak),
            others.count.to_string(),
            others.failed.len().to_string(),
            format!("{p50} / {high} / {slowest} ms"),
        ];
        row(self.table, &cells.each_ref().map(String::as_str));
        assert_eq!(others.failed, Vec::<String>::new(), "{what}");
        assert!(p99 <= P99, "{what}: p99 is {} ms", p99.as_millis());
        let (peak, limit) = (memory.peak, self.limit);
        assert!(peak > 0.0, "{what}: no memory was sampled");
        assert!(peak < limit * self.share, "{what}: {peak:.1} of {limit} MiB were in use");
        outcome
    }

    /// Runs a phase without an outcome.
    pub(super) async fn run(&self, what: &str, acts: impl Future<Output = ()>, result: &str) {
        self.phase(what, acts, |()| result.to_owned()).await;
    }

    pub(super) fn end(self) {
        self.curve.end();
    }
}
