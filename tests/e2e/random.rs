//! Random cases of tests, and their replay.

use std::env;

use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::figures::print_line;

/// This many values of a strategy, which depend only on the seed in the variable of this name.
pub fn generated<S: Strategy>(seed: &str, strategy: &S, count: u64) -> Vec<S::Tree> {
    let value = from_environment(seed, 1);
    print_line(&format!("{seed}={value}"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&value.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap()).collect()
}

pub fn from_environment(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| unreachable!("{name} is not a number: {text:?}")),
        Err(_) => default,
    }
}
