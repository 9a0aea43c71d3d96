//! The latency for workloads, pods and Jobs that are not opted in: with adieu's webhooks and policies, without them, and
//! with a do-nothing webhook instead.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use http::{Method, Request, header};
use kube::Client;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::arms::{NAMESPACE, deployment};
use super::calls::AllCalls;
use super::installed::{Installed, Probe};
use crate::progress::Step;
use crate::target::Target;
use crate::{install, interrupt};

/// Rounds of requests before the cluster's configuration changes.
const BLOCK: u32 = 125;
/// Rounds in each block that don't count, because they include the cost of the change: compiling expressions and
/// garbage collection.
const WARM_UP: u32 = 75;
/// The label value that the do-nothing webhook selects.
const NOOP: &str = "noop";

/// An operation on objects that are not opted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Creates a Deployment.
    Create,
    /// Updates an existing one.
    Update,
    /// Creates a pod.
    Pod,
    /// Creates a Job, which adieu doesn't inject. Annotations of adieu on it would cause a warning.
    Job,
}

/// The number of operations.
const COUNT: usize = 4;
/// All operations.
pub const OPERATIONS: [Operation; COUNT] =
    [Operation::Create, Operation::Update, Operation::Pod, Operation::Job];

/// The webhooks and policies in effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Configuration {
    /// None.
    Nothing,
    /// A webhook that does nothing.
    Noop,
    /// Those of adieu's chart.
    Adieu,
    /// The minimal configuration that evaluates annotations, the operator's account, and a pod's label.
    Floor,
}

/// All of them, in the order of the first block.
pub const CONFIGURATIONS: [Configuration; 4] =
    [Configuration::Nothing, Configuration::Noop, Configuration::Adieu, Configuration::Floor];

impl Operation {
    /// Its title in the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Create => "create of a Deployment",
            Self::Update => "update of a Deployment",
            Self::Pod => "create of a pod",
            Self::Job => "create of a Job",
        }
    }
}

impl Configuration {
    /// Its title in the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Nothing => "no admission",
            Self::Noop => "do-nothing webhook",
            Self::Adieu => "adieu",
            Self::Floor => "one condition, one policy, one selector",
        }
    }
}

/// The latencies of all requests, in seconds.
#[derive(Debug, Default)]
pub struct UnmanagedSamples(Vec<(Operation, Configuration, f64)>);

impl UnmanagedSamples {
    /// The latencies of one operation in one configuration.
    pub fn of(&self, operation: Operation, with: Configuration) -> Vec<f64> {
        self.0
            .iter()
            .filter(|(a, w, _)| (*a, *w) == (operation, with))
            .map(|(_, _, seconds)| *seconds)
            .collect()
    }

    /// Adds a latency.
    pub fn push(&mut self, operation: Operation, with: Configuration, seconds: f64) {
        self.0.push((operation, with, seconds));
    }
}

/// Measures at least `requests` of each operation, in alternating blocks.
pub fn measure(target: &Target, floor: &str, requests: u32) -> Result<UnmanagedSamples> {
    let work = async |client: Client| -> Result<UnmanagedSamples> {
        let username = install::username(&client).await?;
        let session = Session::set_up(target, client, &username).await?;
        let adieu = Installed::of_adieu(&session.probe.client).await?;
        let floor = Installed::read(&floor.replace("USERNAME", &username))?;
        // Restored at the end.
        adieu.delete(&session.probe).await?;
        let measured = session.blocks(&adieu, &floor, requests).await;
        adieu.create(&session.probe).await?;
        measured
    };
    target.with_client(work)
}

struct Session {
    probe: Probe,
    /// The bodies that no webhook selects, and those for the do-nothing webhook.
    bodies: [[Vec<u8>; COUNT]; 2],
}

