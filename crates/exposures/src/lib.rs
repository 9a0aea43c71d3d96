//! The ways in which requests reach pods, and the drain that follows.
//!
//! An [`Exposure`] is one such way: a Service, an Ingress, a route of a Gateway, a load balancer of a cloud.
//! [`exposures_of`] finds those of a workload's pods, from its Services and from the [`TrafficObject`]s that refer to them,
//! which a [`TrafficIndex`] finds among those of a cluster.
//! Each has a [`BuiltInProfile`] with the seconds that it needs, [`drain_behind`] explains them, and [`drain_of`] takes the
//! longest. [`NamespaceExposures`] is what the plan asks for the drain of pods.
//!
//! It has no client and no clock. What is known of products is in tables: [`BUILT_IN`], [`KINDS`], and those of the modules
//! `data_planes` and `controllers`.

#![deny(clippy::disallowed_methods)]

mod backend;
mod class;
mod controllers;
mod data_planes;
mod delay;
mod drain;
mod exposure;
mod find;
mod idle_timeout;
mod kinds;
mod namespace_exposures;
mod object_name;
mod objects;
mod path;
mod profiles;
mod service;
mod traffic_index;
mod traffic_object;
mod visibility;

pub use backend::is_service_annotation;
pub use delay::Delay;
pub use drain::{
    DEREGISTRATION_SECONDS, Drain, ExposureDrain, Profiles, drain_behind, drain_of, is_known_exposure,
    longest_of, required_drain,
};
pub use exposure::Exposure;
pub use find::{MAX_SERVICES, Pods, ServiceExposures, exposures_of, exposures_of_each, exposures_of_service};
pub use idle_timeout::{IdleTimeout, idle_timeouts_of};
pub use kinds::{KINDS, Kind};
pub use namespace_exposures::NamespaceExposures;
pub use object_name::ObjectName;
pub use profiles::{AWS_INSTANCE, BUILT_IN, BuiltInProfile, CLUSTER_DNS_TTL, HEADLESS};
pub use traffic_index::{AffectedService, TrafficIndex};
pub use traffic_object::TrafficObject;
