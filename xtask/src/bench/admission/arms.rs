//! The arms of the comparison: their requests and the expected answers.

use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::install;
use crate::workspace::Workspace;

/// The namespace of adieu's arm and of the do-nothing webhook.
pub const NAMESPACE: &str = "adieu-bench";
/// A namespace with the label for which adieu's webhook has no condition.
pub const LABELLED: &str = "adieu-bench-labelled";

/// The manifest that every arm creates, from the repository's root.
pub const DEPLOYMENT: &str = "benches/manifests/deployment.yaml";

/// One arm.
///
/// All create the same opted-in Deployment, except for the value of one label, by which the alternatives select.
/// adieu injects opted-in Deployments everywhere except in its own namespace, so the other arms create theirs there.
/// That way they have no cost of adieu's rules, not even of its matchConditions, which the API server evaluates for
/// all others: this is a cost of adieu, and would be subtracted if the arm without admission had it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// No webhook and no policy.
    None,
    /// A webhook that does nothing.
    Noop,
    /// A webhook that has adieu's patch ready. The API server's cost of applying a patch is unavoidable.
    Patch,
    /// The same webhook, selecting by an annotation. The API server's cost of evaluating it is unavoidable.
    Condition,
    /// A MutatingAdmissionPolicy.
    Policy,
    /// adieu, by annotation.
    Adieu,
    /// adieu, in a labelled namespace.
    Labelled,
}

/// The number of arms.
pub const COUNT: usize = 7;
/// All arms.
pub const ARMS: [Arm; COUNT] =
    [Arm::None, Arm::Noop, Arm::Patch, Arm::Condition, Arm::Policy, Arm::Adieu, Arm::Labelled];

/// The order of a round. Over fourteen rounds every arm comes twice in every position, and follows every other arm
/// twice, so that no arm has an advantage.
pub fn order(round: u32) -> [Arm; COUNT] {
    const FIRST: [u32; COUNT] = [0, 1, 6, 2, 5, 3, 4];
    let mut order = FIRST.map(|number| ARMS[((number + round) % 7) as usize]);
    if round % 14 >= 7 {
        order.reverse();
    }
    order
}

impl Arm {
    /// The value of the label that the alternatives select.
    fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Noop => "noop",
            Self::Patch => "patch",
            Self::Condition => "condition",
            Self::Policy => "policy",
            Self::Adieu | Self::Labelled => "adieu",
        }
    }

    /// Its title in the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::None => "no admission",
            Self::Noop => "do-nothing webhook",
            Self::Patch => "webhook with adieu's patch ready",
            Self::Condition => "the same, by an annotation",
            Self::Policy => "MutatingAdmissionPolicy",
            Self::Adieu => "adieu",
            Self::Labelled => "adieu, in a labelled namespace",
        }
    }

    /// The namespace of its requests.
    pub fn namespace(self) -> &'static str {
        match self {
            Self::None | Self::Noop | Self::Patch | Self::Condition | Self::Policy => install::NAMESPACE,
            Self::Adieu => NAMESPACE,
            Self::Labelled => LABELLED,
        }
    }

    /// The name of its webhook in the API server's metrics.
    pub fn webhook(self) -> Option<&'static str> {
        match self {
            Self::None | Self::Policy => None,
            Self::Noop => Some("noop.adieu-bench.svc"),
            Self::Patch => Some("patch.adieu-bench.svc"),
            Self::Condition => Some("condition.adieu-bench.svc"),
            Self::Adieu => Some("annotated.adieu.dev"),
            Self::Labelled => Some("labelled.adieu.dev"),
        }
    }

    /// The body of its requests.
    pub fn body(self, workspace: &Workspace) -> Result<Vec<u8>> {
        let mut deployment = deployment(workspace)?;
        deployment["metadata"]["labels"]["admission"] = json!(self.label());
        Ok(serde_json::to_vec(&deployment)?)
    }

    /// Checks that the Deployment in the answer is injected, or isn't, as expected of the arm.
    pub fn check(self, answer: &str) -> Result<Value> {
        let mut deployment: Value =
            serde_json::from_str(answer).context("the API server's answer is not JSON")?;
        let spec = deployment["spec"]["template"]["spec"].take();
        let containers = spec["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let sleeps =
            containers.iter().filter(|c| c["lifecycle"]["preStop"]["sleep"]["seconds"] == 10).count();
        let probes = containers.iter().filter(|c| c["readinessProbe"]["tcpSocket"]["port"] == 8080).count();
        let found = (sleeps, probes, spec["terminationGracePeriodSeconds"].as_i64());
        let wanted = match self {
            Self::None | Self::Noop => (0, 0, Some(30)),
            Self::Patch | Self::Condition | Self::Policy | Self::Adieu | Self::Labelled => (2, 1, Some(45)),
        };
        if found != wanted {
            bail!(
                "{}: expected (preStop hooks, probes, grace period) {wanted:?}, found {found:?}",
                self.title()
            );
        }
        Ok(spec)
    }
}

/// The Deployment that the arms create.
pub fn deployment(workspace: &Workspace) -> Result<Value> {
    let file = workspace.root().join(DEPLOYMENT);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(serde_saphyr::from_str(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arm_has_every_position_and_every_predecessor_twice() {
        let rounds: Vec<_> = (0..14).map(order).collect();
        for arm in ARMS {
            for place in 0..COUNT {
                assert_eq!(rounds.iter().filter(|round| round[place] == arm).count(), 2, "{arm:?} {place}");
            }
            for other in ARMS.into_iter().filter(|other| *other != arm) {
                let pairs = rounds.iter().flat_map(|round| round.windows(2));
                assert_eq!(pairs.filter(|pair| **pair == [other, arm]).count(), 2, "{other:?} {arm:?}");
            }
        }
    }

    #[test]
    fn an_unexpected_answer_is_an_error() {
        let untouched = json!({"spec": {"template": {"spec": {
            "containers": [{"name": "a"}, {"name": "b"}],
            "terminationGracePeriodSeconds": 30,
        }}}});
        let hook = json!({"preStop": {"sleep": {"seconds": 10}}});
        let mut injected = untouched.clone();
        let spec = &mut injected["spec"]["template"]["spec"];
        spec["terminationGracePeriodSeconds"] = json!(45);
        spec["containers"][0]["lifecycle"] = hook.clone();
        spec["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 8080}});
        let mut half = injected.clone();
        injected["spec"]["template"]["spec"]["containers"][1]["lifecycle"] = hook;
        half["spec"]["template"]["spec"]["containers"][0].as_object_mut().unwrap().remove("readinessProbe");
        for arm in ARMS {
            let injects = !matches!(arm, Arm::None | Arm::Noop);
            assert_eq!(arm.check(&injected.to_string()).is_ok(), injects, "{arm:?}");
            assert_eq!(arm.check(&untouched.to_string()).is_ok(), !injects, "{arm:?}");
            assert!(arm.check(&half.to_string()).is_err(), "{arm:?}");
        }
    }
}
