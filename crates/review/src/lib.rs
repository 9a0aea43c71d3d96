//! Reviews of the admission webhook: the bytes of an AdmissionReview in, the bytes of the response out. Pure: no client,
//! no clock, no async, no caches.
//!
//! [`RawReview::parse`] reads the envelope, and leaves the objects as text; [`HeaderScanner`] reads the envelope of a review
//! that is too large to be held. [`RawReview::shape`] bounds the memory that the objects would take.
//! [`RawReview::decide_workload`] and [`RawReview::decide_pod`] parse them and call the plan, and [`Decision::encode`]
//! writes the response.
//!
//! All of this is compiled for speed, while most of adieu is compiled for size. So functions here are not generic over
//! types of other crates: generic code would be compiled again, for size, in the crate that calls it.

#![deny(clippy::disallowed_methods)]

mod decision;
mod envelope;
mod error;
mod header_scanner;
mod object;
mod response;
mod shape;

pub use decision::Decision;
pub use envelope::{RawReview, ReviewHeader, ReviewedKind};
pub use error::BadRequest;
pub use header_scanner::{HEADER_LIMIT, HeaderScanner, HeaderState};
pub use object::RawObject;
pub use shape::{DEPTH_LIMIT, PARSED_SIZE_LIMIT, SMALL_PARSED_SIZE, Shape};
