//! The grace period that a pod needs, and whether the maximum allows it.

use std::cmp::Reverse;

use serde_json::{Map, Value};

use super::{
    command_duration::HookDuration,
    hook_duration::pre_stop_duration,
    hooks::{Hook, Hooks, containers, name, native_sleeps, own_hook, sidecars},
    record::{DEFAULT_GRACE_PERIOD_SECONDS, GRACE_PERIOD},
    settings::{Setting, Settings},
    source::Source,
    warnings::Warnings,
};
use crate::{
    api::{GracePeriodPolicy, annotations::SHUTDOWN_TIMEOUT_SECONDS, defaults},
    text::truncate_chars,
};

/// The maximum number of characters of a value in a message: the API server cuts messages at 256.
const MAX_SHOWN: usize = 30;

/// The grace period, in seconds; if absent, the API server's default. `None` if it isn't a whole number, which the API
/// server rejects.
pub(super) fn grace_period(spec: &Map<String, Value>) -> Option<i64> {
    match spec.get(GRACE_PERIOD) {
        None | Some(Value::Null) => Some(DEFAULT_GRACE_PERIOD_SECONDS),
        Some(value) => value.as_i64().or_else(|| whole(value.as_f64()?)),
    }
}

/// A number such as `30.0` or `1e2`, which kubectl reads as a whole one.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::float_cmp)]
fn whole(number: f64) -> Option<i64> {
    let seconds = number as i64;
    (seconds as f64 == number).then_some(seconds)
}

/// The longest preStop hooks of a pod, and its native sidecars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodHooks {
    /// Seconds that the longest preStop of a regular container takes.
    pub containers: i64,
    /// Seconds that the longest preStop of a native sidecar takes.
    pub native_sidecars: i64,
    /// How many native sidecars there are.
    pub native_sidecar_count: usize,
}

/// The grace period in seconds. All preStop hooks begin at the start of termination and count against the grace
/// period (Kubernetes documentation, pod lifecycle), those of native sidecars too. So it is the longer of the
/// regular containers' preStop with the shutdown timeout and of the native sidecars' preStop, a reserve for each
/// native sidecar (they stop one after the other once the regular containers have exited, KEP-753), and the
/// margin.
#[must_use]
pub fn grace_period_seconds(settings: &Settings, hooks: PodHooks) -> i64 {
    let sidecars = i64::try_from(hooks.native_sidecar_count).unwrap_or(i64::MAX);
    hooks
        .containers
        .saturating_add(settings.shutdown_timeout_seconds.value)
        .max(hooks.native_sidecars)
        .saturating_add(sidecars.saturating_mul(settings.sidecar_seconds.value))
        .saturating_add(settings.margin_seconds.value)
}

/// The grace period that a pod needs after the injection.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequiredGracePeriod {
    seconds: i64,
    /// Whether it includes a hook of unknown duration.
    guessed: bool,
    present: i64,
}

impl RequiredGracePeriod {
    /// The value to set, if the present one is too short.
    pub(super) fn raised(self) -> Option<i64> {
        (self.present < self.seconds).then_some(self.seconds)
    }

    /// The value to set, if any. A grace period isn't lowered if a hook has an unknown duration, and none is set above
    /// the maximum.
    pub(super) fn changed(self, settings: &Settings) -> Option<i64> {
        let exact = settings.grace_period.value == GracePeriodPolicy::Exact && !self.guessed;
        let lowered = exact && self.seconds <= settings.max_grace_period_seconds.value;
        let other = lowered && self.present != self.seconds;
        self.raised().or_else(|| other.then_some(self.seconds))
    }
}