impl Session {
    async fn set_up(target: &Target, client: Client, username: &str) -> Result<Self> {
        let annotated = deployment(target.workspace())?;
        let unmanaged = |admission: &str| {
            let mut unmanaged = annotated.clone();
            let name = format!("unmanaged-{admission}");
            let metadata = &mut unmanaged["metadata"];
            metadata.as_object_mut().map(|metadata| metadata.remove("annotations"));
            (metadata["name"], metadata["labels"]["admission"]) = (json!(name), json!(admission));
            unmanaged["spec"]["replicas"] = json!(0);
            unmanaged
        };
        let [none, noop] = ["none", NOOP].map(unmanaged);
        let operator = target.client(Some(username)).await?;
        let name = none["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let annotated: DynamicObject = serde_json::from_value(annotated)?;
        let probe = Probe { client, operator, annotated, unmanaged: name };
        for body in [&none, &noop] {
            let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
            let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
            let created = probe.client.request_text(request.body(serde_json::to_vec(body)?)?).await;
            created.context("cannot create a Deployment that is not opted in")?;
        }
        Ok(Self { probe, bodies: [bodies(&none)?, bodies(&noop)?] })
    }

    async fn blocks(&self, adieu: &Installed, floor: &Installed, requests: u32) -> Result<UnmanagedSamples> {
        let (blocks, operations) = (requests.div_ceil(BLOCK), u32::try_from(COUNT)?);
        let step = Step::start(format!(
            "measuring {} requests without opt-in in each of four configurations",
            blocks * BLOCK * operations
        ));
        let mut samples = UnmanagedSamples::default();
        let before = AllCalls::fetch(&self.probe.client).await?;
        for block in 0..blocks {
            for with in order(block) {
                interrupt::check()?;
                step.waiting();
                let installed = match with {
                    Configuration::Nothing | Configuration::Noop => None,
                    Configuration::Adieu => Some(adieu),
                    Configuration::Floor => Some(floor),
                };
                if let Some(installed) = installed {
                    installed.create(&self.probe).await?;
                }
                let sent = self.block(with, &mut samples).await;
                if let Some(installed) = installed {
                    installed.delete(&self.probe).await?;
                }
                sent?;
            }
        }
        step.done();
        let calls = AllCalls::fetch(&self.probe.client).await?.since(&before).of("noop.adieu-bench.svc");
        let expected = u64::from(blocks * (BLOCK + WARM_UP) * operations);
        ensure!(
            calls.count == expected,
            "the do-nothing webhook was called {} times, not {expected}",
            calls.count
        );
        Ok(samples)
    }

    async fn block(&self, with: Configuration, samples: &mut UnmanagedSamples) -> Result<()> {
        for round in 0..BLOCK + WARM_UP {
            for operation in OPERATIONS {
                let seconds = self.send(operation, with).await?;
                if round >= WARM_UP {
                    samples.push(operation, with, seconds);
                }
            }
        }
        Ok(())
    }

    /// Sends one dry run. Returns the seconds from its first byte to the last byte of the answer.
    async fn send(&self, operation: Operation, with: Configuration) -> Result<f64> {
        let [none, noop] = &self.bodies;
        let (bodies, name) = if with == Configuration::Noop { (noop, NOOP) } else { (none, "none") };
        let (method, path, body) = match (operation, bodies) {
            (Operation::Create, [create, ..]) => {
                (Method::POST, "apis/apps/v1 deployments".to_owned(), create)
            }
            (Operation::Update, [_, update, ..]) => {
                (Method::PUT, format!("apis/apps/v1 deployments/unmanaged-{name}"), update)
            }
            (Operation::Pod, [.., pod, _]) => (Method::POST, "api/v1 pods".to_owned(), pod),
            (Operation::Job, [.., job]) => (Method::POST, "apis/batch/v1 jobs".to_owned(), job),
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
        let answer =
            answer.with_context(|| format!("{} with {}: it failed", operation.title(), with.title()))?;
        ensure!(!answer.contains("preStop"), "{} with {}: it is injected", operation.title(), with.title());
        Ok(seconds)
    }
}

/// The order in a block: over four blocks each configuration comes once in every position.
fn order(block: u32) -> [Configuration; 4] {
    let mut order = CONFIGURATIONS;
    order.rotate_left((block % 4) as usize);
    if block % 8 >= 4 {
        order.reverse();
    }
    order
}

/// The bodies of the operations.
fn bodies(unmanaged: &Value) -> Result<[Vec<u8>; COUNT]> {
    let mut created = unmanaged.clone();
    created["metadata"]["name"] = json!("another");
    let mut updated = unmanaged.clone();
    updated["spec"]["template"]["spec"]["containers"][0]["image"] =
        json!("registry.example/shop/checkout:1.42.1");
    let mut labels = unmanaged["spec"]["template"]["metadata"]["labels"].clone();
    labels["admission"] = unmanaged["metadata"]["labels"]["admission"].clone();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "another", "labels": labels},
        "spec": unmanaged["spec"]["template"]["spec"],
    });
    let mut template = unmanaged["spec"]["template"].clone();
    template["spec"]["restartPolicy"] = json!("Never");
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "another", "labels": unmanaged["metadata"]["labels"]},
        "spec": {"template": template},
    });
    let encode = |body: &Value| serde_json::to_vec(body);
    Ok([encode(&created)?, encode(&updated)?, encode(&pod)?, encode(&job)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_configuration_has_every_position_equally_often() {
        let blocks: Vec<_> = (0..8).map(order).collect();
        for with in CONFIGURATIONS {
            for position in 0..4 {
                assert_eq!(
                    blocks.iter().filter(|block| block[position] == with).count(),
                    2,
                    "{with:?} {position}"
                );
            }
        }
    }

    #[test]
    fn bodies_are_not_opted_in() {
        let text = include_str!("../../../../benches/manifests/deployment.yaml");
        let mut unmanaged: Value = serde_saphyr::from_str(text).unwrap();
        unmanaged["metadata"].as_object_mut().unwrap().remove("annotations");
        unmanaged["metadata"]["labels"]["admission"] = json!("none");
        for body in bodies(&unmanaged).unwrap() {
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert!(!body.to_string().contains("adieu.dev/"), "{body}");
            assert_eq!(body["metadata"]["labels"]["admission"], "none", "{body}");
        }
    }
}
