//! The mutating webhook: `AdmissionReview` in, JSON patch out. It reads caches and never calls the API server, so an
//! admission costs one hop. The crate `adieu-review` parses, decides and encodes.

mod body;
mod deadline;
mod error;
mod keyed_limit;
mod parse_budget;
mod review;
mod router;

pub use adieu_review::BadRequest;
pub use error::ReviewError;
pub use review::review;
pub use router::{PATH, router};
