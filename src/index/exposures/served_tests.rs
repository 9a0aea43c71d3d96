use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::runtime::test_support::{client, failure};

fn groups(names: &[&str]) -> Value {
    let version = |name: &str| json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
    let group = |name: &&str| json!({"name": name, "versions": [version(name)]});
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": names.iter().map(group).collect::<Vec<_>>()})
}

fn ingresses() -> (u16, Value) {
    let resources = [json!({"kind": "Ingress", "name": "ingresses", "namespaced": true,
        "singularName": "", "verbs": ["get", "list", "watch"]})];
    let version = "networking.k8s.io/v1";
    (
        200,
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}),
    )
}

#[test]
fn only_crds_of_known_kinds_are_of_interest() {
    for (name, expected) in [
        ("ingressroutes.traefik.io", true),
        ("ingressroutes.traefik.containo.us", true),
        ("middlewares.traefik.io", false),
        ("gracefulpolicies.adieu.dev", false),
    ] {
        let crd = json!({"metadata": {"name": name, "resourceVersion": "1"}}).to_string();
        assert_eq!(ServedCrd::decode(crd.as_bytes()).unwrap().is_relevant(), expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_discovery_is_repeated_and_a_change_of_a_crd_leads_to_some() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    let client = client(move |_, target| {
        Some(match target {
            "/apis" => match counted.fetch_add(1, Ordering::Relaxed) {
                0 => (500, failure(500, "etcd has no leader")),
                _ => (200, groups(&["networking.k8s.io"])),
            },
            _ => ingresses(),
        })
    });
    let kinds: Vec<&'static Kind> = KINDS.iter().collect();
    let causes = ChangeSet::default();
    let (sender, mut found) = watch::channel(None::<Served>);
    causes.add(Cause::Listed);
    let check = async {
        let began = Instant::now();
        found.wait_for(Option::is_some).await.unwrap();
        assert!(began.elapsed() >= RETRY_DELAY[0]);
        let served = found.borrow_and_update().clone().unwrap();
        assert_eq!(served.into_keys().collect::<Vec<_>>(), ["ingresses.networking.k8s.io"]);
        assert_eq!(requests.load(Ordering::Relaxed), 2);
        sleep(DENIED_RETRY).await;
        assert_eq!(requests.load(Ordering::Relaxed), 2, "nothing changed");
        causes.add(Cause::Changed);
        sleep(DENIED_RETRY).await;
        assert_eq!(requests.load(Ordering::Relaxed), 2 + 1 + DELAYS.len());
        assert!(!found.has_changed().unwrap(), "the same kinds are served");
    };
    tokio::select! {
        () = follow_served(&client, &kinds, &causes, &sender) => unreachable!(),
        () = check => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_no_longer_served_is_discovered_again() {
    let requests = AtomicUsize::new(0);
    let client = client(move |_, target| {
        Some(match target {
            "/apis" => match requests.fetch_add(1, Ordering::Relaxed) {
                1 => (200, groups(&[])),
                _ => (200, groups(&["networking.k8s.io"])),
            },
            _ => ingresses(),
        })
    });
    let kinds: Vec<&'static Kind> = KINDS.iter().collect();
    let causes = ChangeSet::default();
    let (sender, mut found) = watch::channel::<Option<Served>>(None);
    let check = async {
        for count in [1, 0] {
            causes.add(Cause::Listed);
            found.wait_for(|found| found.as_ref().is_some_and(|found| found.len() == count)).await.unwrap();
        }
        found.wait_for(|found| found.as_ref().is_some_and(|found| found.len() == 1)).await.unwrap();
    };
    tokio::select! {
        () = follow_served(&client, &kinds, &causes, &sender) => unreachable!(),
        checked = timeout(DENIED_RETRY, check) => checked.expect("the kind is served again"),
    }
}
