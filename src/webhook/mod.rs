//! The mutating webhook: `AdmissionReview` in, JSON patch out. It reads caches and never asks the API
//! server, so that an admission costs one hop.

mod body;
mod deadline;
mod envelope;
mod review;
mod router;
mod tree;

pub use review::{BadRequest, ReviewError, review};
pub use router::{PATH, router};
