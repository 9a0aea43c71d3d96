//! How long things take: the grace period, and the preStop hooks that users wrote.

use serde_json::Value;

use super::Settings;

/// The grace period in seconds: the longest preStop hook, the shutdown timeout, a reserve for each native
/// sidecar (they stop one after the other once the main containers have exited, KEP-753), and the margin.
/// preStop counts against the grace period (Kubernetes documentation, pod lifecycle).
#[must_use]
pub fn grace_period_seconds(settings: &Settings, longest_pre_stop: i64, native_sidecars: usize) -> i64 {
    let sidecars = i64::try_from(native_sidecars).unwrap_or(i64::MAX);
    longest_pre_stop
        .saturating_add(settings.shutdown_timeout_seconds.value)
        .saturating_add(sidecars.saturating_mul(settings.sidecar_seconds.value))
        .saturating_add(settings.margin_seconds.value)
}

/// How long a preStop hook sleeps, in seconds, read from the forms that people use: the native `sleep`
/// action, `["sleep", "10"]`, and a shell whose script begins with `sleep 10`. `None` where it isn't
/// certain.
#[must_use]
pub fn pre_stop_seconds(handler: &Value) -> Option<i64> {
    if let Some(sleep) = handler.get("sleep").filter(|sleep| !sleep.is_null()) {
        // What is left out is 0, as the API server has it.
        let seconds = sleep.as_object()?.get("seconds").filter(|seconds| !seconds.is_null());
        return seconds.map_or(Some(0), Value::as_i64).filter(|seconds| *seconds >= 0);
    }
    let command: Option<Vec<&str>> =
        handler.get("exec")?.get("command")?.as_array()?.iter().map(Value::as_str).collect();
    match command?.as_slice() {
        [program, seconds] if is(program, "sleep") => sleep_argument(seconds),
        [shell, "-c" | "-ec", script] if is(shell, "sh") || is(shell, "bash") || is(shell, "ash") => {
            // What follows the sleep runs after it, and takes a moment in the forms people use:
            // `sleep 10 && nginx -s quit`. Another sleep doesn't.
            let script = script.trim();
            let (sleep, rest) = script.split_at(script.find([';', '&', '\n']).unwrap_or(script.len()));
            let follows = rest.is_empty() || rest.starts_with([';', '\n']) || rest.starts_with("&&");
            let mut words = sleep.split_whitespace();
            let (program, seconds) = (words.next()?, words.next()?);
            let single = follows && words.next().is_none() && !rest.contains("sleep");
            (is(program, "sleep") && single).then(|| sleep_argument(seconds)).flatten()
        }
        _ => None,
    }
}

fn is(program: &str, name: &str) -> bool {
    program.rsplit('/').next() == Some(name)
}

/// `10`, `10s`, `2m`: whole numbers, as coreutils and busybox both take them.
fn sleep_argument(text: &str) -> Option<i64> {
    let (digits, factor) = match text.as_bytes().last()? {
        b's' => (text.trim_end_matches('s'), 1),
        b'm' => (text.trim_end_matches('m'), 60),
        _ => (text, 1),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse::<i64>().ok()).flatten()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_usual_forms_of_a_sleep_are_read() {
        for (handler, expected) in [
            (json!({"sleep": {"seconds": 10}}), Some(10)),
            (json!({"sleep": {"seconds": 0}}), Some(0)),
            (json!({"sleep": {}}), Some(0)),
            (json!({"sleep": {"seconds": null}}), Some(0)),
            (json!({"sleep": {"seconds": "5"}}), None),
            (json!({"sleep": null, "exec": {"command": ["sleep", "7"]}}), Some(7)),
            (json!({"exec": {"command": ["sleep", "10"]}}), Some(10)),
            (json!({"exec": {"command": ["/bin/sleep", "10s"]}}), Some(10)),
            (json!({"exec": {"command": ["sh", "-c", "sleep 10"]}}), Some(10)),
            (json!({"exec": {"command": ["/bin/sh", "-c", "sleep 2m && nginx -s quit"]}}), Some(120)),
            (json!({"exec": {"command": ["/bin/sh", "-c", "sleep 15; kill 1"]}}), Some(15)),
            (json!({"exec": {"command": ["/bin/sh", "-c", "nginx -s quit; sleep 15"]}}), None),
            (json!({"exec": {"command": ["sh", "-c", "sleep 10; nginx -s quit; sleep 30"]}}), None),
            (json!({"exec": {"command": ["sh", "-c", "\n  sleep 10\nnginx -s quit\n"]}}), Some(10)),
            (json!({"exec": {"command": ["sh", "-c", "sleep 10;"]}}), Some(10)),
            (json!({"exec": {"command": ["sh", "-c", "sleep 10&&nginx -s quit"]}}), Some(10)),
            (json!({"exec": {"command": ["sh", "-c", "sleep 5 &&sleep 10"]}}), None),
            (json!({"exec": {"command": ["sh", "-c", "sleep 5; (sleep 10)"]}}), None),
            (json!({"exec": {"command": ["sh", "-c", "sleep 5\nsleep 10"]}}), None),
            (json!({"exec": {"command": ["sh", "-c", "sleep 10 & wait-for-drain"]}}), None),
            (json!({"exec": {"command": ["sh", "-c", "sleep 10 20"]}}), None),
            (json!({"exec": {"command": ["sleep", "10", "20"]}}), None),
            (json!({"exec": {"command": ["sh", "-c", "sleep 10 | drain"]}}), None),
            (json!({"exec": {"command": ["sh", "-c", "sleep $DELAY"]}}), None),
            (json!({"exec": {"command": ["sleep", "infinity"]}}), None),
            (json!({"exec": {"command": ["sleep", "99999999999999999999"]}}), None),
            (json!({"exec": {"command": []}}), None),
            (json!({"exec": {}}), None),
            (json!({"httpGet": {"path": "/prestop", "port": 8081}}), None),
            (json!({}), None),
        ] {
            assert_eq!(pre_stop_seconds(&handler), expected, "{handler}");
        }
    }
}
