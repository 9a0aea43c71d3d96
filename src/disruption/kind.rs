//! The kinds of disruption, and their requirements.

use std::{fmt, str::FromStr};

use kube::core::DynamicObject;

use crate::plan::Kind;

/// A kind of disruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disruption {
    /// No disruption: the load only observes.
    None,
    /// All its pods are replaced, as by `kubectl rollout restart`.
    Restart,
    /// It is scaled down to this many replicas, or by one, and scaled up again.
    ScaleDown(Option<i32>),
    /// One of its pods is deleted.
    DeletePod,
    /// One of its pods is evicted.
    Evict,
    /// One of its nodes is cordoned and drained, and uncordoned afterwards.
    DrainNode,
}

impl Disruption {
    /// Why a workload can't be disrupted in this way.
    #[must_use]
    pub fn unsupported_reason(self, kind: Kind, object: &DynamicObject) -> Option<String> {
        let spec = &object.data["spec"];
        let replicas = spec["replicas"].as_i64().unwrap_or(1);
        let partition = spec["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or(0);
        if self != Self::None && kind != Kind::DaemonSet && replicas == 0 {
            return Some("it is scaled to 0: there is no pod to disrupt".to_owned());
        }
        match self {
            Self::Restart if spec["paused"] == true => {
                Some("it is paused and does not roll out: run `kubectl rollout resume` first".to_owned())
            }
            Self::Restart if spec["updateStrategy"]["type"] == "OnDelete" => Some(
                "its update strategy is OnDelete, so a restart replaces no pod: use --disrupt delete-pod"
                    .to_owned(),
            ),
            Self::Restart if partition > 0 => Some(format!(
                "its partition is {partition}, and a restart does not replace the pods below it: use --disrupt \
                 delete-pod, or set the partition to 0"
            )),
            Self::ScaleDown(_) if kind == Kind::DaemonSet => {
                Some("a DaemonSet has no replicas to scale: use restart, delete-pod or evict".to_owned())
            }
            Self::DrainNode if kind == Kind::DaemonSet => Some(
                "a drain does not evict the pods of a DaemonSet: use restart, delete-pod or evict".to_owned(),
            ),
            Self::ScaleDown(to) => {
                let to = to.map_or(replicas - 1, i64::from);
                if to == 0 {
                    Some(format!("scaling down from {replicas} to 0 leaves no pod to serve requests"))
                } else if to >= replicas {
                    Some(format!("it has {replicas} replicas: --disrupt scale-down=N needs fewer, not {to}"))
                } else {
                    None
                }
            }
            _ => None,
        }
    }
}

impl FromStr for Disruption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        match (name, value) {
            ("none", None) => Ok(Self::None),
            ("restart", None) => Ok(Self::Restart),
            ("scale-down", None) => Ok(Self::ScaleDown(None)),
            ("scale-down", Some(to)) => match to.parse() {
                Ok(to) if to > 0 => Ok(Self::ScaleDown(Some(to))),
                _ => Err(format!("{to:?} is not a number of replicas to keep, such as 1")),
            },
            ("delete-pod", None) => Ok(Self::DeletePod),
            ("evict", None) => Ok(Self::Evict),
            ("drain-node", None) => Ok(Self::DrainNode),
            _ => {
                Err("use restart, scale-down, scale-down=N, delete-pod, evict, drain-node or none".to_owned())
            }
        }
    }
}

impl fmt::Display for Disruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Restart => "restart",
            Self::ScaleDown(None) => "scale-down",
            Self::ScaleDown(Some(to)) => return write!(f, "scale-down={to}"),
            Self::DeletePod => "delete-pod",
            Self::Evict => "evict",
            Self::DrainNode => "drain-node",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn unsupported_reason(disruption: &str, kind: Kind, spec: Value) -> Option<String> {
        let object = serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap();
        disruption.parse::<Disruption>().unwrap().unsupported_reason(kind, &object)
    }

    #[test]
    fn a_disruption_round_trips_as_text() {
        for text in ["none", "restart", "scale-down", "scale-down=2", "delete-pod", "evict", "drain-node"] {
            assert_eq!(text.parse::<Disruption>().unwrap().to_string(), text);
        }
        for text in ["", "restart=1", "scale-down=", "scale-down=0", "scale-down=-1", "kill"] {
            text.parse::<Disruption>().unwrap_err();
        }
    }

    #[test]
    fn an_impossible_disruption_is_rejected_with_the_remedy() {
        use Kind::{DaemonSet, Deployment, StatefulSet};
        let partitioned = |partition: i64| json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": partition}}});
        for (disruption, kind, spec, part) in [
            ("restart", Deployment, json!({"paused": true}), "kubectl rollout resume"),
            ("restart", StatefulSet, json!({"updateStrategy": {"type": "OnDelete"}}), "delete-pod"),
            ("restart", StatefulSet, partitioned(2), "set the partition to 0"),
            ("evict", Deployment, json!({"replicas": 0}), "no pod"),
            ("scale-down", Deployment, json!({}), "no pod to serve"),
            ("scale-down=3", StatefulSet, json!({"replicas": 3}), "needs fewer"),
            ("scale-down", DaemonSet, json!({}), "no replicas"),
            ("drain-node", DaemonSet, json!({}), "does not evict the pods of a DaemonSet"),
        ] {
            let unsupported_reason = unsupported_reason(disruption, kind, spec).unwrap();
            assert!(unsupported_reason.contains(part), "{unsupported_reason}");
        }
        for (disruption, kind, spec) in [
            ("restart", Deployment, json!({})),
            ("scale-down", Deployment, json!({"replicas": 2})),
            ("scale-down=1", StatefulSet, json!({"replicas": 3})),
            ("delete-pod", DaemonSet, json!({})),
            ("restart", StatefulSet, partitioned(0)),
            ("delete-pod", StatefulSet, partitioned(2)),
            ("none", Deployment, json!({"replicas": 0, "paused": true})),
        ] {
            assert_eq!(unsupported_reason(disruption, kind, spec), None, "{disruption}");
        }
    }
}
