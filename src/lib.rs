//! adieu makes Kubernetes workloads terminate gracefully.
//!
//! `ARCHITECTURE.md` at the top of the repository describes tasks, locks, where state is stored, and the invariants.
//!
//! A module uses only those above it:
//!
//! | module | content | may use |
//! |---|---|---|
//! | [`api`] (crate `adieu-core`) | policies, annotations, labels: types, schema, parsing | data only |
//! | [`plan`] (crate `adieu-core`) | the pod template with its injection: resolve, inject, record, revert | data only: no client, clock or async runtime |
//! | [`keys`], [`hash`] (crate `adieu-core`) | the keys of workloads and policies; hashes | data only |
//! | [`json_position`] (crate `adieu-core`) | positions in JSON that is read in chunks | data only |
//! | [`owners`], [`kube_version`], [`text`] (crate `adieu-core`) | owner references, versions of Kubernetes, texts | data only |
//! | [`scheduler`] (crate `adieu-scheduler`) | which workload may roll out now; a workload's rollout progress | data only: no client, clock or async runtime |
//! | crate `adieu-review` | reviews of the webhook: bytes in, bytes out | data only: no client, clock or async runtime |
//! | crate `adieu-observer` | how and why pods terminated: terminating pods in, terminations and profiles out | data only: no client, clock or async runtime |
//! | crate `adieu-exposures` | the ways in which requests reach pods, and the drain that follows | data only: no client, clock or async runtime |
//! | crate `adieu-recommend` | the fewest policies that give every workload the times that it needs | data only: no client, clock or async runtime |
//! | crate `adieu-audit` | workloads whose terminations lose requests: objects in, findings out | data only: no client, clock or async runtime |
//! | [`manifests`] (crate `adieu-manifests`) | a manifest engine: reads, edits and writes YAML and JSON | data only: no client, clock or async runtime |
//! | [`verify`] (crate `adieu-verify`) | the effect of a disruption on requests: lost requests, and the required drain | data only |
//! | [`calibration`] (crate `adieu-verify`) | how long each way into the cluster sends requests to a pod that terminates | data only |
//! | [`load`] (crate `adieu-verify`) | an open-loop load generator | the service under load |
//! | [`probe`] (crate `adieu-verify`) | connections that stay open: idle ones, and those held over a termination | the service under load |
//! | [`report`] (crate `adieu-verify`) | results as tables, JSON and an HTML page | data only |
//! | [`runtime`] | the process: client, leader election, certificates, servers, metrics, logs, shutdown | the API server |
//! | [`index`] | watches, caches, and an evaluation for each workload | the API server, to list and watch |
//! | [`webhook`] | the HTTP side of reviews | the caches, never the API server |
//! | [`controller`] | the writers: workloads, status, budgets, Events | the API server |
//! | [`disruption`] | disrupts a workload, follows its pods, and restores temporary changes | the API server |
//! | [`canaries`] | the canary server, canary pods, the objects that lead to them, and their terminations | the API server |
//! | [`cli`] | one file or folder per command | everything |
//!
//! Pure functions decide about pod templates: [`plan::admit`] when a workload is created or updated, [`plan::evaluate`]
//! for existing workloads, and [`plan::render`] for manifests. So all come to the same result.

pub use adieu_core::{api, hash, json_position, keys, kube_version, owners, plan, text};
pub use adieu_manifests as manifests;
pub use adieu_scheduler as scheduler;
pub use adieu_verify::{calibration, load, probe, report, verify};

pub mod canaries;
pub mod cli;
pub mod controller;
pub mod disruption;
pub mod index;
pub mod runtime;
pub mod webhook;
