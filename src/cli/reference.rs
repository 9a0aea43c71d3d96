//! Parses KIND/NAME like kubectl.

use std::str::FromStr;

use crate::plan::Kind;

/// A workload by its kind and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) kind: Kind,
    pub(super) name: String,
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text
            .split_once('/')
            .filter(|(_, name)| !name.is_empty() && !name.contains('/'))
            .ok_or("use KIND/NAME, such as deployment/web")?;
        let known = match kind.to_ascii_lowercase().trim_end_matches(".apps").trim_end_matches(".v1") {
            "deployment" | "deployments" | "deploy" => Kind::Deployment,
            "statefulset" | "statefulsets" | "sts" => Kind::StatefulSet,
            "daemonset" | "daemonsets" | "ds" => Kind::DaemonSet,
            _ => {
                return Err(format!(
                    "{kind:?} is not a kind of workload: use deployment, statefulset or daemonset"
                ));
            }
        };
        Ok(Self { kind: known, name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_parsed_like_kubectl() {
        for (text, kind) in [
            ("deployment/web", Kind::Deployment),
            ("deploy/web", Kind::Deployment),
            ("deployments.apps/web", Kind::Deployment),
            ("Deployment.v1.apps/web", Kind::Deployment),
            ("sts/web", Kind::StatefulSet),
            ("ds/web", Kind::DaemonSet),
        ] {
            assert_eq!(text.parse(), Ok(Reference { kind, name: "web".into() }), "{text}");
        }
        for text in ["web", "deploy/", "pod/web", "/web", "deploy/a/b"] {
            text.parse::<Reference>().unwrap_err();
        }
    }
}
