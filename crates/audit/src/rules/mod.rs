//! What each rule finds.

mod budgets;
mod hooks;
mod jobs;
mod processes;
mod readiness;
mod rollouts;
mod times;
mod traffic;

use crate::{Finding, subject::Subject};

/// The findings of all rules about a workload.
pub(crate) fn findings(subject: &Subject<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    // None of its pods terminates.
    if subject.is_scaled_to_zero() {
        return findings;
    }
    findings.extend(hooks::no_prestop_behind_service(subject));
    findings.extend(hooks::prestop_needs_binary(subject));
    findings.extend(hooks::legacy_sidecar_without_prestop(subject));
    findings.extend(times::grace_too_short(subject));
    findings.extend(times::grace_over_limit(subject));
    findings.extend(times::native_sidecar_starved(subject));
    findings.extend(times::liveness_kills_during_drain(subject));
    findings.extend(readiness::no_readiness_behind_service(subject));
    findings.extend(readiness::readiness_fails_first_single_replica(subject));
    findings.extend(readiness::exec_readiness_frozen(subject));
    findings.extend(rollouts::single_replica_recreate(subject));
    findings.extend(rollouts::host_network_port_conflict(subject));
    findings.extend(budgets::pdb_blocks_drain(subject));
    findings.extend(budgets::no_pdb(subject));
    findings.extend(budgets::two_pdbs(subject));
    findings.extend(processes::shell_as_pid_1(subject));
    findings.extend(traffic::drain_shorter_than_lb(subject));
    findings.extend(traffic::session_affinity_pins(subject));
    findings.extend(traffic::headless_dns_ttl(subject));
    findings.extend(traffic::hpa_scales_in_fast(subject));
    findings.extend(jobs::job_without_grace(subject));
    findings
}
