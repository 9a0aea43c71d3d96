//! The API of adieu, and the plan for pod templates. Pure: no client, no clock, no async.
//!
//! All pod templates are computed here, with the same result: by [`plan::admit`] when a workload is created or updated, by
//! [`plan::evaluate`] for a workload that exists already or bypassed the webhook, and by [`plan::render`] for a
//! manifest.

#![deny(clippy::disallowed_methods)]

pub mod api;
pub mod hash;
pub mod json_position;
pub mod keys;
pub mod kube_version;
pub mod owners;
pub mod plan;
pub mod text;
