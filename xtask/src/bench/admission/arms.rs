//! The arms of the comparison: what each creates, and what has to come back.

use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::install;
use crate::workspace::Workspace;

/// Where adieu's arm lives, and the do-nothing webhook runs.
pub const NAMESPACE: &str = "adieu-bench";
/// The same with the label by which everything there reaches adieu, without a condition.
pub const LABELLED: &str = "adieu-bench-labelled";

/// What every arm creates, from the repository's root.
pub const DEPLOYMENT: &str = "benches/manifests/deployment.yaml";

/// One arm.
///
/// All create the same Deployment, opted in, but for the value of one label: the rivals select by it. adieu
/// takes every Deployment that is opted in, wherever it is, but for those in its own namespace; so that is
/// where the other arms create theirs. They pay for none of adieu's rules, not even for its
/// matchConditions, which the API server evaluates for everything else: that cost is adieu's, and would be
/// taken off if the arm without admission had it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// No admission beyond what the API server has by itself.
    None,
    /// A webhook that does nothing.
    Noop,
    /// A webhook that answers at once with what adieu answers: what the API server takes to apply a patch, any
    /// patch, is nothing that a webhook can save.
    Patch,
    /// The same webhook, which is asked about what carries an annotation: what the API server takes to look at one
    /// can't be saved by whoever selects by it.
    Condition,
    /// A MutatingAdmissionPolicy.
    Policy,
    /// adieu, for what is annotated.
    Adieu,
    /// adieu, in a labelled namespace.
    Labelled,
}

/// How many there are.
pub const COUNT: usize = 7;
/// Each of them.
pub const ARMS: [Arm; COUNT] =
    [Arm::None, Arm::Noop, Arm::Patch, Arm::Condition, Arm::Policy, Arm::Adieu, Arm::Labelled];

/// The order of a round. Over fourteen rounds every arm comes twice in every place and follows every other arm
/// twice, so that neither favours any.
pub fn order(round: u32) -> [Arm; COUNT] {
    const FIRST: [u32; COUNT] = [0, 1, 6, 2, 5, 3, 4];
    let mut order = FIRST.map(|number| ARMS[((number + round) % 7) as usize]);
    if round % 14 >= 7 {
        order.reverse();
    }
    order
}

impl Arm {
    /// The value of the label that the rivals select by.
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

    /// As people know it.
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

    /// Where it creates.
    pub fn namespace(self) -> &'static str {
        match self {
            Self::None | Self::Noop | Self::Patch | Self::Condition | Self::Policy => install::NAMESPACE,
            Self::Adieu => NAMESPACE,
            Self::Labelled => LABELLED,
        }
    }

    /// The name under which the API server counts the calls of its webhook.
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

    /// An error unless the Deployment that came back was injected, or was not, as the arm should have it.
    pub fn check(self, answer: &str) -> Result<Value> {
        let mut deployment: Value =
            serde_json::from_str(answer).context("the API server answered something else than JSON")?;
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
                "{}: expected (preStop hooks, probes, grace period) {wanted:?} in what comes back, found {found:?}",
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
    fn every_arm_has_every_place_and_every_predecessor_twice() {
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
    fn what_comes_back_is_held_against_what_the_arm_should_do() {
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
