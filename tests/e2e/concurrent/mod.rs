//! Tests that run beside each other, because most of their time they wait: for kubelets, rollouts and retries.
//!
//! They use only namespaces of their own, and cluster-scoped objects that select only these. Tests that change the
//! operator or a node, count what happens in the whole cluster, send much load or compare short times are in other
//! modules, and run alone; `tests/structure.rs` has the parts that the tests here may use.

mod applied_recommendations;
mod audit;
mod blocked;
mod budgets;
pub mod calibrate;
mod exposures;
mod incomplete_rollouts;
mod injection;
mod interoperability;
pub mod lifecycle;
mod limits;
mod matching;
mod pipes;
mod pods;
mod policies;
mod recommend;
pub mod revert;
mod terminations;
mod verify_connections;
