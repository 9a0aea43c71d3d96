//! An explanation as text.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use super::Explained;
use crate::{
    cli::manifests::escaped,
    plan::{ExplainedSetting, Explanation, InjectionState, OptedIn, RolloutTiming, Termination},
};

/// The columns of the timeline.
const WIDTH: usize = 72;

const DRAIN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Cyan)));
const SHUTDOWN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));
const MARGIN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));
const BOLD: Style = Style::new().bold();

/// A workload, its settings and the termination of its pods.
pub(super) fn explained(explained: &Explained) -> String {
    let Explained { kind, namespace, name, explanation } = explained;
    let title = escaped(&format!("{kind} {namespace}/{name}")).into_owned();
    let mut text = format!("{BOLD}{title}{BOLD:#}: {}\n", state(explanation));
    for warning in &explanation.warnings {
        // Writing to a String doesn't fail.
        let _ = writeln!(text, "  {MARGIN}warning{MARGIN:#}: {}", escaped(warning));
    }
    text += &settings(&explanation.settings);
    text += &termination(&explanation.termination);
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
        .map(|cell| escaped(&cell).into_owned())
    };
    let rows: Vec<_> = settings.iter().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let header = ["SETTING", "VALUE", "FROM", "INSTEAD OF"].map(str::to_owned);
    let widths: Vec<_> = (0..3)
        .map(|column| {
            let cells = std::iter::once(&header).chain(&rows).map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        })
        .collect();
    let mut text = String::from("\n");
    for [field, value, from, lost] in std::iter::once(&header).chain(&rows) {
        let line = format!("  {field:<0$}  {value:<1$}  {from:<2$}  {lost}", widths[0], widths[1], widths[2]);
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
        other => other.to_string(),
    }
}

/// The timeline of a pod's termination, to scale, and what happens to each container.
fn termination(termination: &Termination) -> String {
    let grace = termination.grace_period_seconds.max(1);
    let drain = termination.drain_seconds().min(grace);
    let shutdown =
        termination.shutdown_timeout_seconds.map_or(grace, |seconds| drain.saturating_add(seconds));
    let shutdown = shutdown.min(grace);
    let mut text = String::from("\n  Termination of a pod, in seconds\n");
    let phases = [
        (0, drain, DRAIN, "drain: preStop hooks, requests still arrive"),
        (drain, shutdown, SHUTDOWN, "shutdown: SIGTERM, requests in progress are completed"),
        (shutdown, grace, MARGIN, "margin, then SIGKILL"),
    ];
    let column = |seconds: i64| {
        let width = i64::try_from(WIDTH).unwrap_or(i64::MAX);
        usize::try_from(seconds.saturating_mul(width) / grace).unwrap_or(WIDTH).min(WIDTH)
    };
    text += "  ";
    for (from, to, style, _) in &phases {
        let _ = write!(text, "{style}{}{style:#}", "█".repeat(column(*to) - column(*from)));
    }
    text.push('\n');
    for (from, to, style, what) in phases.iter().filter(|(from, to, ..)| to > from) {
        let _ = writeln!(text, "  {style}█{style:#} {from:>4} to {to:>4}  {what}");
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use kube::core::DynamicObject;
    use serde_json::json;

    use super::*;
    use crate::{
        api::GracefulPolicy,
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
        let text = explained(&Explained::of(Kind::Deployment, "shop", &object, &context));
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
            "  █    0 to   20  drain: preStop hooks, requests still arrive",
            "  █   20 to   50  shutdown: SIGTERM, requests in progress are completed",
            "  █   50 to   60  margin, then SIGKILL",
            "  container web: SIGTERM after 20 s",
        ] {
            let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(lines.iter().any(|line| squeezed(line) == squeezed(expected)), "{expected}: {text}");
        }
        let bar = lines.iter().find(|line| line.contains("██")).unwrap().trim();
        assert_eq!(bar.chars().count(), WIDTH);
    }

    #[test]
    fn a_workload_that_is_not_opted_in_has_no_settings() {
        let object: DynamicObject = serde_json::from_value(json!({
            "metadata": {"name": "web\u{1b}[31m", "namespace": "shop"},
            "spec": {"template": {"spec": {"containers": [{"name": "web"}]}}},
        }))
        .unwrap();
        let text = explained(&Explained::of(Kind::Deployment, "shop", &object, &NamespaceContext::default()));
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(text.contains("not opted in, its pods terminate without adieu"), "{text}");
        assert!(!text.contains("SETTING") && !text.contains('\u{1b}'), "{text}");
    }
}
