//! Measures how long each way into the cluster continues to send requests to a pod that terminates. Pure: no I/O, no
//! clock.
//!
//! Canary pods answer the requests of a load through each way, and continue to do so after SIGTERM. Each response has a
//! [`Mark`]: the pod, and the time since its SIGTERM. A canary takes that time when a request arrives, on its own
//! monotonic clock, so no clocks need to be synchronized, and the kubelet's delay until SIGTERM doesn't count: the preStop
//! hook of an application begins then, too. The canary's log ([`LoggedArrival`]) adds the arrivals whose responses were
//! lost.
//!
//! From the samples of a way ([`WaySamples`]) and the terminations of canaries ([`CanaryTermination`]) follow the last
//! arrivals ([`Observation`]), and from these the drain ([`WayResult`]).

mod confidence;
mod mark;
mod observation;
mod profile;
mod report;
mod stream;
mod way_result;

pub use mark::{LoggedArrival, MARK_HEADER, Mark};
pub use observation::{CanaryTermination, Observation, WaySamples, is_marked};
pub use profile::{merge_profiles, profiles};
pub use report::CalibrationReport;
pub use stream::{Connections, Stream};
pub use way_result::{Losses, WayDescription, WayResult};
