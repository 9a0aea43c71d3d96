//! An explanation as text.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use super::{
    Explained,
    exposures::ExplainedExposure,
    timeline::{Phase, Span, Timelines},
};
use crate::{
    api::{Quantiles, RecentTermination, TerminationOutcome as Outcome, TerminationProfileStatus},
    cli::{changed_values::changed_values, manifests::escaped},
    plan::{
        ExplainedChange, ExplainedSetting, Explanation, InjectionState, OptedIn, RolloutTiming, Termination,
    },
    text::counted,
};

/// The columns of a timeline.
const WIDTH: usize = 64;
/// The columns of the names of rows, at least.
const NAMES: usize = 8;

const WITHDRAWAL: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Magenta)));
const WITHDRAWN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::BrightBlack)));
const DRAIN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Cyan)));
const SHUTDOWN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));
const SIDECARS: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Blue)));
const MARGIN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));
const TOO_LONG: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));
const BOLD: Style = Style::new().bold();

/// A workload, what changes, its settings, its exposures and the termination of its pods.
pub(super) fn explained(explained: &Explained) -> String {
    let Explained { kind, namespace, name, explanation, exposures, observed } = explained;
    let title = escaped(&format!("{kind} {namespace}/{name}")).into_owned();
    let mut text = format!("{BOLD}{title}{BOLD:#}: {}\n", state(explanation));
    for warning in &explanation.warnings {
        // Writing to a String doesn't fail.
        let _ = writeln!(text, "  {MARGIN}warning{MARGIN:#}: {}", escaped(warning));
    }
    text += &changes(explanation);
    text += &settings(&explanation.settings);
    text += &exposed(exposures);
    let timelines = Timelines::of(&explanation.termination, observed.as_ref(), exposures);
    text += &termination(&explanation.termination, &timelines);
    if let Some(observed) = observed {
        text += &observations(observed, timelines.ends);
    }
    text
}

fn state(explanation: &Explanation) -> String {
    let OptedIn { from, reverts, .. } = &explanation.opted_in;
    let pending = match explanation.pending.as_ref().map(|pending| pending.timing) {
        None => "",
        Some(RolloutTiming::Immediate) => "; its template is written immediately",
        Some(RolloutTiming::Queued) => "; its template is written once a rollout slot is free",
        Some(RolloutTiming::NextUpdate) => "; its template is written with its next update",
        Some(RolloutTiming::DryRun) => "; its policy only audits, so nothing is written",
    };
    let Some(from) = from else {
        let without = if pending.is_empty() { ", its pods terminate without adieu" } else { pending };
        return format!("{}{without}", not_opted_in(&explanation.opted_in));
    };
    let state = match explanation.state {
        InjectionState::Injected => "injected",
        InjectionState::Pending => "to be injected",
        InjectionState::Unsatisfiable => "can't be injected",
        InjectionState::PodInjection => "its pods are injected when they are created",
        InjectionState::Reverted => "the injection is reverted",
        InjectionState::Unmanaged => "not managed",
    };
    let reverts = if *reverts { ", reverting" } else { "" };
    format!("opted in by {from}{reverts}; {state}{pending}")
}

/// Why a workload is not opted in.
fn not_opted_in(opted_in: &OptedIn) -> &'static str {
    if opted_in.opted_out { "opted out by annotation" } else { "not opted in" }
}

/// A line for each value that changes, with the settings that cause it, or one that nothing changes.
fn changes(explanation: &Explanation) -> String {
    let Some(pending) = &explanation.pending else {
        let is_injected = explanation.state == InjectionState::Injected;
        let reason = if is_injected { ": its pod template is up to date" } else { "" };
        return format!("  no change{reason}\n");
    };
    if pending.changes.is_empty() {
        return "  no change of the values that its pods get\n".to_owned();
    }
    let label = if pending.timing == RolloutTiming::DryRun { "would change" } else { "change" };
    let changes =
        pending.changes.iter().map(|changed| (&changed.change, cause(changed, &explanation.opted_in)));
    let containers = explanation.termination.containers.iter().filter(|container| !container.native_sidecar);
    let texts = changed_values(changes, containers.count(), true).into_iter().map(|(text, cause)| {
        let text = format!("{text}: {cause}");
        format!("  {BOLD}{label}{BOLD:#}: {}\n", escaped(&text))
    });
    texts.collect()
}

