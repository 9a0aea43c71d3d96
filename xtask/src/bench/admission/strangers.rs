//! What workloads and pods pay that is not opted in: on a cluster with adieu's webhooks and policies, without
//! them, and with a do-nothing webhook in their place.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use http::{Method, Request, header};
use kube::Client;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::arms::{NAMESPACE, deployment};
use super::installed::{Installed, Probe};
use super::measure::AllCalls;
use crate::install;
use crate::interrupt;
use crate::progress::Step;
use crate::target::Target;

/// How many rounds of requests follow each other before the cluster is changed.
const BLOCK: u32 = 125;
/// Rounds in each block before those that count: what the change itself costs, expressions that are compiled and the
/// garbage of that, is not to be measured.
const WARM_UP: u32 = 75;
/// What the do-nothing webhook selects by.
const NOOP: &str = "noop";

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Creates a Deployment.
    Create,
    /// Updates one that is there.
    Update,
    /// Creates a pod.
    Pod,
}

/// Each of them.
pub const ACTS: [Act; 3] = [Act::Create, Act::Update, Act::Pod];

/// What is in effect meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// Nothing beyond what the API server has by itself.
    Nothing,
    /// A webhook that does nothing.
    Noop,
    /// What adieu's chart installs.
    Adieu,
    /// The least with which annotations and the operator's account can be looked at, and pods by a label.
    Floor,
}

/// Each of them, in the order of the first block.
pub const WITHS: [With; 4] = [With::Nothing, With::Noop, With::Adieu, With::Floor];

impl Act {
    /// As people know it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Create => "create of a Deployment",
            Self::Update => "update of a Deployment",
            Self::Pod => "create of a pod",
        }
    }
}

impl With {
    /// As people know it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Nothing => "no admission",
            Self::Noop => "do-nothing webhook",
            Self::Adieu => "adieu",
            Self::Floor => "one condition, one policy, one selector",
        }
    }
}

/// Seconds of every request.
#[derive(Debug, Default)]
pub struct Strangers(Vec<(Act, With, f64)>);

impl Strangers {
    /// Seconds of one kind of request, with one thing in effect.
    pub fn of(&self, act: Act, with: With) -> Vec<f64> {
        self.0.iter().filter(|(a, w, _)| (*a, *w) == (act, with)).map(|(_, _, seconds)| *seconds).collect()
    }

    /// One more.
    pub fn push(&mut self, act: Act, with: With, seconds: f64) {
        self.0.push((act, with, seconds));
    }
}

/// Measures some `requests` of each kind, in blocks by turns.
pub fn measure(target: &Target, floor: &str, requests: u32) -> Result<Strangers> {
    let work = async |client: Client| -> Result<Strangers> {
        let username = install::username(&client).await?;
        let session = Session::set_up(target, client, &username).await?;
        let adieu = Installed::of_adieu(&session.probe.client).await?;
        let floor = Installed::read(&floor.replace("USERNAME", &username))?;
        // As it shall be found again.
        adieu.take_out(&session.probe).await?;
        let measured = session.blocks(&adieu, &floor, requests).await;
        adieu.put_in(&session.probe).await?;
        measured
    };
    target.with_client(work)
}

struct Session {
    probe: Probe,
    /// The bodies for nobody's webhook, and for the one that does nothing.
    bodies: [[Vec<u8>; 3]; 2],
}

