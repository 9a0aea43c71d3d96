//! Opts out workloads of a cluster: select, confirm, write, wait, report.

use std::{collections::BTreeSet, process::ExitCode};

use anyhow::Context as _;
use kube::Client;
use tokio_util::sync::CancellationToken;

use super::{
    arguments::ClusterArguments,
    outcome::{Outcome, ProgressReporter, Report, describe_plan, workloads},
    rollouts::{self, RolloutLimits},
    select::{Selected, Selection, opted_in_again, select},
    target::{Action, Target},
};
use crate::{
    cli::{
        confirm::{check_terminal, confirm},
        connection::connect_with_cluster_name,
        exit::INTERRUPTED,
        interruptible::interrupted,
        manifests::warn,
        print::{self, causes},
    },
    text::counted,
};

/// How often the selection is checked at the end: while it runs, workloads may be created, and GitOps tools may opt some in
/// again. Those that are after the last time are reported.
const REPETITIONS: [bool; 2] = [false, true];
/// The maximum number of namespaces in the question.
const MAX_NAMED: usize = 5;

pub(super) fn run(arguments: &ClusterArguments, json: bool) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the asynchronous runtime")?;
    let outcome = runtime.block_on(opt_out(arguments, json));
    // A prompt without an answer must not block the exit.
    runtime.shutdown_background();
    outcome
}

async fn opt_out(arguments: &ClusterArguments, json: bool) -> anyhow::Result<ExitCode> {
    let bulk = arguments.workload.0.is_none();
    let needs_confirmation = bulk && !arguments.yes && !arguments.dry_run;
    if needs_confirmation {
        check_terminal("opting out all selected workloads")?;
    }
    let (client, cluster) = connect_with_cluster_name().await?;
    let namespace = arguments.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let selection = Selection {
        workload: arguments.workload.0.clone(),
        namespace: (!arguments.all_namespaces).then_some(namespace),
        labels: arguments.selector.clone(),
    };
    let interrupted = interrupted();
    let selected = interrupted.run_until_cancelled(select(&client, &selection)).await;
    let Some(selected) = selected else { return Ok(ExitCode::from(INTERRUPTED)) };
    let Selected { targets, matched, warnings } = selected?;
    for warning in warnings {
        warn(&warning);
    }
    if arguments.dry_run {
        return list(&targets, &selection.nothing_to_do(matched), json).map(|()| ExitCode::SUCCESS);
    }
    if needs_confirmation
        && targets.iter().any(|target| !matches!(target.action, Action::Skip(_) | Action::Wait))
    {
        let intention = intention(&targets, &cluster, arguments.max_concurrent.get());
        let Some(answer) = interrupted.run_until_cancelled(confirm(intention)).await else {
            return Ok(ExitCode::from(INTERRUPTED));
        };
        answer?;
    }
    let nothing_to_do = targets.is_empty().then(|| selection.nothing_to_do(matched));
    let reporter = ProgressReporter::new(targets.len(), !json);
    let limits = RolloutLimits {
        max_concurrent: arguments.max_concurrent.get(),
        progress_deadline: arguments.timeout,
    };
    let run = Run {
        client: &client,
        selection: &selection,
        limits,
        interrupted: &interrupted,
        reporter: &reporter,
    };
    let (count, done) = run.opt_out(targets).await;
    drop(reporter);
    let report = Report::new(count, done, interrupted.is_cancelled());
    let summary = nothing_to_do.unwrap_or_else(|| report.summary());
    print_report(&report, &summary, json)
}

/// A run over the selected workloads.
struct Run<'a> {
    client: &'a Client,
    selection: &'a Selection,
    limits: RolloutLimits,
    interrupted: &'a CancellationToken,
    reporter: &'a ProgressReporter,
}

impl Run<'_> {
    /// Opts out the targets, and then those that were created or opted in again meanwhile. Returns the number of all of
    /// them, and the outcomes of those that were started.
    async fn opt_out(&self, targets: Vec<Target>) -> (usize, Vec<(Target, Outcome)>) {
        let planned: BTreeSet<_> = targets.iter().map(Target::key).collect();
        let mut all = planned.clone();
        let mut done = self.opt_out_once(targets).await;
        for is_last in REPETITIONS {
            let again = opted_in_again(self.client, self.selection, &planned, &done);
            let again = match self.interrupted.run_until_cancelled(again).await.transpose() {
                Ok(again) => again.unwrap_or_default(),
                Err(error) => {
                    warn(&format!("workloads that were opted in again are unknown: {}", causes(&error)));
                    break;
                }
            };
            if again.is_empty() {
                break;
            }
            let keys: BTreeSet<_> = again.iter().map(Target::key).collect();
            done.retain(|(target, _)| !keys.contains(&target.key()));
            all.extend(keys);
            if is_last {
                done.extend(again.into_iter().map(|target| (target, Outcome::OptedInAgain)));
            } else {
                done.extend(self.opt_out_once(again).await);
            }
        }
        (all.len(), done)
    }

    async fn opt_out_once(&self, targets: Vec<Target>) -> Vec<(Target, Outcome)> {
        let report = |target: &Target, step: &super::outcome::Step<'_>| self.reporter.report(target, step);
        rollouts::opt_out(self.client, targets, self.limits, self.interrupted, report).await
    }
}

/// The action to confirm.
fn intention(targets: &[Target], cluster: &str, max_concurrent: usize) -> String {
    let out: Vec<_> =
        targets.iter().filter(|target| matches!(target.action, Action::Restore | Action::Annotate)).collect();
    let rolling = out.iter().filter(|target| target.action == Action::Restore).count();
    let namespaces: BTreeSet<_> = out.iter().map(|target| target.namespace.as_str()).collect();
    let mut named: Vec<_> = namespaces.iter().take(MAX_NAMED).copied().collect();
    if namespaces.len() > MAX_NAMED {
        named.push("…");
    }
    format!(
        "opt {} out of adieu, {rolling} of them with a rollout, {max_concurrent} at a time, in {} ({}) of {cluster}",
        workloads(out.len()),
        counted(namespaces.len(), "namespace"),
        named.join(", ")
    )
}

fn list(targets: &[Target], nothing_to_do: &str, json: bool) -> anyhow::Result<()> {
    let text = if json {
        let lines: Vec<_> = targets
            .iter()
            .map(|target| {
                serde_json::json!({
                    "kind": target.kind.as_str(), "namespace": target.namespace, "name": target.name,
                    "rollsOut": target.action == Action::Restore, "plan": describe_plan(target),
                })
            })
            .collect();
        print::json(&lines)?
    } else if targets.is_empty() {
        nothing_to_do.to_owned() + "\n"
    } else {
        targets.iter().map(|target| describe_plan(target) + "\n").collect()
    };
    print::output(&text)
}

fn print_report(report: &Report, summary: &str, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        print::output(&print::json(report)?)?;
    }
    if report.complete && !json {
        print::output(&format!("{summary}\n"))?;
    } else if !report.complete {
        print::to_stderr(format!("adieu: {summary}"));
    }
    Ok(match report {
        Report { complete: true, .. } => ExitCode::SUCCESS,
        Report { interrupted: true, .. } => ExitCode::from(INTERRUPTED),
        _ => ExitCode::FAILURE,
    })
}