/// The settings that cause a change, each with its source.
fn cause(changed: &ExplainedChange, opted_in: &OptedIn) -> String {
    if changed.settings.is_empty() {
        return not_opted_in(opted_in).to_owned();
    }
    let settings = changed.settings.iter();
    let texts =
        settings.map(|setting| format!("{} {} ({})", setting.field, shown(&setting.value), setting.from));
    texts.collect::<Vec<_>>().join(", ")
}

/// A table of the settings.
fn settings(settings: &[ExplainedSetting]) -> String {
    let row = |setting: &ExplainedSetting| {
        let lost = setting.overridden.iter().map(|lost| format!("{} ({})", shown(&lost.value), lost.from));
        [
            setting.field.to_owned(),
            shown(&setting.value),
            setting.from.to_string(),
            lost.collect::<Vec<_>>().join(", "),
        ]
    };
    table(["SETTING", "VALUE", "FROM", "INSTEAD OF"], settings.iter().map(row))
}

/// A table of the exposures.
fn exposed(exposures: &[ExplainedExposure]) -> String {
    let row = |exposure: &ExplainedExposure| {
        let ExplainedExposure { name, object, class, drain_seconds, reason, source, .. } = exposure;
        let class = class.as_ref().map(|class| format!(", {class}")).unwrap_or_default();
        let needed = format!("{drain_seconds} s");
        [(*name).to_owned(), format!("{object}{class}"), needed, format!("{reason} ({source})")]
    };
    table(["EXPOSURE", "OBJECT", "NEEDED DRAIN", "REASON"], exposures.iter().map(row))
}

/// A table; empty without rows.
fn table(header: [&str; 4], rows: impl Iterator<Item = [String; 4]>) -> String {
    let rows: Vec<_> = rows.map(|row| row.map(|cell| escaped(&cell).into_owned())).collect();
    if rows.is_empty() {
        return String::new();
    }
    let header = header.map(str::to_owned);
    let widths: Vec<_> = (0..3)
        .map(|column| {
            let cells = std::iter::once(&header).chain(&rows).map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        })
        .collect();
    let mut text = String::from("\n");
    for [first, second, third, last] in std::iter::once(&header).chain(&rows) {
        let line =
            format!("  {first:<0$}  {second:<1$}  {third:<2$}  {last}", widths[0], widths[1], widths[2]);
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// A value in a cell: text without quotes, and `-` for none.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Object(fields) if fields.is_empty() => "-".to_owned(),
        other => other.to_string(),
    }
}

/// The timelines of a pod's termination, to scale, and what happens to each container.
fn termination(termination: &Termination, timelines: &Timelines) -> String {
    let scale = Scale(timelines.end);
    let mut text = String::from("\n  Termination of a pod, in seconds\n");
    let observed = timelines.ends.map(|ends| ("observed".to_owned(), scale.marks(ends)));
    let rows: Vec<_> =
        timelines.rows().map(|(name, spans)| (name, scale.bar(spans))).chain(observed).collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default().max(NAMES);
    for (name, bar) in rows {
        let _ = writeln!(text, "  {name:<width$}  {bar}");
    }
    for Span { from, to, phase } in timelines.rows().flat_map(|(_, spans)| spans) {
        let style = style(*phase);
        let _ = writeln!(text, "  {style}█{style:#} {from:>4} to {to:>4}  {phase}");
    }
    for container in &termination.containers {
        let role = if container.native_sidecar { "native sidecar" } else { "container" };
        let hook = match (container.pre_stop_seconds, container.is_exact) {
            (0, true) => "no preStop hook, SIGTERM immediately".to_owned(),
            (i64::MAX, _) => "its preStop hook never ends".to_owned(),
            (seconds, true) => format!("SIGTERM after {seconds} s"),
            (seconds, false) => format!("its preStop hook takes at least {seconds} s, SIGTERM after it"),
        };
        let _ = writeln!(text, "  {role} {}: {hook}", escaped(&container.name));
    }
    text
}

