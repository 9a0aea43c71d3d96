//! The mutating webhook: `AdmissionReview` in, JSON patch out. It reads caches and never calls the API server, so an
//! admission costs one hop.

mod body;
mod deadline;
mod envelope;
mod error;
mod response;
mod review;
mod router;
mod tree;

pub use error::{BadRequest, ReviewError};
pub use review::review;
pub use router::{PATH, router};