/// The grace period that `spec` needs with `hooks`. An error, with the reason, if nothing may be injected: the present
/// grace period is invalid, the computed one is 0, or it is more than the maximum. A longer one of the user isn't capped.
pub(super) fn needed(
    hooks: Hooks<'_>,
    spec: &Map<String, Value>,
    warnings: &mut Warnings,
) -> Result<RequiredGracePeriod, String> {
    let settings = hooks.settings;
    let Some(present) = grace_period(spec) else {
        let value = spec.get(GRACE_PERIOD).map(Value::to_string).unwrap_or_default();
        let value = truncate_chars(&value, MAX_SHOWN);
        return Err(format!(
            "{GRACE_PERIOD}: Invalid value: {value}: must be a whole number: nothing is injected, because sleep and \
             grace period change together; write a number without quotes, and replace variables first"
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
    // The API server rejects a sleep that is longer than the grace period, in postStart, too (KEP-4818).
    let seconds = native_sleeps(spec, "postStart").fold(grace_period_seconds(settings, pod), i64::max);
    if seconds <= 0 {
        return Err(no_time(settings));
    }
    let needed =
        RequiredGracePeriod { seconds, guessed: of_containers.guessed || of_sidecars.guessed, present };
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

/// The settings with a shutdown timeout that is shorter by as much as `spec` needs beyond the maximum, or beyond its own
/// grace period if that is longer. `None` if it isn't shorter, or would be negative.
pub(super) fn shortened_to_maximum(hooks: Hooks<'_>, spec: &Map<String, Value>) -> Option<Settings> {
    let settings = hooks.settings;
    let shutdown = settings.shutdown_timeout_seconds.value.saturating_sub(excess_seconds(hooks, spec)?);
    let mut shortened = settings.clone();
    shortened.shutdown_timeout_seconds.value = shutdown;
    (0..settings.shutdown_timeout_seconds.value).contains(&shutdown).then_some(shortened)
}

/// The seconds that `spec` needs beyond the maximum, or beyond its own grace period if that is longer; 0 or less if it needs
/// none. `None` if nothing can be injected with any maximum.
pub(super) fn excess_seconds(hooks: Hooks<'_>, spec: &Map<String, Value>) -> Option<i64> {
    let mut settings = hooks.settings.clone();
    settings.max_grace_period_seconds.value = i64::MAX;
    let unlimited = Hooks { settings: &settings, ..hooks };
    let needed = needed(unlimited, spec, &mut Warnings::default()).ok()?;
    let limit = hooks.settings.max_grace_period_seconds.value.max(needed.present);
    Some(needed.seconds.saturating_sub(limit))
}

/// The error if all times are 0 after the merge, which policies and annotations alone don't show.
fn all_zero(settings: &Settings) -> Option<String> {
    let Settings { drain_seconds, shutdown_timeout_seconds, margin_seconds, .. } = settings;
    let times = [drain_seconds, shutdown_timeout_seconds, margin_seconds];
    times.iter().all(|time| time.value <= 0).then(|| {
        format!(
            "drain, shutdown timeout and margin are all 0 ({}): a grace period of 0 kills pods immediately, so nothing is \
             injected; set one of them above 0, for example {SHUTDOWN_TIMEOUT_SECONDS}",
            sources(&times)
        )
    })
}

/// The error if no container waits for the drain, and the other times are 0.
fn no_time(settings: &Settings) -> String {
    let Settings { shutdown_timeout_seconds, margin_seconds, .. } = settings;
    format!(
        "no container's preStop waits, and shutdown timeout and margin are 0 ({}): a grace period of 0 kills pods immediately, \
         so nothing is injected; set {SHUTDOWN_TIMEOUT_SECONDS} above 0",
        sources(&[shutdown_timeout_seconds, margin_seconds])
    )
}

fn sources(settings: &[&Setting<i64>]) -> String {
    let mut from: Vec<&Source> = settings.iter().map(|setting| &setting.from).collect();
    from.dedup();
    from.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn over_the_maximum(settings: &Settings, needed: i64, own: Option<&UserHook<'_>>) -> String {
    let Setting { value: maximum, from } = &settings.max_grace_period_seconds;
    let over = format!(
        "a grace period of {needed} s, more than the maximum of {maximum} s ({from}): nothing is injected"
    );
    if let Some(UserHook { role, name, seconds }) = own {
        return format!(
            "{role} {name:?}: its own preStop takes {seconds} s, so the pod needs {over}; set {GRACE_PERIOD} to \
             {needed} or more, or shorten that preStop"
        );
    }
    let holder = if from.is_policy() { "in that policy" } else { "in a policy" };
    format!(
        "the pod needs {over}; lower the drain or the shutdown timeout, raise maxGracePeriodSeconds {holder}, or set \
         {GRACE_PERIOD} to {needed} or more"
    )
}

/// The preStop hook that takes longest.
#[derive(Clone, Debug, Default)]
struct Longest<'a> {
    seconds: i64,
    /// Whether a hook of unknown duration is among them.
    guessed: bool,
    /// The user's hook that takes longest and longer than the drain.
    own: Option<UserHook<'a>>,
}

/// The role of a regular container in messages.
const CONTAINER: &str = "container";

/// A user's hook.
#[derive(Clone, Debug)]
struct UserHook<'a> {
    /// Container or native sidecar.
    role: &'static str,
    name: &'a str,
    seconds: i64,
}

impl<'a> Longest<'a> {
    fn of_containers(hooks: Hooks<'a>, spec: &'a Map<String, Value>, warnings: &mut Warnings) -> Self {
        let mut longest = Self { seconds: i64::MIN, ..Self::default() };
        for container in containers(spec) {
            match hooks.decide(container) {
                Hook::Injected => longest.add(hooks.settings.drain_seconds.value),
                Hook::None => longest.add(0),
                Hook::User(handler) => {
                    longest.add_own(CONTAINER, container, hooks.settings, warnings);
                    warnings.extend(too_short(hooks, container, handler));
                }
            }
        }
        if longest.seconds == i64::MIN {
            longest.seconds = hooks.settings.drain_seconds.value;
        }
        longest
    }

    /// Native sidecars get no hook. Their own ones run from the start of termination.
    fn of_sidecars(hooks: Hooks<'a>, spec: &'a Map<String, Value>, warnings: &mut Warnings) -> Self {
        let mut longest = Self::default();
        for sidecar in sidecars(spec).filter_map(Value::as_object) {
            longest.add_own("native sidecar", sidecar, hooks.settings, warnings);
        }
        longest
    }

    fn add(&mut self, seconds: i64) {
        self.seconds = self.seconds.max(seconds);
    }

    /// Adds the user's hook, if there is one. A hook of unknown duration counts as the drain, or as its lower bound if that
    /// is more.
    fn add_own(
        &mut self,
        role: &'static str,
        container: &'a Map<String, Value>,
        settings: &Settings,
        warnings: &mut Warnings,
    ) {
        let Some(handler) = own_hook(container) else { return };
        let (name, drain) = (name(container), settings.drain_seconds.value);
        let seconds = match pre_stop_duration(handler) {
            HookDuration::Exactly(seconds) => seconds,
            HookDuration::Endless => {
                warnings.push(format!(
                    "{role} {name:?}: its own preStop never ends, so no grace period is long enough: the container is \
                     killed 2 s after its SIGTERM, when {GRACE_PERIOD} has expired; shorten its preStop"
                ));
                self.guessed = true;
                drain
            }
            HookDuration::AtLeast(least) => {
                let counted = least.max(drain);
                let as_drain = if counted == drain { "the drain of " } else { "" };
                let configured = is_configured(&settings.drain_seconds) && role == CONTAINER;
                let excluded = settings.exclude.value.iter().any(|excluded| excluded == name);
                let less = if configured && least < drain && !excluded {
                    "; if it takes less, remove it to get that drain"
                } else {
                    ""
                };
                warnings.push(format!(
                    "{role} {name:?}: the duration of its own preStop is unknown: it counts as {as_drain}{counted} \
                     s; if it takes longer, set {GRACE_PERIOD} yourself{less}"
                ));
                self.guessed = true;
                counted
            }
        };
        self.add(seconds);
        let own = UserHook { role, name, seconds };
        let rank = |own: &UserHook<'a>| (own.seconds, Reverse(own.name));
        if seconds > drain && self.own.as_ref().is_none_or(|longest| rank(longest) < rank(&own)) {
            self.own = Some(own);
        }
    }
}

/// Whether hooks of the user are compared with a drain: an annotation or a policy sets it, or an exposure needs it. The
/// built-in one isn't configured.
fn is_configured(drain: &Setting<i64>) -> bool {
    *drain.from.setter() != Source::Default || drain.value > defaults::DRAIN_SECONDS
}

/// The warning for a user's hook that ends before the configured drain. A sleep of 0 opts the container out.
fn too_short(hooks: Hooks<'_>, container: &Map<String, Value>, handler: &Value) -> Option<String> {
    let Setting { value: drain, from } = &hooks.settings.drain_seconds;
    let HookDuration::Exactly(seconds) = pre_stop_duration(handler) else { return None };
    let configured = is_configured(&hooks.settings.drain_seconds) && !hooks.excludes(container);
    (configured && seconds > 0 && seconds < *drain).then(|| {
        format!(
            "container {:?}: its own preStop takes {seconds} s, less than the drain of {drain} s ({from}), and is kept: \
             remove it to get the drain, or lengthen it",
            name(container)
        )
    })
}

#[cfg(test)]
#[path = "grace_period_tests.rs"]
mod tests;
