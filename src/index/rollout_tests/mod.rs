//! The scheduler with evaluated workloads: which roll out, and when.

mod cluster;
mod failures;
mod rollouts;
