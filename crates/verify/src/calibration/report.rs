//! The result of a calibration.

use serde::Serialize;

use super::way_result::WayResult;

/// The result of a calibration.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CalibrationReport {
    /// The namespace in which canaries ran.
    pub namespace: String,
    /// The version of the API server.
    pub kubernetes_version: String,
    /// When it ended, such as `2026-01-31T12:00:00Z`.
    pub time: String,
    /// Requests per second through each way, on new connections and again on kept ones.
    pub rate: u32,
    /// The time without an arrival after which none follows, in seconds.
    pub quiet_seconds: f64,
    /// How many terminations were asked for.
    pub planned_terminations: u32,
    /// Why there were fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
    /// The ways.
    pub ways: Vec<WayResult>,
}

impl CalibrationReport {
    /// Whether the drain of every way is known, after all planned terminations.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.incomplete.is_none() && self.ways.iter().all(|way| way.drain_seconds.is_some())
    }
}
