use std::sync::{Arc, Mutex};

use http::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;
use crate::{
    calibration::{Connections, Stream},
    disruption::Image,
    runtime::test_support::client_of_bodies,
    verify::{Outcome, Sample},
};

const PACING: Pacing = Pacing { quiet: Duration::from_secs(5), window: Duration::from_mins(1) };
const OLDEST: &str = "adieu-calibrate-x-0";

/// The name and the grace period of each deleted pod.
type Deleted = Arc<Mutex<Vec<(String, Value)>>>;

fn pod(name: &str, metadata: &Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "uid": name},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    for (key, value) in metadata.as_object().unwrap() {
        pod["metadata"][key.as_str()] = value.clone();
    }
    serde_json::from_value(pod).unwrap()
}

/// An API server whose pods are ready as soon as they are created, and gone as soon as they are killed.
async fn canaries(origin: Instant) -> (Canaries, watch::Receiver<PodTimelines>, Deleted) {
    let (sender, timelines) = watch::channel(PodTimelines::default());
    let deleted = Deleted::default();
    let seen = deleted.clone();
    let client = client_of_bodies(move |method, target, body| {
        let path = target.split('?').next().unwrap();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let last = path.rsplit('/').next().unwrap();
        let event = match *method {
            Method::GET => {
                let from = "10.0.0.1";
                let line =
                    json!({"way": 0, "connections": "new", "afterMillis": 7, "time": "", "from": from});
                return Some((200, line));
            }
            Method::POST if last == "jobs" => {
                return Some((201, json!({"metadata": {"name": "adieu-calibrate-x", "uid": "1"}})));
            }
            Method::POST => Event::Apply(pod(body["metadata"]["name"].as_str().unwrap(), &json!({}))),
            _ => {
                seen.lock().unwrap().push((last.to_owned(), body["gracePeriodSeconds"].clone()));
                let terminating = pod(last, &json!({"deletionTimestamp": "2026-01-31T12:00:00Z"}));
                if body["gracePeriodSeconds"].is_null() {
                    Event::Apply(terminating)
                } else {
                    Event::Delete(terminating)
                }
            }
        };
        sender.send_modify(|timelines| timelines.pod_event(origin.elapsed(), &event));
        Some((200, json!({"metadata": {"name": last}})))
    });
    let image = Image { name: "adieu:1".to_owned(), pull_secret: None };
    let limit = PACING.window * 10;
    (Canaries::start(&client, "shop", &image, PACING, limit).await.unwrap(), timelines, deleted)
}

/// Adds a response of the oldest canary on new and on kept connections.
fn respond(states: &mut StreamStates) {
    let sample = Sample {
        due: Duration::ZERO,
        took: Duration::ZERO,
        connecting: Duration::ZERO,
        outcome: Outcome::Answered(200),
        pod: Some(OLDEST.to_owned()),
        peer: None,
    };
    for connections in Connections::ALL {
        states.add(Stream { way: 0, connections }, &sample, Instant::now());
    }
}

/// Adds such responses again and again.
async fn respond_always(states: &watch::Sender<StreamStates>) {
    loop {
        states.send_modify(respond);
        sleep(TICK).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_oldest_canary_is_observed_until_no_request_arrives_and_ends_by_itself() {
    let origin = Instant::now();
    let (canaries, timelines, deleted) = canaries(origin).await;
    for _ in 0..CANARIES {
        canaries.add().await.unwrap();
    }
    let (sender, states) = watch::channel(StreamStates::new(1));
    sender.send_modify(respond);
    let observer = Observer { canaries: &canaries, timelines, states, origin, pacing: PACING };
    observer.ready().await.unwrap();
    let CanaryTermination { pod, deleted: began, ended, log } = observer.terminate().await.unwrap();
    assert_eq!((pod.as_str(), log.len()), (OLDEST, 1));
    let observed = ended.checked_sub(began).unwrap();
    assert!(observed >= PACING.quiet && observed < PACING.quiet * 2, "{observed:?}");
    assert_eq!(*deleted.lock().unwrap(), [(OLDEST.to_owned(), Value::Null)]);
    // Another one has replaced it.
    assert_eq!(observer.oldest().unwrap().1, "adieu-calibrate-x-1");
    assert_eq!(observer.timelines.borrow().alive().count(), CANARIES);
}

#[tokio::test(start_paused = true)]
async fn a_canary_at_which_requests_still_arrive_is_gone_before_the_next_observation() {
    let origin = Instant::now();
    let (canaries, timelines, deleted) = canaries(origin).await;
    for _ in 0..CANARIES {
        canaries.add().await.unwrap();
    }
    let (sender, states) = watch::channel(StreamStates::new(1));
    let observer = Observer { canaries: &canaries, timelines, states, origin, pacing: PACING };
    observer.ready().await.unwrap();
    let terminated = tokio::select! {
        terminated = observer.terminate() => Some(terminated.unwrap()),
        () = respond_always(&sender) => None,
    };
    let CanaryTermination { deleted: began, ended, .. } = terminated.unwrap();
    let observed = ended.checked_sub(began).unwrap();
    assert!(observed >= PACING.window && observed < PACING.window * 2, "{observed:?}");
    let expected = [(OLDEST.to_owned(), Value::Null), (OLDEST.to_owned(), json!(1))];
    assert_eq!(*deleted.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn ways_without_a_canary_are_named() {
    let origin = Instant::now();
    let (canaries, timelines, _) = canaries(origin).await;
    let (_sender, states) = watch::channel(StreamStates::new(1));
    let observer = Observer { canaries: &canaries, timelines, states, origin, pacing: PACING };
    let names = ["NodePort at http://10.0.0.1:30080".to_owned()];
    let error = observer.settled(&names).await.unwrap_err().to_string();
    assert!(error.contains("through NodePort at http://10.0.0.1:30080 (no response)"), "{error}");
    let error = observer.ready().await.unwrap_err().to_string();
    let expected = "kubectl -n shop describe pods -l app.kubernetes.io/instance=adieu-calibrate-x";
    assert!(error.contains(expected), "{error}");
}
