//! Why a workload keeps its injection.

use std::fmt;

use serde::{Serialize, Serializer};

/// Why `adieu revert` cannot restore a workload's pod template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SkipReason {
    /// Its record cannot be read.
    UnreadableRecord,
    /// It takes too much memory.
    TooLarge,
    /// Another object controls it, and would revert a change.
    Controlled { kind: String, name: String },
}

impl SkipReason {
    pub(super) fn controlled(kind: &str, name: &str) -> Self {
        // The API server accepts any text here, including terminal escapes.
        let shown = |text: &str| text.chars().filter(|c| !c.is_control()).take(253).collect::<String>();
        Self::Controlled { kind: shown(kind), name: shown(name) }
    }

    /// What so many workloads have in common, for a summary.
    pub(super) fn summary(&self) -> &'static str {
        match self {
            Self::UnreadableRecord => "with an unreadable record",
            Self::TooLarge => "too large",
            Self::Controlled { .. } => "controlled by another object",
        }
    }
}

/// The reason, with the remedy.
impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnreadableRecord => f.write_str(
                "its annotation adieu.dev/injected, in spec.template.metadata.annotations, cannot be read: it was \
                 edited manually, or written by another version of adieu. Manually remove it, and the preStop hooks \
                 and readiness probes that adieu injected",
            ),
            Self::TooLarge => f.write_str(
                "it is too large to be read. Make it smaller, or annotate it adieu.dev/graceful: \"false\" while adieu runs",
            ),
            Self::Controlled { kind, name } => write!(
                f,
                "{kind} {name} controls it and would revert a change of its pod template: opt out the object that it \
                 is copied from"
            ),
        }
    }
}

impl Serialize for SkipReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
