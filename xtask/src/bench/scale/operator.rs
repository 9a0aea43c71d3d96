//! The operator's replicas, their memory, and their requests to the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use super::usage::{self, largest_memory};
use crate::install::{NAMESPACE, RELEASE};
use crate::progress::Step;
use crate::{install, interrupt};

/// The chart's default.
const REPLICAS: i32 = 2;
/// The limit for injecting all Deployments.
const LIMIT: Duration = Duration::from_mins(20);
const POLL: Duration = Duration::from_secs(2);
/// How long the operator must write nothing until it counts as idle, and the limit for that.
const IDLE_SPAN: Duration = Duration::from_secs(10);
const IDLE_LIMIT: Duration = Duration::from_mins(5);

/// The installed operator.
pub struct Operator {
    client: Client,
    audit_log: PathBuf,
    /// Its service account's username in the audit log.
    username: String,
}

/// The measurements of one injection of all Deployments.
#[derive(Clone, Debug)]
pub struct InjectionRun {
    /// From scaling up the operator to the last patched workload.
    pub evaluated: Duration,
    /// From the first patched workload to the last.
    pub patching: Duration,
    /// Its requests meanwhile.
    pub requests: Requests,
    /// The largest working set of a replica, in bytes.
    pub memory: f64,
}

/// Request counts by verb and resource, with the HTTP status of failed ones.
pub type Requests = BTreeMap<String, u32>;

/// The parts of an audit log entry that are used here.
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

/// The operator's requests from a moment on.
pub struct RequestLog {
    log: BufReader<File>,
    username: String,
    summary: AuditSummary,
}

impl RequestLog {
    /// Reads what the API server has written since.
    pub fn read(&mut self) -> Result<()> {
        self.summary.read(&mut self.log, &self.username)
    }

    /// The requests so far.
    pub fn requests(self) -> Requests {
        self.summary.requests
    }
}

