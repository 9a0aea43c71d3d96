use std::sync::{Arc, Mutex};

use http::Method;
use serde_json::json;

use super::*;
use crate::runtime::test_support::{client_of_bodies, failure, not_found};

const PACING: Pacing = Pacing { quiet: Duration::from_secs(5), window: Duration::from_mins(1) };
const LIMIT: Duration = Duration::from_mins(10);

/// Requests other than GET: the method, the path and the body.
type Requests = Arc<Mutex<Vec<(Method, String, Value)>>>;

fn path(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

/// A client of an API server that stores nothing, and has one canary.
fn cluster() -> (Client, Requests) {
    let requests = Requests::default();
    let seen = requests.clone();
    let client = client_of_bodies(move |method, target, body| {
        let path = path(target);
        if *method == Method::GET && path.ends_with("/log") {
            let from = "10.0.0.1";
            let line = json!({"way": 0, "connections": "new", "afterMillis": 250, "time": "", "from": from});
            return Some((200, line));
        }
        if *method == Method::GET {
            let pod = json!({"metadata": {"name": "adieu-calibrate-x-0"}});
            return Some((200, json!({"metadata": {}, "items": [pod]})));
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        seen.lock().unwrap().push((method.clone(), path.to_owned(), body.clone()));
        if *method == Method::DELETE {
            return Some((200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})));
        }
        let mut created = body;
        match path.rsplit('/').next() {
            Some("jobs") => {
                created["metadata"]["name"] = json!("adieu-calibrate-x");
                created["metadata"]["uid"] = json!("1");
            }
            Some("services") => {
                created["spec"]["clusterIP"] = json!("10.0.0.9");
                created["spec"]["ports"][0]["nodePort"] = json!(30_080);
            }
            _ => {}
        }
        Some((201, created))
    });
    (client, requests)
}

async fn started() -> (Canaries, Requests) {
    let (client, requests) = cluster();
    let image = Image { name: "adieu:1".to_owned(), pull_secret: None };
    (Canaries::start(&client, "shop", &image, PACING, LIMIT).await.unwrap(), requests)
}

/// The bodies of the requests that created objects at this path.
fn created(requests: &Requests, path: &str) -> Vec<Value> {
    let requests = requests.lock().unwrap();
    let created = requests.iter().filter(|(method, at, _)| *method == Method::POST && at == path);
    created.map(|(_, _, body)| body.clone()).collect()
}

#[tokio::test]
async fn everything_is_owned_by_one_job() {
    let (canaries, requests) = started().await;
    canaries.add().await.unwrap();
    canaries.add().await.unwrap();
    let way = Way::Ingress { class: "nginx".to_owned() };
    let ways = [(Way::ClusterIp, None), (way, Some("https://shop.example.com/".to_owned()))];
    let targets = canaries.expose(&ways, &Exposed::default()).await.unwrap();
    let found: Vec<_> = targets.iter().map(|target| format!("{} {}", target.exposure, target.url)).collect();
    assert_eq!(found, ["cluster-ip http://10.0.0.9", "IngressClass/nginx https://shop.example.com"]);
    let stream = Stream { way: 1, connections: crate::calibration::Connections::New };
    let url = canaries.stream_url(&targets[1], stream);
    assert_eq!(url, "https://shop.example.com/adieu-calibrate-x/1/new");

    let pods = created(&requests, "/api/v1/namespaces/shop/pods");
    let ingresses = created(&requests, "/apis/networking.k8s.io/v1/namespaces/shop/ingresses");
    assert_eq!(pods[1]["metadata"]["name"], "adieu-calibrate-x-1");
    assert_eq!(ingresses[0]["spec"]["rules"][0]["host"], "shop.example.com");
    let services = created(&requests, "/api/v1/namespaces/shop/services");
    assert_eq!((pods.len(), services.len(), ingresses.len()), (2, 1, 1));
    for object in pods.iter().chain(&services).chain(&ingresses) {
        assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "1", "{object}");
    }
}

#[tokio::test]
async fn the_log_of_a_canary_has_its_arrivals() {
    let (canaries, _) = started().await;
    let log = canaries.log("adieu-calibrate-x-0").await.unwrap();
    assert_eq!(log.len(), 1, "{log:?}");
    assert_eq!(log[0].after_millis, 250);
}

#[tokio::test]
async fn the_canaries_and_the_job_are_removed() {
    let (canaries, requests) = started().await;
    canaries.remove().await.unwrap();
    let requests = requests.lock().unwrap();
    let deleted = requests.iter().filter(|(method, ..)| *method == Method::DELETE);
    let paths: Vec<_> = deleted.clone().map(|(_, path, _)| path.as_str()).collect();
    let expected = [
        "/api/v1/namespaces/shop/pods/adieu-calibrate-x-0",
        "/apis/batch/v1/namespaces/shop/jobs/adieu-calibrate-x",
    ];
    assert_eq!(paths, expected);
    let graces: Vec<_> = deleted.map(|(_, _, body)| body["gracePeriodSeconds"].clone()).collect();
    assert_eq!(graces, [json!(1), Value::Null]);
}

#[tokio::test]
async fn the_job_is_removed_although_the_canaries_cannot_be_listed() {
    let deleted = Arc::new(Mutex::new(Vec::new()));
    let seen = deleted.clone();
    let client = client_of_bodies(move |method, target, _| {
        Some(match *method {
            Method::POST => (201, json!({"metadata": {"name": "adieu-calibrate-x", "uid": "1"}})),
            Method::GET => (500, failure(500, "etcd has no leader")),
            _ => {
                seen.lock().unwrap().push(path(target).to_owned());
                (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
            }
        })
    });
    let image = Image { name: "adieu:1".to_owned(), pull_secret: None };
    let canaries = Canaries::start(&client, "shop", &image, PACING, LIMIT).await.unwrap();
    let error = canaries.remove().await.unwrap_err().to_string();
    assert!(error.contains("list the canaries") && error.contains("etcd has no leader"), "{error}");
    assert_eq!(*deleted.lock().unwrap(), ["/apis/batch/v1/namespaces/shop/jobs/adieu-calibrate-x"]);
}

#[tokio::test]
async fn a_failed_removal_names_the_command_and_the_deadline() {
    let client = client_of_bodies(|method, target, _| {
        Some(if *method == Method::POST {
            (201, json!({"metadata": {"name": "adieu-calibrate-x", "uid": "1"}}))
        } else if target.contains("/jobs/") {
            (500, failure(500, "etcd has no leader"))
        } else {
            (404, not_found())
        })
    });
    let image = Image { name: "adieu:1".to_owned(), pull_secret: None };
    let canaries = Canaries::start(&client, "shop", &image, PACING, LIMIT).await.unwrap();
    let error = canaries.remove().await.unwrap_err().to_string();
    for part in ["etcd has no leader", "kubectl -n shop delete job adieu-calibrate-x", "deadline of 600 s"] {
        assert!(error.contains(part), "{part} is missing in {error}");
    }
}
