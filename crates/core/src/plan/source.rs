//! The sources of settings, and their text.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{api::limits, text::truncate_bytes};

/// The source of a value.
///
/// Its text is stored in records, and a later version reads what an earlier one wrote. So the text is a stable format: a
/// text keeps its meaning, and a new source gets a new text. In ABNF, with the name of an object as `NAME`:
///
/// ```text
/// source         = setter / recommendation / auto / "default"
/// setter         = "annotation" / "template annotation" / policy / "command line"
/// policy         = ("policy " / "cluster policy ") NAME
/// recommendation = "recommendation, " policy
/// auto           = "Auto" [", " setter] [": " reason]
/// reason         = *VCHAR
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
    /// The exposures of the pods, because the drain is `Auto`.
    Auto {
        /// The source that sets it to `Auto`, which is the default.
        by: Box<Self>,
        /// The exposure that needs the drain: at most [`limits::SUMMARY_LENGTH`] bytes. `None` if no exposure is known.
        reason: Option<String>,
    },
    /// The command line: its arguments, or policies that are not in the cluster.
    CommandLine,
    /// A built-in default.
    Default,
}

impl Source {
    /// The exposures of the pods. A longer reason is cut.
    pub(super) fn auto(by: Self, reason: Option<String>) -> Self {
        let reason = reason.map(|mut reason| {
            truncate_bytes(&mut reason, limits::SUMMARY_LENGTH);
            reason
        });
        Self::Auto { by: Box::new(by), reason }
    }

    /// The source that sets the value, or that sets it to `Auto`.
    #[must_use]
    pub fn setter(&self) -> &Self {
        match self {
            Self::Auto { by, .. } => by.as_ref(),
            other => other,
        }
    }

    /// Whether a drain of this source follows from the exposures of the pods, as far as they are known. It does by default.
    #[must_use]
    pub fn is_automatic(&self) -> bool {
        matches!(self, Self::Auto { .. } | Self::Default)
    }

    /// Whether it is an annotation.
    #[must_use]
    pub fn is_annotation(&self) -> bool {
        matches!(self.setter(), Self::WorkloadAnnotation | Self::TemplateAnnotation)
    }

    /// Whether it is a policy, of a namespace or of the cluster.
    #[must_use]
    pub fn is_policy(&self) -> bool {
        matches!(self, Self::Policy(_) | Self::ClusterPolicy(_))
    }

    /// The policy that sets the value, or applies the recommendation that does.
    #[must_use]
    pub fn policy(&self) -> Option<&Self> {
        match self.setter() {
            policy @ (Self::Policy(_) | Self::ClusterPolicy(_)) => Some(policy),
            Self::Recommendation(policy) => Some(policy),
            _ => None,
        }
    }

    /// The source of this text, if it is one that a user or the command line sets.
    fn set_by(text: &str) -> Option<Self> {
        match text {
            "annotation" => Some(Self::WorkloadAnnotation),
            "template annotation" => Some(Self::TemplateAnnotation),
            "command line" => Some(Self::CommandLine),
            text => Self::policy_of(text),
        }
    }

    /// The recommendation of this text.
    fn recommendation_of(text: &str) -> Option<Self> {
        let policy = Self::policy_of(text.strip_prefix(RECOMMENDATION)?)?;
        Some(Self::Recommendation(Box::new(policy)))
    }

    /// The automatic drain of this text: `Auto`, then `, ` and what sets it unless it is the default, then `: ` and a reason.
    fn auto_of(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(AUTO)?;
        let (by, reason) = rest.split_once(": ").map_or((rest, None), |(by, reason)| (by, Some(reason)));
        let by = match by.strip_prefix(", ") {
            Some(by) => Self::set_by(by).unwrap_or(Self::Default),
            None if by.is_empty() => Self::Default,
            None => return None,
        };
        Some(Self::auto(by, reason.map(str::to_owned)))
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
/// The start of the text of a [`Source::Auto`].
const AUTO: &str = "Auto";

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkloadAnnotation => f.write_str("annotation"),
            Self::TemplateAnnotation => f.write_str("template annotation"),
            Self::Policy(name) => write!(f, "policy {name}"),
            Self::ClusterPolicy(name) => write!(f, "cluster policy {name}"),
            Self::Recommendation(policy) => write!(f, "{RECOMMENDATION}{policy}"),
            Self::Auto { by, reason } => {
                f.write_str(AUTO)?;
                if **by != Self::Default {
                    write!(f, ", {by}")?;
                }
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
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
        let text = text.as_str();
        let found = Self::set_by(text).or_else(|| Self::recommendation_of(text));
        found.or_else(|| Self::auto_of(text)).unwrap_or(Self::Default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_round_trips_through_its_text() {
        let policy = || Source::Policy("checkout".into());
        let cluster_policy = || Source::ClusterPolicy("defaults".into());
        let reason = || Some("Ingress shop/web (class alb) needs 300 s (built in)".to_owned());
        // Records of earlier versions have these texts.
        for (text, source) in [
            ("annotation", Source::WorkloadAnnotation),
            ("template annotation", Source::TemplateAnnotation),
            ("policy checkout", policy()),
            ("cluster policy defaults", cluster_policy()),
            ("recommendation, policy checkout", Source::Recommendation(Box::new(policy()))),
            ("recommendation, cluster policy defaults", Source::Recommendation(Box::new(cluster_policy()))),
            ("Auto", Source::auto(Source::Default, None)),
            (
                "Auto: Ingress shop/web (class alb) needs 300 s (built in)",
                Source::auto(Source::Default, reason()),
            ),
            ("Auto, annotation", Source::auto(Source::WorkloadAnnotation, None)),
            (
                "Auto, cluster policy defaults: Ingress shop/web (class alb) needs 300 s (built in)",
                Source::auto(cluster_policy(), reason()),
            ),
            ("Auto, command line: a: b", Source::auto(Source::CommandLine, Some("a: b".into()))),
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
                | Source::Auto { .. }
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
        assert_eq!(Source::from("Auto, ".repeat(10_000)), Source::auto(Source::Default, None));
        assert_eq!(Source::from("Automatic".to_owned()), Source::Default);
    }

    #[test]
    fn an_automatic_drain_belongs_to_what_sets_it() {
        let of_policy = Source::auto(Source::Policy("web".into()), None);
        assert_eq!(of_policy.policy(), Some(&Source::Policy("web".into())));
        assert!(!of_policy.is_policy() && of_policy.is_automatic());
        let of_annotation = Source::auto(Source::TemplateAnnotation, None);
        assert!(of_annotation.is_annotation() && of_annotation.policy().is_none());
        assert!(Source::Default.is_automatic() && !Source::Policy("web".into()).is_automatic());
        let Source::Auto { reason, .. } = Source::auto(Source::Default, Some("a".repeat(1000))) else {
            unreachable!()
        };
        assert!(reason.is_some_and(|reason| reason.len() <= limits::SUMMARY_LENGTH));
    }
}
