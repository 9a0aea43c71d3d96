//! The input of a recommendation.

use std::collections::BTreeMap;

use adieu_core::{keys::WorkloadKey, plan::NamespaceContext};

use crate::times::Times;

/// A workload that policies may select. No policy has an effect on a workload that is opted out, which is not one.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its key.
    pub key: WorkloadKey,
    /// The labels of its pod template.
    pub labels: BTreeMap<String, String>,
    /// Whether an annotation opts it in.
    pub opt_in: AnnotatedOptIn,
    /// The times that it needs. `None` if no recommended policy may select it.
    pub wanted: Option<Times>,
}

/// Whether an annotation opts a workload in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AnnotatedOptIn {
    /// No.
    #[default]
    None,
    /// By `adieu.dev/graceful`.
    Graceful,
    /// By `adieu.dev/policy`, with this name.
    Policy(String),
}

/// The workloads of a namespace, and its policies.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its workloads.
    pub candidates: Vec<Candidate>,
    /// Its policies, and the cluster policies that match it.
    pub context: NamespaceContext,
}

/// What is recommended.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether policies of earlier recommendations are replaced. Without all workloads of a namespace they must be kept,
    /// because they may select others.
    pub replaces_earlier: bool,
    /// Whether the times that most workloads need become the defaults of the cluster. For that, all of its workloads must
    /// be known.
    pub sets_defaults: bool,
}
