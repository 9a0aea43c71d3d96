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
    api::{Quantiles, TerminationOutcome as Outcome, TerminationProfileStatus},
    cli::manifests::escaped,
    plan::{ExplainedSetting, Explanation, InjectionState, OptedIn, RolloutTiming, Termination},
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

/// A workload, its settings, its exposures and the termination of its pods.
pub(super) fn explained(explained: &Explained) -> String {
    let Explained { kind, namespace, name, explanation, exposures, observed } = explained;
    let title = escaped(&format!("{kind} {namespace}/{name}")).into_owned();
    let mut text = format!("{BOLD}{title}{BOLD:#}: {}\n", state(explanation));
    for warning in &explanation.warnings {
        // Writing to a String doesn't fail.
        let _ = writeln!(text, "  {MARGIN}warning{MARGIN:#}: {}", escaped(warning));
    }
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
    let OptedIn { from, opted_out, reverts, .. } = &explanation.opted_in;
    let Some(from) = from else {
        let why = if *opted_out { "opted out by annotation" } else { "not opted in" };
        return format!("{why}, its pods terminate without adieu");
    };
    let state = match explanation.state {
        InjectionState::Injected => "injected",
        InjectionState::Pending => "to be injected",
        InjectionState::Unsatisfiable => "can't be injected",
        InjectionState::PodInjection => "its pods are injected when they are created",
        InjectionState::Reverted => "the injection is reverted",
        InjectionState::Unmanaged => "not managed",
    };
    let pending = match explanation.pending.map(|pending| pending.timing) {
        None => "",
        Some(RolloutTiming::Immediate) => "; its template is written immediately",
        Some(RolloutTiming::Queued) => "; its template is written when the scheduler grants a slot",
        Some(RolloutTiming::NextUpdate) => "; its template is written with its next update",
        Some(RolloutTiming::DryRun) => "; its policy only audits, so nothing is written",
    };
    let reverts = if *reverts { ", reverting" } else { "" };
    format!("opted in by {from}{reverts}; {state}{pending}")
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
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use kube::core::DynamicObject;
    use serde_json::json;

    use super::*;
    use crate::{
        api::{GracefulPolicy, OutcomeCounts},
        cli::explain::timeline::{
            self,
            tests::{exposure, observed},
        },
        plan::{Kind, NamespaceContext},
    };

    #[test]
    fn the_text_shows_settings_and_the_timeline() {
        let policy: GracefulPolicy = serde_json::from_value(json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "checkout"},
            "spec": {"selector": {}, "drainSeconds": 20},
        }))
        .unwrap();
        let context = NamespaceContext { policies: vec![Arc::new(policy)], ..NamespaceContext::default() };
        let object: DynamicObject = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "annotations": BTreeMap::from([("adieu.dev/margin-seconds", "10")])},
            "spec": {"template": {"spec": {"containers": [{"name": "web"}]}}},
        }))
        .unwrap();
        let text = explained(&Explained::of(Kind::Deployment, "shop", &object, &context, &[]));
        let text = anstream::adapter::strip_str(&text).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "Deployment shop/web: opted in by policy checkout; to be injected; its template is written when the scheduler \
             grants a slot"
        );
        for expected in [
            "  drainSeconds                20       policy checkout  10 (default)",
            "  marginSeconds               10       annotation       5 (default)",
            "  recommendationBounds        -        default",
            "  █    0 to   20  drain: preStop hooks, requests still arrive",
            "  █   20 to   50  shutdown: SIGTERM, requests in progress are completed",
            "  █   50 to   60  margin, then SIGKILL",
            "  container web: SIGTERM after 20 s",
        ] {
            let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(lines.iter().any(|line| squeezed(line) == squeezed(expected)), "{expected}: {text}");
        }
        let bar = lines.iter().find(|line| line.contains("██") && line.contains("pod")).unwrap();
        assert_eq!(bar.chars().filter(|character| *character == '█').count(), WIDTH);
    }

    #[test]
    fn observed_terminations_are_drawn_on_the_same_scale() {
        let status = TerminationProfileStatus {
            observed_since: "2026-01-31T12:00:00Z".into(),
            last_termination_time: "2026-01-31T13:00:00Z".into(),
            outcomes: OutcomeCounts { completed: 293, killed: 7, ..OutcomeCounts::default() },
            problem: Some("too slow, killed (7 of 214)".into()),
            ..observed()
        };
        let with_termination = timeline::tests::termination();
        let timelines = Timelines::of(&with_termination, Some(&status), &[]);
        let text = termination(&with_termination, &timelines) + &observations(&status, timelines.ends);
        let text = anstream::adapter::strip_str(&text).to_string();
        for expected in [
            "Observed since 2026-01-31T12:00:00Z: 300 terminations (293 completed, 7 killed), the last at 2026-01-31T13:00:00Z",
            "ended after 13 s (p50, ●), 19 s (p99, ◆), 22 s (max, ▲)",
            "no EndpointSlice had the pod as ready after 0 s (p50), 2 s (p99), 2 s (max)",
            "problem: too slow, killed (7 of 214)",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        let row = text.lines().find(|line| line.trim_start().starts_with("observed ")).unwrap();
        let column = |mark: char| row.chars().position(|character| character == mark).unwrap() - 12;
        // A second of 45 is 1.42 columns of 64.
        assert_eq!(['●', '◆', '▲'].map(column), [18, 27, 31], "{text}");
    }

    #[test]
    fn each_exposure_is_in_the_table_and_has_a_row_on_the_same_scale() {
        let exposures = [exposure("cluster-ip", 10), exposure("ingress-nginx", 30)];
        let with_termination = timeline::tests::termination();
        let timelines = Timelines::of(&with_termination, None, &exposures);
        let text = exposed(&exposures) + &termination(&with_termination, &timelines);
        let text = anstream::adapter::strip_str(&text).to_string();
        let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        for expected in [
            "EXPOSURE OBJECT NEEDED DRAIN REASON",
            "ingress-nginx Service shop/web 30 s it was measured (a test)",
            "█ 0 to 10 cluster-ip: requests still arrive",
            "█ 10 to 30 ingress-nginx: requests still arrive after SIGTERM, the drain is too short",
        ] {
            assert!(text.lines().any(|line| squeezed(line) == expected), "{expected}: {text}");
        }
        // Columns of 64 for 10, 30 and 45 of 45 s.
        for (name, columns) in [("network: cluster-ip", 14), ("network: ingress-nginx", 42), ("pod", 64)] {
            let row = text.lines().find(|line| line.trim_start().starts_with(&format!("{name} "))).unwrap();
            assert_eq!(row.matches('█').count(), columns, "{text}");
        }
    }

    #[test]
    fn a_workload_that_is_not_opted_in_has_no_settings() {
        let object: DynamicObject = serde_json::from_value(json!({
            "metadata": {"name": "web\u{1b}[31m", "namespace": "shop"},
            "spec": {"template": {"spec": {"containers": [{"name": "web"}]}}},
        }))
        .unwrap();
        let text =
            explained(&Explained::of(Kind::Deployment, "shop", &object, &NamespaceContext::default(), &[]));
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(text.contains("not opted in, its pods terminate without adieu"), "{text}");
        assert!(!text.contains("SETTING") && !text.contains('\u{1b}'), "{text}");
    }
}
