//! The words of a step.

use std::{num::ParseIntError, str::FromStr};

use adieu_core::{
    keys::{PolicyKey, WorkloadKey, policy_key},
    plan::{Kind, Source},
};

pub(super) fn workload(text: &str) -> WorkloadKey {
    let (namespace, name) = text.split_once('/').unwrap();
    WorkloadKey { namespace: namespace.into(), kind: Kind::Deployment, name: name.into() }
}

pub(super) fn policy(text: &str) -> PolicyKey {
    match text.split_once('/') {
        Some((namespace, name)) => policy_key(namespace, &Source::Policy(name.into())),
        None => policy_key("", &Source::ClusterPolicy(text.into())),
    }
}

/// The value of `NAME=VALUE`.
pub(super) fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// The same, as a number.
pub(super) fn number<N: FromStr<Err = ParseIntError>>(words: &[&str], name: &str) -> Option<N> {
    option(words, name).map(|value| value.parse().unwrap())
}
