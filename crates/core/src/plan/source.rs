//! The sources of settings, and their text.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::api::limits;

/// The source of a value.
///
/// Its text is stored in records, and a later version reads what an earlier one wrote. So the text is a stable format: a
/// text keeps its meaning, and a new source gets a new text. In ABNF, with the name of an object as `NAME`:
///
/// ```text
/// source         = "annotation" / "template annotation" / policy / recommendation / "command line" / "default"
/// policy         = ("policy " / "cluster policy ") NAME
/// recommendation = "recommendation, " policy
/// ```
///
/// Any other text is read as [`Self::Default`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum Source {
    /// An annotation on the workload.
    WorkloadAnnotation,
    /// An annotation on the pod template.
    TemplateAnnotation,
    /// The `GracefulPolicy` of that name.
    Policy(String),
    /// The `ClusterGracefulPolicy` of that name.
    ClusterPolicy(String),
    /// A recommendation that this policy applies.
    Recommendation(Box<Self>),
    /// The command line: its arguments, or policies that are not in the cluster.
    CommandLine,
    /// A built-in default.
    Default,
}

impl Source {
    /// Whether it is an annotation.
    #[must_use]
    pub fn is_annotation(&self) -> bool {
        matches!(self, Self::WorkloadAnnotation | Self::TemplateAnnotation)
    }

    /// Whether it is a policy, of a namespace or of the cluster.
    #[must_use]
    pub fn is_policy(&self) -> bool {
        matches!(self, Self::Policy(_) | Self::ClusterPolicy(_))
    }

    /// The policy that sets the value, or applies the recommendation that does.
    #[must_use]
    pub fn policy(&self) -> Option<&Self> {
        match self {
            Self::Policy(_) | Self::ClusterPolicy(_) => Some(self),
            Self::Recommendation(policy) => Some(policy),
            _ => None,
        }
    }

    /// The policy of this text. A name that can't be that of a policy is none.
    fn policy_of(text: &str) -> Option<Self> {
        let is_name = |name: &&str| name.len() <= limits::OBJECT_NAME_LENGTH;
        match text.strip_prefix("cluster policy ") {
            Some(name) => Some(name).filter(is_name).map(|name| Self::ClusterPolicy(name.to_owned())),
            None => text.strip_prefix("policy ").filter(is_name).map(|name| Self::Policy(name.to_owned())),
        }
    }
}

/// The start of the text of a [`Source::Recommendation`], before its policy.
const RECOMMENDATION: &str = "recommendation, ";

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkloadAnnotation => f.write_str("annotation"),
            Self::TemplateAnnotation => f.write_str("template annotation"),
            Self::Policy(name) => write!(f, "policy {name}"),
            Self::ClusterPolicy(name) => write!(f, "cluster policy {name}"),
            Self::Recommendation(policy) => write!(f, "{RECOMMENDATION}{policy}"),
            Self::CommandLine => f.write_str("command line"),
            Self::Default => f.write_str("default"),
        }
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

impl From<String> for Source {
    /// A source that this version doesn't know counts as a default, and so does one that can't be the name of a policy.
    fn from(text: String) -> Self {
        match text.as_str() {
            "annotation" => Self::WorkloadAnnotation,
            "template annotation" => Self::TemplateAnnotation,
            "command line" => Self::CommandLine,
            text => match text.strip_prefix(RECOMMENDATION) {
                Some(policy) => Self::policy_of(policy).map(|policy| Self::Recommendation(Box::new(policy))),
                None => Self::policy_of(text),
            }
            .unwrap_or(Self::Default),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_round_trips_through_its_text() {
        let (policy, cluster_policy) =
            (Source::Policy("checkout".into()), Source::ClusterPolicy("defaults".into()));
        // Records of earlier versions have these texts.
        for (text, source) in [
            ("annotation", Source::WorkloadAnnotation),
            ("template annotation", Source::TemplateAnnotation),
            ("policy checkout", policy.clone()),
            ("cluster policy defaults", cluster_policy.clone()),
            ("recommendation, policy checkout", Source::Recommendation(Box::new(policy))),
            ("recommendation, cluster policy defaults", Source::Recommendation(Box::new(cluster_policy))),
            ("command line", Source::CommandLine),
            ("default", Source::Default),
        ] {
            // A new source needs a line above.
            match &source {
                Source::WorkloadAnnotation
                | Source::TemplateAnnotation
                | Source::Policy(_)
                | Source::ClusterPolicy(_)
                | Source::Recommendation(_)
                | Source::CommandLine
                | Source::Default => {}
            }
            assert_eq!(String::from(source.clone()), text);
            assert_eq!(Source::from(text.to_owned()), source);
        }
        assert_eq!(Source::from("a source of a later version".to_owned()), Source::Default);
        assert_eq!(Source::from(format!("policy {}", "a".repeat(254))), Source::Default);
        assert_eq!(Source::from(format!("cluster policy {}", "a".repeat(254))), Source::Default);
        assert_eq!(Source::from("recommendation, ".repeat(10_000)), Source::Default, "without recursion");
    }
}
