//! Load at a constant rate, and how a disruption affects it.
//!
//! | module | content | may use |
//! |---|---|---|
//! | [`calibration`] | samples of canaries and their terminations in, the drain of each way into the cluster out | data only |
//! | [`verify`] | samples, pod timelines, lost requests and their pods, the required drain | data only |
//! | [`load`] | requests at a constant rate | the service under load |
//! | [`probe`] | connections that stay open: idle ones, and those held over a termination | the service under load |
//! | [`report`] | a report as tables, and as a page with plots | data only |

pub mod calibration;
pub mod load;
pub mod probe;
pub mod report;
pub mod verify;
