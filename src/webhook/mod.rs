//! The mutating webhook: `AdmissionReview` in, JSON patch out. It reads caches and never asks the API
//! server, so that an admission costs one hop.

mod body;
mod review;
mod router;

pub use review::{BadRequest, review};
pub use router::{PATH, router};
