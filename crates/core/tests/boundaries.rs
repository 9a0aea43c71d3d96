//! adieu can read policies and profiles at the bounds of their schema: the offline check and the decoder agree. `tests/e2e`
//! compares them with the API server.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod generate;

use adieu_core::api::{
    ClusterGracefulPolicy, GracefulPolicy, TerminationProfile, as_stored, check_policy, check_status,
};
use generate::{Boundary, boundaries, largest};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The largest spec of a policy, in bytes of JSON.
const LARGEST_SPEC: usize = 36 << 10;
/// The largest spec of a cluster policy, with drain profiles.
const LARGEST_CLUSTER_SPEC: usize = 64 << 10;
/// The largest status, if each character of the messages takes two bytes.
const LARGEST_STATUS: usize = 104 << 10;

/// The policy or profile after decoding and encoding.
fn round_trip(policy: &Value) -> Result<Value, String> {
    fn through<T: Serialize + DeserializeOwned>(policy: &Value) -> Result<Value, String> {
        let read: T = serde_json::from_value(policy.clone()).map_err(|error| error.to_string())?;
        serde_json::to_value(read).map_err(|error| error.to_string())
    }
    match policy["kind"].as_str() {
        Some("ClusterGracefulPolicy") => through::<ClusterGracefulPolicy>(policy),
        Some("TerminationProfile") => through::<TerminationProfile>(policy),
        _ => through::<GracefulPolicy>(policy),
    }
}

#[test]
fn decoder_agrees_with_the_offline_check() {
    let cases = boundaries();
    let mut disagreements = Vec::new();
    for Boundary { name, policy, of_status, valid } in &cases {
        let found = if *of_status { check_status(policy) } else { check_policy(policy) };
        if valid.is_some_and(|valid| valid != found.is_empty()) {
            disagreements.push(format!("{name}: valid is {valid:?}, and the check finds {found:?}"));
        }
        if !found.is_empty() {
            continue;
        }
        let mut stored = as_stored(policy);
        if *of_status {
            stored["status"] = as_stored(&policy["status"]);
        }
        match round_trip(&stored) {
            Err(error) => disagreements.push(format!("{name}: it is accepted and cannot be read: {error}")),
            Ok(written) if round_trip(&written).as_ref() != Ok(&written) => {
                disagreements.push(format!("{name}: it changes when it is read again: {written}"));
            }
            Ok(written) if !of_status => {
                let found = check_policy(&written);
                if !found.is_empty() {
                    disagreements.push(format!("{name}: written again, the check finds {found:?}"));
                }
            }
            Ok(_) => {}
        }
    }
    assert!(
        disagreements.is_empty(),
        "{} of {}:\n{}",
        disagreements.len(),
        cases.len(),
        disagreements.join("\n")
    );
    let valid = cases.iter().filter(|case| case.valid == Some(true)).count();
    let invalid = cases.iter().filter(|case| case.valid == Some(false)).count();
    assert!(valid > 300 && invalid > 1000, "{valid} valid and {invalid} invalid cases of {}", cases.len());
    for kind in ["GracefulPolicy", "ClusterGracefulPolicy", "TerminationProfile"] {
        let valid = |case: &&Boundary| case.policy["kind"] == kind && case.valid == Some(true);
        assert!(cases.iter().filter(valid).count() > 100, "{kind}");
    }
}

#[test]
fn largest_policy_is_small() {
    for policy in largest() {
        assert_eq!(check_policy(&policy), []);
        assert_eq!(check_status(&policy), []);
        round_trip(&policy).unwrap();
        let size = |part: &str| policy[part].to_string().len();
        let (spec, status) = (size("spec"), size("status"));
        let largest_spec =
            if policy["kind"] == "ClusterGracefulPolicy" { LARGEST_CLUSTER_SPEC } else { LARGEST_SPEC };
        assert!(spec <= largest_spec && status <= LARGEST_STATUS, "{spec} and {status} bytes");
        // Otherwise it is not the largest.
        assert!(spec >= largest_spec / 2 && status >= LARGEST_STATUS / 2, "{spec} and {status} bytes");
    }
}
