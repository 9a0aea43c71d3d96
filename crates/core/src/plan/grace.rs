//! How long the grace period has to be, and whether it may be that long.

use std::cmp::Reverse;

use serde_json::{Map, Value};

use super::{
    Setting, Settings, Source,
    command::Length,
    hooks::{Hook, Hooks, containers, name, native_sleeps, sidecars},
    record::{DEFAULT_GRACE_PERIOD_SECONDS, GRACE_PERIOD},
    timing::{PodHooks, grace_period_seconds, pre_stop_length},
};
use crate::api::{GracePeriodPolicy, annotations::SHUTDOWN_TIMEOUT_SECONDS};

/// How many characters of a value a message shows: the API server cuts what is longer than 256 in all.
const SHOWN: usize = 30;

/// The grace period, in seconds; where there is none, what the API server fills in. `None` where it isn't a whole
/// number, which is the API server's to refuse.
pub(super) fn grace_period(spec: &Map<String, Value>) -> Option<i64> {
    match spec.get(GRACE_PERIOD) {
        None | Some(Value::Null) => Some(DEFAULT_GRACE_PERIOD_SECONDS),
        Some(value) => value.as_i64(),
    }
}

/// The grace period that a pod needs once injection is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needed {
    seconds: i64,
    /// Whether a hook of unknown duration counts in it.
    guessed: bool,
    present: i64,
}

impl Needed {
    /// The value to set, where the present one is too short.
    pub(super) fn raised(self) -> Option<i64> {
        (self.present < self.seconds).then_some(self.seconds)
    }

    /// The value to set, where there is one. A grace period is never lowered on a guess, and none above the maximum is
    /// ever set.
    pub(super) fn changed(self, settings: &Settings) -> Option<i64> {
        let exact = settings.grace_period.value == GracePeriodPolicy::Exact && !self.guessed;
        let lowered = exact && self.seconds <= settings.max_grace_period_seconds.value;
        let other = lowered && self.present != self.seconds;
        self.raised().or_else(|| other.then_some(self.seconds))
    }
}

/// What `spec` needs under `hooks`. An error says why nothing may be injected: the present grace period can't be
/// read, the computed one is 0, or it is more than the maximum. A longer one that is there already is the user's,
/// and isn't capped.
pub(super) fn needed(
    hooks: Hooks<'_>,
    spec: &Map<String, Value>,
    warnings: &mut Vec<String>,
) -> Result<Needed, String> {
    let settings = hooks.settings;
    let Some(present) = grace_period(spec) else {
        let value = spec.get(GRACE_PERIOD).map(Value::to_string).unwrap_or_default();
        let value: String = value.chars().take(SHOWN).collect();
        return Err(format!(
            "{GRACE_PERIOD}: Invalid value: {value}: must be a whole number: nothing is injected, because sleep and \
             grace period change together; write a number without quotes, or fill in variables before"
        ));
    };
    if let Some(why) = all_zero(settings) {
        return Err(why);
    }
    let of_containers = Longest::of_containers(hooks, spec, warnings);
    let of_sidecars = Longest::of_sidecars(hooks, spec, warnings);
    let pod = PodHooks {
        containers: of_containers.seconds,
        native_sidecars: of_sidecars.seconds,
        native_sidecar_count: sidecars(spec).count(),
    };
    // The API server refuses a sleep that is longer than the grace period, also one after the start (KEP-4818).
    let seconds = native_sleeps(spec, "postStart").fold(grace_period_seconds(settings, pod), i64::max);
    if seconds <= 0 {
        return Err(no_time(settings));
    }
    let needed = Needed { seconds, guessed: of_containers.guessed || of_sidecars.guessed, present };
    let maximum = settings.max_grace_period_seconds.value;
    if seconds > maximum && present < seconds {
        let drain = settings.drain_seconds.value;
        let without_own = PodHooks {
            containers: pod.containers.min(drain),
            native_sidecars: pod.native_sidecars.min(drain),
            ..pod
        };
        let by_sidecar =
            pod.native_sidecars > pod.containers.saturating_add(settings.shutdown_timeout_seconds.value);
        let own = if by_sidecar { of_sidecars.own } else { of_containers.own };
        let own = own.filter(|_| grace_period_seconds(settings, without_own) <= maximum);
        return Err(over_the_maximum(settings, seconds, own.as_ref()));
    }
    Ok(needed)
}

/// Each policy and each annotation may be fine where they come to nothing together.
fn all_zero(settings: &Settings) -> Option<String> {
    let Settings { drain_seconds, shutdown_timeout_seconds, margin_seconds, .. } = settings;
    let times = [drain_seconds, shutdown_timeout_seconds, margin_seconds];
    times.iter().all(|time| time.value <= 0).then(|| {
        format!(
            "drain, shutdown timeout and margin are all 0 ({}): a grace period of 0 kills pods at once, so nothing is \
             injected; set one of them above 0, for example {SHUTDOWN_TIMEOUT_SECONDS}",
            sources(&times)
        )
    })
}

/// The drain counts only where a container waits for it.
fn no_time(settings: &Settings) -> String {
    let Settings { shutdown_timeout_seconds, margin_seconds, .. } = settings;
    format!(
        "no container's preStop waits, and shutdown timeout and margin are 0 ({}): a grace period of 0 kills pods at once, \
         so nothing is injected; set {SHUTDOWN_TIMEOUT_SECONDS} above 0",
        sources(&[shutdown_timeout_seconds, margin_seconds])
    )
}

