//! adieu makes Kubernetes workloads terminate gracefully.
//!
//! The map, from the inside out; a module uses only those above it:
//!
//! | module | what it holds | what it may use |
//! |---|---|---|
//! | [`api`] | `GracefulPolicy`, the annotations: types, schema, parsing | data only |
//! | [`plan`] | what is injected into a pod template and why: resolve, inject, record, revert | data only: no client, no clock, no async |
//! | [`runtime`] | what a process in a cluster needs: certificates, leadership, caches, metrics, logs, shutdown | the API server |
//! | [`index`] | what is in the cluster, and each workload's evaluation, kept by watch events | caches |
//! | [`webhook`] | `AdmissionReview` in, JSON patch out | caches, never the API server |
//! | [`controller`] | watches, reconciling, rollouts in turn, budgets, status, events | the API server |
//! | [`verify`] | what a disruption did to requests: samples, pods' lives, what was lost where, which drain is enough | data only |
//! | [`load`] | requests at a constant rate | the service under load |
//! | [`trial`] | makes a workload go through a disruption, follows its pods, and puts back what it changed | the API server |
//! | [`report`] | findings as tables, and as a page with plots | data only |
//! | [`cli`] | one file per command | everything |
//!
//! What becomes of a workload's pod template is decided in one place, by pure functions: [`plan::admit`] when
//! a workload is created or updated, [`plan::converge`] for what exists already or slipped past while the
//! webhook was away, [`plan::render`] for a manifest. So all come to the same result.

pub use adieu_core::{api, plan};

pub mod cli;
pub mod controller;
pub mod index;
pub mod load;
pub mod report;
pub mod runtime;
pub mod trial;
pub mod verify;
pub mod webhook;
