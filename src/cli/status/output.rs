//! The status of workloads as a table, and as JSON.

use comfy_table::{ColumnConstraint, Table, presets};
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    report::{Report, WorkloadRow},
    terminations::LastTermination,
};
use crate::{
    cli::{manifests::escaped, print},
    text::counted,
};

const COLUMNS: [&str; 9] = [
    "NAMESPACE",
    "WORKLOAD",
    "MANAGED BY",
    "STATE",
    "DRAIN",
    "SHUTDOWN",
    "GRACE PERIOD",
    "LAST TERMINATION",
    "REASON",
];
/// The position of the last termination.
const LAST_TERMINATION: usize = 7;

/// The workloads, and the number of others.
pub(super) fn table(report: &Report, now: Timestamp) -> String {
    let mut text = String::new();
    if !report.rows.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(COLUMNS);
        for row in &report.rows {
            table.add_row(cells(row, now));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        if let Some(column) = table.column_mut(LAST_TERMINATION).filter(|_| !report.has_terminations) {
            column.set_constraint(ColumnConstraint::Hidden);
        }
        text = table.trim_fmt() + "\n";
    }
    let listed = report.rows.iter().filter(|row| !row.status.is_managed()).count();
    match report.not_managed - listed {
        0 if report.rows.is_empty() => text + "There are no workloads.\n",
        0 => text,
        others if report.rows.is_empty() => {
            let workloads = counted(others, "workload");
            format!("No workload is managed; --all lists {workloads} that are not.\n")
        }
        1 => text + "... and 1 that is not managed\n",
        others => format!("{text}... and {others} that are not managed\n"),
    }
}

fn cells(row: &WorkloadRow, now: Timestamp) -> [String; 9] {
    let WorkloadRow { kind, namespace, name, status, last_termination } = row;
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let seconds = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds} s"));
    let reason = status.reason.as_ref().or(status.warnings.first());
    [
        namespace.clone(),
        format!("{kind}/{name}"),
        or_dash(status.managed_by.join(", ")),
        format!("{:?}", status.state),
        seconds(status.drain_seconds),
        seconds(status.shutdown_timeout_seconds),
        seconds(status.grace_period_seconds),
        last_termination.as_ref().map_or_else(|| "-".to_owned(), |last| termination(last, now)),
        reason.cloned().unwrap_or_default(),
    ]
    .map(|cell| escaped(&cell).into_owned())
}

/// The outcome of a termination, and how long ago it ended.
fn termination(last: &LastTermination, now: Timestamp) -> String {
    let LastTermination { outcome, time } = last;
    match time.parse::<Timestamp>() {
        Ok(time) => format!("{outcome:?} {} ago", age(now.as_second() - time.as_second())),
        Err(_) => format!("{outcome:?}"),
    }
}

/// Seconds in the largest unit that they fill.
fn age(seconds: i64) -> String {
    let units = [(24 * 60 * 60, 'd'), (60 * 60, 'h'), (60, 'm'), (1, 's')];
    let (length, unit) = units.into_iter().find(|(length, _)| seconds >= *length).unwrap_or((1, 's'));
    format!("{}{unit}", seconds.max(0) / length)
}

#[derive(Serialize)]
struct Json<'a> {
    workloads: &'a [WorkloadRow],
    summary: Summary,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    managed: usize,
    not_managed: usize,
    /// The managed workloads by state.
    states: Map<String, Value>,
    /// Whether everything could be read.
    complete: bool,
}