fn sources(settings: &[&Setting<i64>]) -> String {
    let mut from: Vec<&Source> = settings.iter().map(|setting| &setting.from).collect();
    from.dedup();
    from.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn over_the_maximum(settings: &Settings, needed: i64, own: Option<&Own<'_>>) -> String {
    let Setting { value: maximum, from } = &settings.max_grace_period_seconds;
    let over = format!(
        "a grace period of {needed} s, more than the maximum of {maximum} s ({from}): nothing is injected"
    );
    if let Some(Own { role, name, seconds }) = own {
        return format!(
            "{role} {name:?}: its own preStop takes {seconds} s, so the pod needs {over}; set {GRACE_PERIOD} to \
             {needed} or more yourself, or shorten that preStop"
        );
    }
    let holder = if from.is_policy() { "there" } else { "in a policy" };
    format!(
        "needs {over}; lower the drain or the shutdown timeout, raise maxGracePeriodSeconds {holder}, or set \
         {GRACE_PERIOD} to {needed} or more yourself"
    )
}

/// The preStop hook that takes longest.
#[derive(Clone, Debug, Default)]
struct Longest<'a> {
    seconds: i64,
    /// Whether a hook of unknown duration is among them.
    guessed: bool,
    /// The user's hook that takes longest and longer than the drain.
    own: Option<Own<'a>>,
}

/// What has a user's hook, if that is no native sidecar.
const CONTAINER: &str = "container";

/// A user's hook.
#[derive(Clone, Debug)]
struct Own<'a> {
    /// What has it: a container or a native sidecar.
    role: &'static str,
    name: &'a str,
    seconds: i64,
}

impl<'a> Longest<'a> {
    fn of_containers(hooks: Hooks<'a>, spec: &'a Map<String, Value>, warnings: &mut Vec<String>) -> Self {
        let mut longest = Self { seconds: i64::MIN, ..Self::default() };
        for container in containers(spec) {
            match hooks.decide(container) {
                Hook::Injected => longest.add(hooks.settings.drain_seconds.value),
                Hook::None => longest.add(0),
                Hook::Own(handler) => {
                    longest.add_own(CONTAINER, name(container), handler, hooks.settings, warnings);
                    warnings.extend(too_short(hooks, container, handler));
                }
            }
        }
        if longest.seconds == i64::MIN {
            longest.seconds = hooks.settings.drain_seconds.value;
        }
        longest
    }

    /// Native sidecars get no hook. What they have runs from the start of termination on.
    fn of_sidecars(hooks: Hooks<'a>, spec: &'a Map<String, Value>, warnings: &mut Vec<String>) -> Self {
        let mut longest = Self::default();
        for sidecar in sidecars(spec).filter_map(Value::as_object) {
            if let Some(handler) = own_hook(sidecar) {
                longest.add_own("native sidecar", name(sidecar), handler, hooks.settings, warnings);
            }
        }
        longest
    }

    fn add(&mut self, seconds: i64) {
        self.seconds = self.seconds.max(seconds);
    }

    /// A hook of unknown duration counts as the drain, or as what is certain of it where that is more.
    fn add_own(
        &mut self,
        role: &'static str,
        name: &'a str,
        handler: &Value,
        settings: &Settings,
        warnings: &mut Vec<String>,
    ) {
        let drain = settings.drain_seconds.value;
        let seconds = match pre_stop_length(handler) {
            Length::Exactly(seconds) => seconds,
            Length::AtLeast(least) => {
                let counted = least.max(drain);
                let as_drain = if counted == drain { "the drain of " } else { "" };
                let asked = settings.drain_seconds.from != Source::Default && role == CONTAINER;
                let asked =
                    asked && least < drain && settings.exclude.value.iter().all(|excluded| excluded != name);
                let less = if asked { "; if it takes less, remove it to get that drain" } else { "" };
                warnings.push(format!(
                    "{role} {name:?}: how long its own preStop takes can't be read from it: it counts as \
                     {as_drain}{counted} s; if it takes longer, set {GRACE_PERIOD} yourself{less}"
                ));
                self.guessed = true;
                counted
            }
        };
        self.add(seconds);
        let own = Own { role, name, seconds };
        let rank = |own: &Own<'a>| (own.seconds, Reverse(own.name));
        if seconds > drain && self.own.as_ref().is_none_or(|longest| rank(longest) < rank(&own)) {
            self.own = Some(own);
        }
    }
}

/// The preStop that the user wrote. `{}`, too, is the user's, and the API server's to refuse.
pub(super) fn own_hook(container: &Map<String, Value>) -> Option<&Value> {
    container.get("lifecycle")?.get("preStop").filter(|hook| !hook.is_null())
}

/// A user's hook that ends before the drain that was asked for. A sleep of 0 opts the container out, and nobody
/// asked for the built-in drain.
fn too_short(hooks: Hooks<'_>, container: &Map<String, Value>, handler: &Value) -> Option<String> {
    let Setting { value: drain, from } = &hooks.settings.drain_seconds;
    let Length::Exactly(seconds) = pre_stop_length(handler) else { return None };
    let asked = *from != Source::Default && !hooks.excludes(container);
    (asked && seconds > 0 && seconds < *drain).then(|| {
        format!(
            "container {:?}: its own preStop takes {seconds} s, less than the drain of {drain} s ({from}), and stays: \
             remove it to get the drain, or lengthen it",
            name(container)
        )
    })
}

#[cfg(test)]
#[path = "grace_tests.rs"]
mod tests;
