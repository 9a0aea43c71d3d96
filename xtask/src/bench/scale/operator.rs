//! The operator: how many replicas, what they use, and what they asked of the API server.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http::Request;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use crate::install::{NAMESPACE, RELEASE};
use crate::progress::Step;
use crate::{install, interrupt};

/// As the chart has it.
const REPLICAS: i32 = 2;
/// Until all is as it should be.
const LIMIT: Duration = Duration::from_mins(20);
const POLL: Duration = Duration::from_secs(2);
/// Where the operator's own pods run; the others' nodes aren't there.
const NODE: &str = "node-1";
/// Of a container in the kubelet's `/metrics/resource`, in bytes.
const MEMORY: &str = "container_memory_working_set_bytes";

/// The installed operator.
pub struct Operator {
    client: Client,
    audit_log: PathBuf,
    /// What its service account is called in the log.
    username: String,
}

/// How it went once it was back.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// From when its replicas were asked for until the last workload was as it should be.
    pub converged: Duration,
    /// From the first workload that it patched to the last.
    pub patching: Duration,
    /// What it asked of the API server meanwhile.
    pub requests: u32,
    /// The most memory that a replica had, in bytes.
    pub memory: f64,
}

/// An entry of the audit log, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    user: User,
    verb: String,
    object_ref: Option<Reference>,
    response_status: Option<Status>,
    stage_timestamp: MicroTime,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct Reference {
    resource: Option<String>,
    subresource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    code: Option<u16>,
}

/// What the log says so far.
#[derive(Default)]
struct Seen {
    requests: u32,
    /// Deployments that were patched, and when the first and the last of them were.
    patched: BTreeSet<(String, String)>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Operator {
    pub async fn new(client: Client, audit_log: PathBuf) -> Result<Self> {
        let username = install::username(&client).await?;
        Ok(Self { client, audit_log, username })
    }

    /// Takes it away, or asks for it; returns once no pod of it is left, or at once.
    pub async fn scale(&self, replicas: i32) -> Result<()> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        let patch = json!({"spec": {"replicas": replicas}});
        api.patch_scale(RELEASE, &PatchParams::default(), &Patch::Merge(patch)).await?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let started = Instant::now();
        while replicas == 0 && !pods.list(&ListParams::default()).await?.items.is_empty() {
            interrupt::check()?;
            ensure!(started.elapsed() < LIMIT, "adieu's pods don't go");
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Asks for its replicas, and waits until they have patched so many Deployments.
    pub async fn come_back(&self, deployments: u32) -> Result<Course> {
        let step = Step::start(format!("waiting until adieu has brought in {deployments} Deployments"));
        let mut log = BufReader::new(File::open(&self.audit_log).context("cannot read the audit log")?);
        log.seek(SeekFrom::End(0))?;
        let (mut seen, mut memory) = (Seen::default(), 0.0_f64);
        let (began, started) = (Timestamp::now(), Instant::now());
        self.scale(REPLICAS).await?;
        while seen.patched.len() < deployments as usize {
            interrupt::check()?;
            step.waiting();
            let patched = seen.patched.len();
            ensure!(started.elapsed() < LIMIT, "adieu has patched {patched} of {deployments} Deployments");
            sleep(POLL).await;
            seen.read(&mut log, &self.username)?;
            memory = memory.max(self.memory().await?);
        }
        step.done();
        let (first, last) = seen.first.zip(seen.last).context("adieu has patched nothing")?;
        Ok(Course {
            converged: last.duration_since(began).unsigned_abs(),
            patching: last.duration_since(first).unsigned_abs(),
            requests: seen.requests,
            memory,
        })
    }

    /// The memory of the largest replica, in bytes; 0 until the kubelet has measured one.
    async fn memory(&self) -> Result<f64> {
        let request = Request::get(format!("/api/v1/nodes/{NODE}/proxy/metrics/resource")).body(Vec::new())?;
        let text = self.client.request_text(request).await.context("cannot ask the kubelet")?;
        let ours =
            |line: &&str| line.starts_with(MEMORY) && line.contains(&format!("namespace=\"{NAMESPACE}\""));
        // A sample is `NAME{LABELS} VALUE TIMESTAMP`.
        let value = |line: &str| line.split('}').nth(1)?.split_whitespace().next()?.parse::<f64>().ok();
        Ok(text.lines().filter(ours).filter_map(value).fold(0.0, f64::max))
    }
}

impl Seen {
    /// Takes in what was written since. The last line may not be whole yet.
    fn read(&mut self, log: &mut BufReader<File>, username: &str) -> Result<()> {
        let mut line = String::new();
        loop {
            line.clear();
            let length = log.read_line(&mut line)?;
            if !line.ends_with('\n') {
                log.seek_relative(-i64::try_from(length)?)?;
                return Ok(());
            }
            let entry: Entry = serde_json::from_str(&line).context("the audit log has a strange line")?;
            if entry.user.username == username {
                self.entry(entry);
            }
        }
    }

    fn entry(&mut self, entry: Entry) {
        self.requests += 1;
        let MicroTime(at) = entry.stage_timestamp;
        let done = entry.response_status.and_then(|status| status.code) == Some(200);
        let Some(Reference { resource, subresource: None, namespace: Some(namespace), name: Some(name) }) =
            entry.object_ref
        else {
            return;
        };
        if done && entry.verb == "patch" && resource.as_deref() == Some("deployments") {
            self.first.get_or_insert(at);
            self.last = Some(at);
            self.patched.insert((namespace, name));
        }
    }
}
