//! Tests that must run on the cluster's node: they end processes, and connect to pods.

mod attack;
mod chaos;
mod container_exit;
mod crashes;
mod floods;
mod hostile;
mod memory;
mod outages;
mod reviews;
mod shutdown;
mod target;
mod tenant;