pub(super) fn json(report: &Report) -> anyhow::Result<String> {
    let mut states = Map::new();
    let managed: Vec<_> = report.rows.iter().filter(|row| row.status.is_managed()).collect();
    for row in &managed {
        let count = states.entry(format!("{:?}", row.status.state)).or_insert(Value::Null);
        *count = (count.as_u64().unwrap_or(0) + 1).into();
    }
    let summary = Summary {
        managed: managed.len(),
        not_managed: report.not_managed,
        states,
        complete: report.is_complete,
    };
    print::json(&Json { workloads: &report.rows, summary })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::TerminationOutcome,
        plan::{Kind, ManagementState, WorkloadStatus},
    };

    fn row(name: &str, state: ManagementState, reason: Option<&str>) -> WorkloadRow {
        let mut status = WorkloadStatus::without_values(state, reason.map(str::to_owned));
        if !matches!(state, ManagementState::NotManaged | ManagementState::OptedOut) {
            status.managed_by = vec!["annotation".into(), "GracefulPolicy/checkout".into()];
            status.drain_seconds = Some(10);
            status.warnings = vec!["a warning".into()];
        }
        let (namespace, name) = ("shop".to_owned(), name.to_owned());
        WorkloadRow { kind: Kind::Deployment, namespace, name, status, last_termination: None }
    }

    fn now() -> Timestamp {
        "2026-01-31T12:03:59Z".parse().unwrap()
    }

    fn report(rows: Vec<WorkloadRow>, not_managed: usize) -> Report {
        Report { rows, not_managed, is_complete: true, has_terminations: false }
    }

    #[test]
    fn the_table_is_aligned_and_counts_workloads_that_are_not_managed() {
        let rows = vec![
            row("web", ManagementState::Injected, None),
            row("api", ManagementState::NotInjected, Some("too\u{1b}[2J long")),
            row("batch-worker", ManagementState::OptedOut, None),
        ];
        let text = table(&report(rows, 12), now());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "NAMESPACE  WORKLOAD                 MANAGED BY                           STATE        DRAIN  SHUTDOWN  GRACE PERIOD  REASON",
                "shop       Deployment/web           annotation, GracefulPolicy/checkout  Injected     10 s   -         -             a warning",
                "shop       Deployment/api           annotation, GracefulPolicy/checkout  NotInjected  10 s   -         -             too\\u{1b}[2J long",
                "shop       Deployment/batch-worker  -                                    OptedOut     -      -         -",
                "... and 12 that are not managed",
            ]
        );
    }

    #[test]
    fn the_last_termination_is_shown_if_profiles_can_be_read() {
        let mut web = row("web", ManagementState::Injected, Some("a reason"));
        let (outcome, time) = (TerminationOutcome::Killed, "2026-01-31T12:00:00Z".to_owned());
        web.last_termination = Some(LastTermination { outcome, time });
        let rows = vec![web, row("api", ManagementState::Injected, None)];
        let report = Report { has_terminations: true, ..report(rows, 0) };
        let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<_> = table(&report, now()).lines().map(squeezed).collect();
        assert_eq!(
            lines,
            [
                "NAMESPACE WORKLOAD MANAGED BY STATE DRAIN SHUTDOWN GRACE PERIOD LAST TERMINATION REASON",
                "shop Deployment/web annotation, GracefulPolicy/checkout Injected 10 s - - Killed 3m ago a reason",
                "shop Deployment/api annotation, GracefulPolicy/checkout Injected 10 s - - - a warning",
            ]
        );
        let json: Value = serde_json::from_str(&json(&report).unwrap()).unwrap();
        let last = json!({"outcome": "Killed", "time": "2026-01-31T12:00:00Z"});
        assert_eq!(json["workloads"][0]["lastTermination"], last);
        assert!(json["workloads"][1].get("lastTermination").is_none());
    }

    #[test]
    fn the_age_of_a_termination_has_its_largest_unit() {
        for (seconds, expected) in [
            (-5, "0s"),
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m"),
            (7200, "2h"),
            (86_399, "23h"),
            (200_000, "2d"),
        ] {
            assert_eq!(age(seconds), expected);
        }
        let (outcome, time) = (TerminationOutcome::Killed, "unknown".to_owned());
        assert_eq!(termination(&LastTermination { outcome, time }, now()), "Killed");
    }

    #[test]
    fn a_report_without_managed_workloads_has_a_sentence() {
        assert_eq!(table(&report(vec![], 0), now()), "There are no workloads.\n");
        assert_eq!(
            table(&report(vec![], 2), now()),
            "No workload is managed; --all lists 2 workloads that are not.\n"
        );
        let listed = table(&report(vec![row("web", ManagementState::NotManaged, None)], 1), now());
        assert!(listed.contains("NotManaged") && !listed.contains("... and"), "{listed}");
    }

    #[test]
    fn json_has_workloads_and_a_summary_by_state() {
        let rows = vec![
            row("web", ManagementState::Injected, None),
            row("api", ManagementState::Injected, None),
            row("batch", ManagementState::OptedOut, None),
            row("cron", ManagementState::NotManaged, None),
        ];
        let json: Value = serde_json::from_str(&json(&report(rows, 1)).unwrap()).unwrap();
        assert_eq!(
            json["workloads"][0],
            json!({
                "kind": "Deployment", "namespace": "shop", "name": "web",
                "managedBy": ["annotation", "GracefulPolicy/checkout"],
                "drainSeconds": 10, "shutdownTimeoutSeconds": null, "gracePeriodSeconds": null,
                "state": "Injected", "reason": null, "warnings": ["a warning"],
            })
        );
        let states = json!({"Injected": 2, "OptedOut": 1});
        assert_eq!(
            json["summary"],
            json!({"managed": 3, "notManaged": 1, "states": states, "complete": true})
        );
    }
}