/// What was observed of the workload's terminations.
fn observations(observed: &TerminationProfileStatus, ends: Option<Quantiles>) -> String {
    let mut outcomes = observed.outcomes;
    let counts = [
        (Outcome::Completed, "completed"),
        (Outcome::DefaultAction, "exited with 143"),
        (Outcome::Killed, "killed"),
        (Outcome::Crashed, "crashed"),
        (Outcome::PreStopFailed, "preStop failed"),
        (Outcome::CutShort, "cut short"),
    ];
    let counts = counts.map(|(outcome, what)| (*outcomes.of(outcome), what));
    let counts: Vec<_> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let mut text = format!(
        "\n  Observed since {}: {} ({}), the last at {}\n",
        observed.observed_since,
        counted(usize::try_from(observed.terminations).unwrap_or_default(), "termination"),
        counts.join(", "),
        observed.last_termination_time
    );
    if let Some(Quantiles { p50, p99, max, .. }) = ends {
        let _ = writeln!(
            text,
            "  the last container ended after {p50} s (p50, ●), {p99} s (p99, ◆), {max} s (max, ▲)"
        );
    }
    if let Some(Quantiles { p50, p99, max, .. }) = observed.endpoint_withdrawal_seconds {
        let _ = writeln!(
            text,
            "  no EndpointSlice had the pod as ready after {p50} s (p50), {p99} s (p99), {max} s (max)"
        );
    }
    for recent in &observed.recent {
        let RecentTermination { pod, container, time, cause, reason, .. } = recent;
        let container = container.as_ref().map(|name| format!(", container {name}")).unwrap_or_default();
        let failed = format!("{time}, pod {pod}{container}: {reason} (cause: {cause:?})");
        let _ = writeln!(text, "  {TOO_LONG}failed{TOO_LONG:#}: {}", escaped(&failed));
    }
    if let Some(problem) = &observed.problem {
        let _ = writeln!(text, "  {MARGIN}problem{MARGIN:#}: {}", escaped(problem));
    }
    if let Some(recommendation) = &observed.recommendation {
        let _ = writeln!(text, "  recommendation: {}", escaped(&recommendation.summary));
    }
    text
}

/// The seconds that the width of a row stands for.
struct Scale(i64);

impl Scale {
    fn column(&self, seconds: i64) -> usize {
        let width = i64::try_from(WIDTH).unwrap_or(i64::MAX);
        usize::try_from(seconds.saturating_mul(width) / self.0.max(1)).unwrap_or(WIDTH).min(WIDTH)
    }

    fn bar(&self, spans: &[Span]) -> String {
        let part = |span: &Span| {
            let (style, width) = (style(span.phase), self.column(span.to) - self.column(span.from));
            format!("{style}{}{style:#}", "█".repeat(width))
        };
        spans.iter().map(part).collect()
    }

    /// Marks at the median, the 99th percentile and the largest; of those at the same place the last.
    fn marks(&self, ends: Quantiles) -> String {
        let mut row = vec![' '; WIDTH + 1];
        let [first, .., last] = [ends.p50, ends.p99, ends.max].map(|seconds| self.column(seconds));
        row[first..last].fill('─');
        for (seconds, mark) in [(ends.p50, '●'), (ends.p99, '◆'), (ends.max, '▲')] {
            row[self.column(seconds)] = mark;
        }
        row.iter().collect::<String>().trim_end().to_owned()
    }
}

fn style(phase: Phase) -> Style {
    match phase {
        Phase::Withdrawal | Phase::Exposed(_) | Phase::Unexposed => WITHDRAWAL,
        Phase::ExposedTooLong(_) => TOO_LONG,
        Phase::Withdrawn => WITHDRAWN,
        Phase::Drain => DRAIN,
        Phase::Shutdown => SHUTDOWN,
        Phase::Sidecars => SIDECARS,
        Phase::Margin => MARGIN,
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
