//! `adieu audit`: finds workloads whose terminations lose requests.

mod arguments;
mod audited;
mod cluster;
mod junit;
mod output;
mod sarif;

use std::process::ExitCode;

use adieu_audit::{Finding, Inventory, Options, Severity, audit};

pub(super) use self::arguments::{Arguments, HELP};
use self::{
    arguments::{FailOn, Format},
    audited::Audited,
};
use super::{block_on::block_on, manifests, print};
use crate::kube_version::KubeVersion;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.rules {
        return print::coloured_output(&output::rules()).map(|()| ExitCode::SUCCESS);
    }
    let audited = if arguments.filename.is_empty() {
        let report = block_on(cluster::audit(arguments))?;
        Audited { locations: vec![None; report.findings.len()], report }
    } else {
        audit_manifests(arguments)?
    };
    audited.report.warnings.iter().for_each(|warning| manifests::warn(warning));
    let text = match arguments.output {
        Format::Table => output::table(&audited.report),
        Format::Json => output::json(&audited.report)?,
        Format::Sarif => sarif::text(&audited)?,
        Format::Junit => junit::text(&audited)?,
    };
    print::coloured_output(&text)?;
    let fails = match (arguments.fail_on, audited.report.worst()) {
        (None, _) | (_, None) => false,
        (Some(FailOn::Warning), Some(_)) => true,
        (Some(FailOn::Error), Some(worst)) => worst == Severity::Error,
    };
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn audit_manifests(arguments: &Arguments) -> anyhow::Result<Audited> {
    let namespace = arguments.namespace.as_deref().unwrap_or("default");
    let mut manifests = manifests::read(&arguments.filename, arguments.recursive)?;
    let set = manifests.set(namespace);
    let set = manifests::report(&mut manifests, set)?;
    let mut inventory = Inventory::new(namespace);
    let found: Vec<_> = manifests.found_objects().collect();
    for (origin, object) in found.iter().enumerate() {
        let added = inventory.add(origin, object.api_version(), object.kind(), object.value());
        // Manifests::set has warned of it.
        drop(added);
    }
    let version = arguments.kube_version.as_deref().map(str::parse::<KubeVersion>).transpose()?;
    let native_sleep = version.is_none_or(KubeVersion::has_native_sleep);
    inventory.inject(|namespace| set.namespace_context(namespace, native_sleep));
    let kubelets = arguments.kube_version.iter().cloned().collect();
    let report =
        audit(&inventory, &Options { limits: arguments.limits.clone(), kubelets, ..Options::default() });
    let location = |finding: &Finding| {
        let (file, line) = found.get(finding.origin)?.location(&finding.path);
        Some((file.to_owned(), line))
    };
    Ok(Audited { locations: report.findings.iter().map(location).collect(), report })
}
