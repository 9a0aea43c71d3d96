//! The cluster's side of a calibration: canary pods, the objects by which requests reach them, and their terminations.
//!
//! A Job without pods owns everything. If the client that created it is killed or loses its connection, the Job reaches
//! its deadline, is removed, and the garbage collector removes what it owns.

mod address;
mod objects;
mod observe;
mod pacing;
mod permissions;
mod policy;
mod run;
pub mod server;
mod stream_states;
mod versions;
mod way;

pub use address::Target;
pub use observe::{CANARIES, Observer};
pub use pacing::Pacing;
pub use permissions::{Options as RequiredAccess, check as check_access};
pub use policy::apply as apply_profiles;
pub use run::Canaries;
pub use stream_states::StreamStates;
pub use versions::{kubernetes_version, proxy_versions};
pub use way::{Exposed, Way};
