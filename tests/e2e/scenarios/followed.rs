//! When pods began to terminate, and when they were gone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    runtime::watcher::{self, Event, watcher},
};
use tokio::{task::JoinHandle, time::Instant};

/// The pods of an application, followed for as long as this lives.
pub struct Followed {
    ends: Arc<Mutex<BTreeMap<String, End>>>,
    task: JoinHandle<()>,
}

/// The end of a pod.
struct End {
    began: Instant,
    gone: Option<Instant>,
}

impl Followed {
    pub fn start(client: &Client, namespace: &str, app: &str) -> Self {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let ours = watcher::Config::default().labels(&format!("app={app}"));
        let ends: Arc<Mutex<BTreeMap<String, End>>> = Arc::default();
        let seen = ends.clone();
        let task = tokio::spawn(async move {
            let mut events = Box::pin(watcher(pods, ours));
            while let Some(event) = events.next().await {
                let now = Instant::now();
                let mut ends = seen.lock().unwrap();
                match event {
                    Ok(Event::Apply(pod) | Event::InitApply(pod))
                        if pod.metadata.deletion_timestamp.is_some() =>
                    {
                        ends.entry(pod.name_any()).or_insert(End { began: now, gone: None });
                    }
                    Ok(Event::Delete(pod)) => {
                        let end = ends.entry(pod.name_any()).or_insert(End { began: now, gone: None });
                        end.gone = Some(now);
                    }
                    _ => {}
                }
            }
        });
        Self { ends, task }
    }

    /// The pods that were on their way out then, and for how long.
    pub fn terminating(&self, at: Instant) -> String {
        let ends = self.ends.lock().unwrap();
        let then = ends.iter().filter(|(_, end)| end.began <= at && end.gone.is_none_or(|gone| at <= gone));
        let told: Vec<_> =
            then.map(|(pod, end)| format!("{pod} for {:.2} s", (at - end.began).as_secs_f64())).collect();
        if told.is_empty() { "none".to_owned() } else { told.join(", ") }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}
