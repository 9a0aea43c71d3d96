//! Replays the seeds of the fuzz targets, and the inputs that found bugs. `cargo xtask fuzz` searches for more.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{fs, path::Path};

#[path = "../fuzz/src/lib.rs"]
mod harness;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() >= 5, "{target}: {inputs:?}");
    for input in inputs {
        println!("{}", input.display());
        check(&fs::read(input).unwrap());
    }
}

#[test]
fn fuzz_corpus_of_admission_reviews_replays() {
    replay("admission", harness::admission);
}

#[test]
fn fuzz_corpus_of_annotations_replays() {
    replay("annotations", harness::annotations);
}

#[test]
fn fuzz_corpus_of_manifests_replays() {
    replay("manifests", harness::manifests);
}

#[test]
fn fuzz_corpus_of_the_server_replays() {
    replay("service", harness::service);
}
