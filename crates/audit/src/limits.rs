//! Limits of grace periods outside of the pods.

use std::str::FromStr;

/// Something that ends pods after a time of its own, whatever their grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    cause: Cause,
    /// The time in seconds.
    pub seconds: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    NodeShutdown,
    ClusterAutoscaler,
    Karpenter,
    Spot,
}

const CAUSES: [(&str, Cause); 4] = [
    ("node-shutdown", Cause::NodeShutdown),
    ("cluster-autoscaler", Cause::ClusterAutoscaler),
    ("karpenter", Cause::Karpenter),
    ("spot", Cause::Spot),
];

/// The text isn't a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidLimit;

impl std::fmt::Display for InvalidLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "must be NAME=SECONDS, where NAME is node-shutdown, cluster-autoscaler, karpenter or spot, for example spot=120",
        )
    }
}

impl std::error::Error for InvalidLimit {}

impl FromStr for Limit {
    type Err = InvalidLimit;

    /// `spot=120`.
    fn from_str(text: &str) -> Result<Self, InvalidLimit> {
        let (name, seconds) = text.split_once('=').ok_or(InvalidLimit)?;
        let (_, cause) = CAUSES.into_iter().find(|(known, _)| *known == name).ok_or(InvalidLimit)?;
        let digits = seconds.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = digits.then(|| seconds.parse().ok()).flatten().ok_or(InvalidLimit)?;
        Ok(Self { cause, seconds })
    }
}

impl Limit {
    /// What a node that shuts down gives its pods.
    #[must_use]
    pub fn node_shutdown(seconds: i64) -> Self {
        Self { cause: Cause::NodeShutdown, seconds }
    }

    /// Whether it is that of a node that shuts down.
    #[must_use]
    pub fn is_node_shutdown(self) -> bool {
        self.cause == Cause::NodeShutdown
    }

    /// What happens after the time.
    pub(crate) fn consequence(self) -> &'static str {
        match self.cause {
            Cause::NodeShutdown => "a node that shuts down gives its pods",
            Cause::ClusterAutoscaler => "the cluster autoscaler gives the pods of a node that it removes",
            Cause::Karpenter => "Karpenter gives the pods of a node that it removes",
            Cause::Spot => "a spot node is stopped after a notice of",
        }
    }

    /// The alternative to a lower grace period.
    pub(crate) fn remedy(self) -> &'static str {
        match self.cause {
            Cause::NodeShutdown => "raise shutdownGracePeriod in the kubelet's configuration",
            Cause::ClusterAutoscaler => "raise --max-graceful-termination-sec of the cluster autoscaler",
            Cause::Karpenter => "raise terminationGracePeriod of the NodePool",
            Cause::Spot => "run it on on-demand nodes",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        for (text, seconds) in [
            ("spot=120", Some(120)),
            ("node-shutdown=25", Some(25)),
            ("cluster-autoscaler=600", Some(600)),
            ("karpenter=0", Some(0)),
            ("spot", None),
            ("spot=", None),
            ("spot=2m", None),
            ("spot=-1", None),
            ("gke=60", None),
        ] {
            assert_eq!(text.parse::<Limit>().ok().map(|limit| limit.seconds), seconds, "{text}");
        }
    }
}
