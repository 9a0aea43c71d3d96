//! adieu makes Kubernetes workloads terminate gracefully.
//!
//! `ARCHITECTURE.md` at the top of the repository describes tasks, locks, where state is stored, and the
//! invariants.
//!
//! The map, from the inside out; a module uses only those above it:
//!
//! | module | what it holds | what it may use |
//! |---|---|---|
//! | [`api`] (crate `adieu-core`) | `GracefulPolicy`, the annotations: types, schema, parsing | data only |
//! | [`plan`] (crate `adieu-core`) | what is injected into a pod template and why: resolve, inject, record, revert | data only: no client, no clock, no async |
//! | [`verify`] (crate `adieu-verify`) | what a disruption did to requests: samples, pods' lives, what was lost where, which drain is enough | data only |
//! | [`load`] (crate `adieu-verify`) | requests at a constant rate | the service under load |
//! | [`report`] (crate `adieu-verify`) | findings as tables, and as a page with plots | data only |
//! | [`runtime`] | what a process in a cluster needs: certificates, leadership, metrics, logs, shutdown | the API server |
//! | [`index`] | what is in the cluster, and each workload's evaluation, kept by watch events | the API server's watches |
//! | [`scheduler`] | which workload may roll out now: events and the time in, decisions out | data only: no client, no clock, no async |
//! | [`webhook`] | `AdmissionReview` in, JSON patch out | the index, never the API server |
//! | [`controller`] | watches, reconciling, rollouts in turn, budgets, status, events | the API server |
//! | [`trial`] | makes a workload go through a disruption, follows its pods, and puts back what it changed | the API server |
//! | [`cli`] | one file per command | everything |
//!
//! What becomes of a workload's pod template is decided in one place, by pure functions: [`plan::admit`] when
//! a workload is created or updated, [`plan::evaluate`] for what exists already or was written while the webhook was
//! unavailable, and [`plan::render`] for a manifest. So all come to the same result.

pub use adieu_core::{api, plan};
pub use adieu_verify::{load, report, verify};

pub mod cli;
pub mod controller;
pub mod index;
pub mod runtime;
pub mod scheduler;
pub mod trial;
pub mod webhook;
