//! `adieu diff`: what applying manifests would change in what is injected.

mod arguments;
mod cluster;
mod compared_workload;
mod text;

use std::process::ExitCode;

use serde::Serialize;

pub(super) use self::arguments::{Arguments, HELP};
use self::{arguments::Format, compared_workload::ComparedWorkload};
use super::{block_on::block_on, connection::connect, manifests::warn, print};

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let compared = block_on(async {
        let client = connect().await?;
        cluster::compare(&client, arguments).await
    })?;
    let text = match arguments.output {
        Format::Text => {
            if compared.is_empty() {
                print::to_stderr("adieu: no Deployment, StatefulSet or DaemonSet is in the input");
            }
            compared.iter().flat_map(text::warnings).for_each(|warning| warn(&warning));
            compared.iter().map(text::line).collect()
        }
        Format::Json => json(&compared)?,
    };
    print::output(&text)?;
    let changes = compared.iter().any(|workload| workload.diff.is_change());
    Ok(if changes { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[derive(Serialize)]
struct Json<'a> {
    workloads: &'a [ComparedWorkload],
    summary: Summary,
}

#[derive(Serialize)]
struct Summary {
    changed: usize,
    unchanged: usize,
}

fn json(compared: &[ComparedWorkload]) -> anyhow::Result<String> {
    let changed = compared.iter().filter(|workload| workload.diff.is_change()).count();
    let summary = Summary { changed, unchanged: compared.len() - changed };
    print::json(&Json { workloads: compared, summary })
}
