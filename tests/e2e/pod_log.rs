//! The pods of a scene, and what their containers logged about their termination.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde::Deserialize;

use crate::support::Scene;

/// The pods of a scene, as a watch reports them. They run the sample application.
pub struct PodLog(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The pods by their uid.
    pods: BTreeMap<String, Pod>,
    /// The application and each shutdown, by the uid of the pod.
    shutdowns: BTreeMap<String, (String, Shutdown)>,
}

/// The end of a container, as it logged it.
#[derive(Clone, Copy)]
pub struct Shutdown {
    /// Seconds from the start of the pod's termination.
    pub since_start: i64,
    /// Seconds from SIGTERM; from the start if it doesn't handle SIGTERM.
    pub since_sigterm: i64,
}

/// The termination message of the sample application. Its times are in milliseconds.
#[derive(Deserialize)]
struct Message {
    /// When it received SIGTERM; 0 if it doesn't handle it.
    sigterm: i64,
    /// When it last ran.
    alive: i64,
}

impl PodLog {
    pub fn start(scene: &Scene) -> Self {
        let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
        let state = Arc::<Mutex<State>>::default();
        let watched = state.clone();
        // It ends with the test.
        tokio::spawn(async move {
            let mut events = pin!(watcher(pods, watcher::Config::default()).default_backoff());
            while let Some(event) = events.next().await {
                if let Ok(event) = event {
                    lock(&watched).update(event);
                }
            }
        });
        Self(state)
    }

    /// The pods of an application that have a node.
    pub fn scheduled(&self, app: &str) -> Vec<Pod> {
        lock(&self.0).pods_of(app).filter(|pod| is_scheduled(pod)).cloned().collect()
    }

    /// The numbers of an application's pods that have a node, and of all.
    pub fn counts(&self, app: &str) -> (usize, usize) {
        let state = lock(&self.0);
        (state.pods_of(app).filter(|pod| is_scheduled(pod)).count(), state.pods_of(app).count())
    }

    /// The seconds of each logged shutdown of an application, in ascending order.
    pub fn shutdowns(&self, app: &str, seconds: impl Fn(Shutdown) -> i64) -> Vec<i64> {
        let state = lock(&self.0);
        let of_app = state.shutdowns.values().filter(|(of, _)| of == app);
        let mut all: Vec<_> = of_app.map(|(_, shutdown)| seconds(*shutdown)).collect();
        all.sort_unstable();
        all
    }
}

impl State {
    fn pods_of(&self, app: &str) -> impl Iterator<Item = &Pod> {
        self.pods.values().filter(move |pod| pod.labels()["app"] == app)
    }

    fn update(&mut self, event: Event<Pod>) {
        match event {
            Event::Apply(pod) | Event::InitApply(pod) => {
                let uid = pod.uid().unwrap();
                if let Some(shutdown) = shutdown(&pod) {
                    self.shutdowns.insert(uid.clone(), (pod.labels()["app"].clone(), shutdown));
                }
                self.pods.insert(uid, pod);
            }
            Event::Delete(pod) => drop(self.pods.remove(&pod.uid().unwrap())),
            Event::Init => self.pods.clear(),
            Event::InitDone => {}
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_scheduled(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
}

/// How long the container last ran. The kubelet deletes the pod at the end, with a grace period of 0 and another time.
fn shutdown(pod: &Pod) -> Option<Shutdown> {
    let deletion = pod.metadata.deletion_timestamp.as_ref()?.0.as_millisecond();
    let start = deletion - 1000 * pod.metadata.deletion_grace_period_seconds.filter(|grace| *grace > 0)?;
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let message = status.state.as_ref()?.terminated.as_ref()?.message.as_ref()?;
    let Message { sigterm, alive } = serde_json::from_str(message).ok()?;
    let since = |time: i64| (alive - time + 500).div_euclid(1000);
    let since_start = since(start);
    Some(Shutdown { since_start, since_sigterm: if sigterm == 0 { since_start } else { since(sigterm) } })
}
