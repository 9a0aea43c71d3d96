//! The duration of users' preStop hooks, read from the usual forms.

use serde_json::Value;

use super::command_duration::{self, HookDuration};

/// The longest command that is read, in bytes. Parsed, a script takes a hundred times the memory of its text.
const MAX_COMMAND_SIZE: usize = 16 * 1024;

/// The duration of a preStop hook, in seconds, for the usual forms: the native `sleep` action,
/// `["sleep", "10"]`, also behind commands such as `timeout` and `exec`, a shell whose script is a sequence of sleeps and
/// of commands that return immediately, and the commands of Windows for the same.
/// `None` if it is unknown.
#[must_use]
pub fn pre_stop_seconds(handler: &Value) -> Option<i64> {
    match pre_stop_duration(handler) {
        HookDuration::Exactly(seconds) => Some(seconds),
        HookDuration::AtLeast(_) | HookDuration::Endless => None,
    }
}

/// The duration of a preStop hook; for one that can't be read, a lower bound.
pub(super) fn pre_stop_duration(handler: &Value) -> HookDuration {
    if let Some(sleep) = handler.get("sleep").filter(|sleep| !sleep.is_null()) {
        // The API server treats an omitted value as 0.
        let seconds =
            sleep.as_object().map(|sleep| sleep.get("seconds").filter(|seconds| !seconds.is_null()));
        let seconds = seconds.and_then(|seconds| seconds.map_or(Some(0), Value::as_i64));
        return seconds
            .filter(|seconds| *seconds >= 0)
            .map_or(HookDuration::AtLeast(0), HookDuration::Exactly);
    }
    let command = handler.get("exec").and_then(|exec| exec.get("command")?.as_array());
    let size = |command: &&Vec<Value>| {
        command.iter().map(|word| word.as_str().map_or(0, str::len) + 1).sum::<usize>()
    };
    let command = command.filter(|command| size(command) <= MAX_COMMAND_SIZE);
    let words = command.and_then(|command| command.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    words.map_or(HookDuration::AtLeast(0), |words| command_duration::duration(&words))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hook_duration_is_read_from_its_handler() {
        for (handler, expected) in [
            (json!({"sleep": {"seconds": 10}}), Some(10)),
            (json!({"sleep": {"seconds": 0}}), Some(0)),
            (json!({"sleep": {}}), Some(0)),
            (json!({"sleep": {"seconds": null}}), Some(0)),
            (json!({"sleep": {"seconds": "5"}}), None),
            (json!({"sleep": {"seconds": -5}}), None),
            (json!({"sleep": 5}), None),
            (json!({"sleep": null, "exec": {"command": ["sleep", "7"]}}), Some(7)),
            (json!({"exec": {"command": ["sleep", "10"]}}), Some(10)),
            (json!({"exec": {"command": ["sleep", 10]}}), None),
            (json!({"exec": {"command": []}}), None),
            (json!({"exec": {}}), None),
            (json!({"httpGet": {"path": "/prestop", "port": 8081}}), None),
            (json!({}), None),
            (json!({"exec": {"command": ["sh", "-c", "sleep 7;".repeat(1000)]}}), Some(7000)),
            (json!({"exec": {"command": ["sh", "-c", "sleep 7;".repeat(3000)]}}), None),
        ] {
            assert_eq!(pre_stop_seconds(&handler), expected, "{handler}");
        }
    }
}
