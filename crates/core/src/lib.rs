//! What adieu's users write, and what becomes of a pod template. Pure: no client, no clock, no async.
//!
//! What becomes of a workload's pod template is decided in one place: [`plan::admit`] when a workload is created or
//! updated, [`plan::evaluate`] for what exists already or was written while the webhook was unavailable, and
//! [`plan::render`] for a manifest. So all come to the same result.

pub mod api;
pub mod plan;
