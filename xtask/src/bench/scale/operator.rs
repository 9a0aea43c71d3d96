//! The operator: how many replicas, what they use, and what they asked of the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use super::usage::{self, largest_memory};
use crate::install::{NAMESPACE, RELEASE};
use crate::progress::Step;
use crate::{install, interrupt};

/// As the chart has it.
const REPLICAS: i32 = 2;
/// Until all is as it should be.
const LIMIT: Duration = Duration::from_mins(20);
const POLL: Duration = Duration::from_secs(2);

/// The installed operator.
pub struct Operator {
    client: Client,
    audit_log: PathBuf,
    /// What its service account is called in the log.
    username: String,
}

/// How it went once it was back.
#[derive(Clone, Debug)]
pub struct Course {
    /// From when its replicas were asked for until the last workload was as it should be.
    pub evaluated: Duration,
    /// From the first workload that it patched to the last.
    pub patching: Duration,
    /// What it asked of the API server meanwhile, and how often.
    pub requests: Requests,
    /// The most memory that a replica had, in bytes.
    pub memory: f64,
}

/// How often each was asked for: a verb and a resource, and the HTTP status where it isn't one of success.
pub type Requests = BTreeMap<String, u32>;

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
    requests: Requests,
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

    /// What the API server calls it.
    pub fn username(&self) -> &str {
        &self.username
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
        // The kubelet measures now and then.
        while memory == 0.0 {
            interrupt::check()?;
            ensure!(started.elapsed() < LIMIT, "the kubelet has not measured adieu's memory");
            sleep(POLL).await;
            memory = self.memory().await?;
        }
        step.done();
        let (first, last) = seen.first.zip(seen.last).context("adieu has patched nothing")?;
        Ok(Course {
            evaluated: last.duration_since(began).unsigned_abs(),
            patching: last.duration_since(first).unsigned_abs(),
            requests: seen.requests,
            memory,
        })
    }

    /// The memory of the largest replica, in bytes; 0 until the kubelet has measured one.
    async fn memory(&self) -> Result<f64> {
        Ok(largest_memory(&usage::read(&self.client).await?))
    }
}

impl Seen {
    /// Takes in what was written since. The last line may not be whole yet.
    fn read(&mut self, log: &mut (impl BufRead + Seek), username: &str) -> Result<()> {
        let mut line = String::new();
        loop {
            line.clear();
            let length = log.read_line(&mut line)?;
            if !line.ends_with('\n') {
                log.seek(SeekFrom::Current(-i64::try_from(length)?))?;
                return Ok(());
            }
            let entry: Entry = serde_json::from_str(&line).context("the audit log has a strange line")?;
            if entry.user.username == username {
                self.entry(entry);
            }
        }
    }

    fn entry(&mut self, entry: Entry) {
        let Entry { verb, object_ref, response_status, stage_timestamp: MicroTime(at), .. } = entry;
        let code = response_status.and_then(|status| status.code);
        let refused = code.filter(|code| *code >= 400).map(|code| format!(" ({code})")).unwrap_or_default();
        let Some(Reference { resource: Some(resource), subresource, namespace, name }) = object_ref else {
            return;
        };
        *self.requests.entry(format!("{verb} {resource}{refused}")).or_default() += 1;
        let place = namespace.zip(name).filter(|_| subresource.is_none());
        let Some(place) = place.filter(|_| code == Some(200) && verb == "patch" && resource == "deployments")
        else {
            return;
        };
        self.first.get_or_insert(at);
        self.last = Some(at);
        self.patched.insert(place);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn entry(user: &str, verb: &str, name: &str, code: u16, second: u32) -> String {
        let place = json!({"resource": "deployments", "namespace": "field-1", "name": name});
        let entry = json!({
            "user": {"username": user}, "verb": verb, "objectRef": place, "responseStatus": {"code": code},
            "stageTimestamp": format!("2026-01-01T00:00:{second:02}.000000Z"),
        });
        format!("{entry}\n")
    }

    #[test]
    fn what_the_operator_patched_is_read_also_from_a_log_that_is_being_written() {
        let log = [
            entry("operator", "get", "web-1", 200, 1),
            entry("operator", "patch", "web-1", 200, 2),
            entry("somebody", "patch", "web-9", 200, 3),
            entry("operator", "patch", "web-1", 409, 4),
            entry("operator", "patch", "web-2", 200, 5),
        ]
        .concat();
        let mut seen = Seen::default();
        let mut read = Cursor::new(Vec::new());
        // The last line comes in two parts.
        for part in [&log[..log.len() - 20], &log[log.len() - 20..]] {
            read.get_mut().extend(part.bytes());
            seen.read(&mut read, "operator").unwrap();
        }
        let names: Vec<_> = seen.patched.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["web-1", "web-2"]);
        let requests = [("get deployments", 1), ("patch deployments", 2), ("patch deployments (409)", 1)];
        assert_eq!(seen.requests, requests.map(|(request, count)| (request.to_owned(), count)).into());
        let second = |at: Option<Timestamp>| at.map(|at| at.as_second() % 60);
        assert_eq!((second(seen.first), second(seen.last)), (Some(2), Some(5)));
    }
}
