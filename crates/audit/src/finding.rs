//! Findings, and their counts.

use serde::Serialize;

use crate::rule::Rule;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something may go wrong, or makes terminations worse than they could be.
    Warning,
    /// Requests are lost, or a container is killed, with near certainty in an ordinary rollout or node drain.
    Error,
}

impl Severity {
    /// Its name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What is wrong with a workload, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule that found it.
    pub rule: Rule,
    /// How bad it is.
    pub severity: Severity,
    /// The kind of the workload.
    pub kind: String,
    /// The namespace of the workload.
    pub namespace: String,
    /// The name of the workload.
    pub name: String,
    /// The container, if the finding is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The path of the field that is wrong or missing.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// The caller's number of the object.
    #[serde(skip)]
    pub origin: usize,
}

impl Finding {
    pub(crate) fn order(&self) -> (&str, &str, &str, Rule, &str) {
        (&self.namespace, &self.kind, &self.name, self.rule, &self.path)
    }
}

/// All findings.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The findings, in a stable order.
    pub findings: Vec<Finding>,
    /// The number of audited workloads.
    pub workloads: usize,
    /// The number of findings that an annotation suppresses.
    pub suppressed: usize,
    /// Problems of annotations that are to suppress findings.
    pub warnings: Vec<String>,
}

/// The counts of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Audited workloads.
    pub workloads: usize,
    /// Workloads with a finding.
    pub with_findings: usize,
    /// Findings with the severity `error`.
    pub errors: usize,
    /// Findings with the severity `warning`.
    pub warnings: usize,
    /// Findings that an annotation suppresses.
    pub suppressed: usize,
}

impl Report {
    /// The counts.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        let of = |finding: &Finding| (finding.namespace.clone(), finding.kind.clone(), finding.name.clone());
        let mut workloads: Vec<_> = self.findings.iter().map(of).collect();
        workloads.dedup();
        Summary {
            workloads: self.workloads,
            with_findings: workloads.len(),
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            suppressed: self.suppressed,
        }
    }

    /// The worst severity, if there is a finding.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}