/// A summary of the log so far.
#[derive(Default)]
struct AuditSummary {
    requests: Requests,
    /// The patched Deployments, and the times of the first and the last patch.
    patched: BTreeSet<(String, String)>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Operator {
    pub async fn new(client: Client, audit_log: PathBuf) -> Result<Self> {
        let username = install::username(&client).await?;
        Ok(Self { client, audit_log, username })
    }

    /// Its username.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Scales it. With 0 it ends the pods without their drain, and waits until none is left.
    pub async fn scale(&self, replicas: i32) -> Result<()> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        let patch = json!({"spec": {"replicas": replicas}});
        api.patch_scale(RELEASE, &PatchParams::default(), &Patch::Merge(patch)).await?;
        if replicas > 0 {
            return Ok(());
        }
        let started = Instant::now();
        while let Err(error) = install::end_without_drain(self.client.clone()).await {
            interrupt::check()?;
            ensure!(started.elapsed() < LIMIT, "adieu's pods do not terminate: {error:#}");
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Its requests from now on.
    pub fn follow_requests(&self) -> Result<RequestLog> {
        let mut log = BufReader::new(File::open(&self.audit_log).context("cannot read the audit log")?);
        log.seek(SeekFrom::End(0))?;
        Ok(RequestLog { log, username: self.username.clone(), summary: AuditSummary::default() })
    }

    /// Waits until it writes nothing. After a rollout it still publishes Events, and after a policy change it still
    /// annotates workloads, both for up to minutes and at rates at which the machine is idle for most of the time.
    pub async fn until_idle(&self) -> Result<()> {
        let step = Step::start("waiting until adieu writes nothing");
        let (mut log, started) = (self.follow_requests()?, Instant::now());
        let (mut written, mut since) = (0, started);
        while since.elapsed() < IDLE_SPAN {
            interrupt::check()?;
            step.waiting();
            ensure!(started.elapsed() < IDLE_LIMIT, "adieu still writes after {} s", IDLE_LIMIT.as_secs());
            sleep(POLL).await;
            log.read()?;
            let now = writes(&log.summary.requests);
            if now > written {
                (written, since) = (now, Instant::now());
            }
        }
        step.done();
        Ok(())
    }

    /// Scales it up, and waits until it has patched this number of Deployments.
    pub async fn inject_all(&self, deployments: u32) -> Result<InjectionRun> {
        let step = Step::start(format!("waiting until adieu has injected {deployments} Deployments"));
        let (mut log, mut memory) = (self.follow_requests()?, 0.0_f64);
        let (began, started) = (Timestamp::now(), Instant::now());
        self.scale(REPLICAS).await?;
        while log.summary.patched.len() < deployments as usize {
            interrupt::check()?;
            step.waiting();
            let patched = log.summary.patched.len();
            ensure!(started.elapsed() < LIMIT, "adieu has patched {patched} of {deployments} Deployments");
            sleep(POLL).await;
            log.read()?;
            memory = memory.max(self.memory().await?);
        }
        // The kubelet measures at intervals.
        while memory == 0.0 {
            interrupt::check()?;
            ensure!(started.elapsed() < LIMIT, "the kubelet has not measured adieu's memory");
            sleep(POLL).await;
            memory = self.memory().await?;
        }
        step.done();
        let summary = log.summary;
        let (first, last) = summary.first.zip(summary.last).context("adieu has patched nothing")?;
        Ok(InjectionRun {
            evaluated: last.duration_since(began).unsigned_abs(),
            patching: last.duration_since(first).unsigned_abs(),
            requests: summary.requests,
            memory,
        })
    }

    /// The memory of the largest replica, in bytes; 0 until the kubelet has measured one.
    async fn memory(&self) -> Result<f64> {
        Ok(largest_memory(&usage::read(&self.client).await?))
    }
}

/// How many of the requests write. The Lease is renewed all the time.
fn writes(requests: &Requests) -> u32 {
    let reads = ["get", "list", "watch"];
    let is_write = |request: &str| {
        request.split_once(' ').is_some_and(|(verb, of)| !reads.contains(&verb) && !of.starts_with("leases"))
    };
    requests.iter().filter(|(request, _)| is_write(request)).map(|(_, count)| count).sum()
}

impl AuditSummary {
    /// Reads new lines. The last one may still be incomplete.
    fn read(&mut self, log: &mut (impl BufRead + Seek), username: &str) -> Result<()> {
        let mut line = String::new();
        loop {
            line.clear();
            let length = log.read_line(&mut line)?;
            if !line.ends_with('\n') {
                log.seek(SeekFrom::Current(-i64::try_from(length)?))?;
                return Ok(());
            }
            let entry: Entry = serde_json::from_str(&line).context("the audit log has an invalid line")?;
            if entry.user.username == username {
                self.entry(entry);
            }
        }
    }

    fn entry(&mut self, entry: Entry) {
        let Entry { verb, object_ref, response_status, stage_timestamp: MicroTime(at), .. } = entry;
        let code = response_status.and_then(|status| status.code);
        let rejected = code.filter(|code| *code >= 400).map(|code| format!(" ({code})")).unwrap_or_default();
        let Some(Reference { resource: Some(resource), subresource, namespace, name }) = object_ref else {
            return;
        };
        *self.requests.entry(format!("{verb} {resource}{rejected}")).or_default() += 1;
        let key = namespace.zip(name).filter(|_| subresource.is_none());
        let Some(key) = key.filter(|_| code == Some(200) && verb == "patch" && resource == "deployments")
        else {
            return;
        };
        self.first.get_or_insert(at);
        self.last = Some(at);
        self.patched.insert(key);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn entry(user: &str, verb: &str, name: &str, code: u16, second: u32) -> String {
        let reference = json!({"resource": "deployments", "namespace": "fleet-1", "name": name});
        let entry = json!({
            "user": {"username": user}, "verb": verb, "objectRef": reference, "responseStatus": {"code": code},
            "stageTimestamp": format!("2026-01-01T00:00:{second:02}.000000Z"),
        });
        format!("{entry}\n")
    }

    #[test]
    fn an_incomplete_line_of_the_audit_log_is_read_later() {
        let log = [
            entry("operator", "get", "web-1", 200, 1),
            entry("operator", "patch", "web-1", 200, 2),
            entry("other", "patch", "web-9", 200, 3),
            entry("operator", "patch", "web-1", 409, 4),
            entry("operator", "patch", "web-2", 200, 5),
        ]
        .concat();
        let mut summary = AuditSummary::default();
        let mut read = Cursor::new(Vec::new());
        // The last line comes in two parts.
        for part in [&log[..log.len() - 20], &log[log.len() - 20..]] {
            read.get_mut().extend(part.bytes());
            summary.read(&mut read, "operator").unwrap();
        }
        let names: Vec<_> = summary.patched.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["web-1", "web-2"]);
        let requests = [("get deployments", 1), ("patch deployments", 2), ("patch deployments (409)", 1)];
        assert_eq!(summary.requests, requests.map(|(request, count)| (request.to_owned(), count)).into());
        let second = |at: Option<Timestamp>| at.map(|at| at.as_second() % 60);
        assert_eq!((second(summary.first), second(summary.last)), (Some(2), Some(5)));
    }

    #[test]
    fn reads_and_renewals_of_the_lease_are_not_writes() {
        let counts = [
            ("get deployments", 1),
            ("list pods", 2),
            ("watch pods", 4),
            ("update leases", 8),
            ("create events", 16),
            ("patch deployments (409)", 32),
        ];
        assert_eq!(writes(&counts.map(|(request, count)| (request.to_owned(), count)).into()), 48);
    }
}
