//! A cluster on this machine: the control plane and nodes as plain processes in
//! network, mount and process namespaces of their own, under cargo's target folder.

mod cgroup;
mod cluster_state;
mod components;
mod configs;
mod containerd;
mod control;
mod down;
mod files;
mod layout;
mod leftovers;
mod lock;
pub mod netns;
mod network;
mod pki;
mod probe;
mod process;
mod proxy_mode;
mod ready;
mod spec;
mod state;
pub mod status;
pub mod supervisor;
mod up;

pub use cluster_state::running_nodes;
pub use configs::proxy_mode;
pub use containerd::import_image;
pub use control::{ComponentSelector, restart, set_proxy_mode, start, stop};
pub use down::down;
pub use layout::{Cluster, MAX_NODES, Name};
pub use leftovers::leftovers;
pub use proxy_mode::ProxyMode;
pub use status::require_running;
pub use up::up;