impl Session {
    async fn set_up(target: &Target, client: Client, username: &str) -> Result<Self> {
        let annotated = deployment(target.workspace())?;
        let stranger = |admission: &str| {
            let mut stranger = annotated.clone();
            let name = format!("stranger-{admission}");
            let metadata = &mut stranger["metadata"];
            metadata.as_object_mut().map(|metadata| metadata.remove("annotations"));
            (metadata["name"], metadata["labels"]["admission"]) = (json!(name), json!(admission));
            stranger["spec"]["replicas"] = json!(0);
            stranger
        };
        let [none, noop] = ["none", NOOP].map(stranger);
        let operator = target.client(Some(username)).await?;
        let name = none["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let annotated: DynamicObject = serde_json::from_value(annotated)?;
        let probe = Probe { client, operator, annotated, stranger: name };
        for body in [&none, &noop] {
            let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
            let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
            let created = probe.client.request_text(request.body(serde_json::to_vec(body)?)?).await;
            created.context("cannot create a stranger's Deployment")?;
        }
        Ok(Self { probe, bodies: [bodies(&none)?, bodies(&noop)?] })
    }

    async fn blocks(&self, adieu: &Installed, floor: &Installed, requests: u32) -> Result<Strangers> {
        let blocks = requests.div_ceil(BLOCK);
        let step = Step::start(format!(
            "measuring {} requests of strangers in each of four ways",
            blocks * BLOCK * 3
        ));
        let mut samples = Strangers::default();
        let before = AllCalls::ask(&self.probe.client).await?;
        for block in 0..blocks {
            for with in order(block) {
                interrupt::check()?;
                step.waiting();
                let installed = match with {
                    With::Nothing | With::Noop => None,
                    With::Adieu => Some(adieu),
                    With::Floor => Some(floor),
                };
                if let Some(installed) = installed {
                    installed.put_in(&self.probe).await?;
                }
                let sent = self.block(with, &mut samples).await;
                if let Some(installed) = installed {
                    installed.take_out(&self.probe).await?;
                }
                sent?;
            }
        }
        step.done();
        let calls = AllCalls::ask(&self.probe.client).await?.since(&before).of("noop.adieu-bench.svc");
        let expected = u64::from(blocks * (BLOCK + WARM_UP) * 3);
        ensure!(
            calls.count == expected,
            "the do-nothing webhook was called {} times, not {expected}",
            calls.count
        );
        Ok(samples)
    }

    async fn block(&self, with: With, samples: &mut Strangers) -> Result<()> {
        for round in 0..BLOCK + WARM_UP {
            for act in ACTS {
                let seconds = self.send(act, with).await?;
                if round >= WARM_UP {
                    samples.push(act, with, seconds);
                }
            }
        }
        Ok(())
    }

    /// One dry run: how many seconds it took from its first byte to the answer's last.
    async fn send(&self, act: Act, with: With) -> Result<f64> {
        let [none, noop] = &self.bodies;
        let (bodies, name) = if with == With::Noop { (noop, NOOP) } else { (none, "none") };
        let (method, path, body) = match (act, bodies) {
            (Act::Create, [create, ..]) => (Method::POST, "apis/apps/v1 deployments".to_owned(), create),
            (Act::Update, [_, update, _]) => {
                (Method::PUT, format!("apis/apps/v1 deployments/stranger-{name}"), update)
            }
            (Act::Pod, [.., pod]) => (Method::POST, "api/v1 pods".to_owned(), pod),
        };
        let path = path.replace(' ', &format!("/namespaces/{NAMESPACE}/"));
        let request = Request::builder()
            .method(method)
            .uri(format!("/{path}?dryRun=All"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.clone())?;
        let started = Instant::now();
        let answer = self.probe.client.request_text(request).await;
        let seconds = started.elapsed().as_secs_f64();
        let answer = answer.with_context(|| format!("{} with {}: it failed", act.title(), with.title()))?;
        ensure!(!answer.contains("preStop"), "{} with {}: it is injected", act.title(), with.title());
        Ok(seconds)
    }
}

/// Over four blocks each comes once in every place.
fn order(block: u32) -> [With; 4] {
    let mut order = WITHS;
    order.rotate_left((block % 4) as usize);
    if block % 8 >= 4 {
        order.reverse();
    }
    order
}

/// What is created, what an existing one becomes, and one of its pods.
fn bodies(stranger: &Value) -> Result<[Vec<u8>; 3]> {
    let mut created = stranger.clone();
    created["metadata"]["name"] = json!("another");
    let mut updated = stranger.clone();
    updated["spec"]["template"]["spec"]["containers"][0]["image"] =
        json!("registry.example/shop/checkout:1.42.1");
    let mut labels = stranger["spec"]["template"]["metadata"]["labels"].clone();
    labels["admission"] = stranger["metadata"]["labels"]["admission"].clone();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "another", "labels": labels},
        "spec": stranger["spec"]["template"]["spec"],
    });
    let encode = |body: &Value| serde_json::to_vec(body);
    Ok([encode(&created)?, encode(&updated)?, encode(&pod)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_every_place_as_often() {
        let blocks: Vec<_> = (0..8).map(order).collect();
        for with in WITHS {
            for place in 0..4 {
                assert_eq!(blocks.iter().filter(|block| block[place] == with).count(), 2, "{with:?} {place}");
            }
        }
    }

    #[test]
    fn nobody_opted_a_stranger_in() {
        let text = include_str!("../../../../benches/manifests/deployment.yaml");
        let mut stranger: Value = serde_saphyr::from_str(text).unwrap();
        stranger["metadata"].as_object_mut().unwrap().remove("annotations");
        stranger["metadata"]["labels"]["admission"] = json!("none");
        for body in bodies(&stranger).unwrap() {
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert!(!body.to_string().contains("adieu.dev/"), "{body}");
            assert_eq!(body["metadata"]["labels"]["admission"], "none", "{body}");
        }
    }
}
