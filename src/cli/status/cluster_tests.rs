use serde_json::{Value, json};

use super::*;
use crate::{
    api::TerminationOutcome,
    plan::{Workload, evaluate},
    runtime::test_support::{client, failure, not_found},
};

fn deployment(namespace: &str, name: &str, annotations: &Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": namespace, "uid": name, "annotations": annotations},
        "spec": {"template": {
            "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "web"}]},
        }},
    })
}

fn page(items: &[Value]) -> Value {
    json!({"metadata": {"resourceVersion": "1"}, "items": items})
}

const ALL: Selection<'static> =
    Selection { workloads: &[], namespace: None, labels: None, includes_not_managed: false };

/// The names of the listed workloads, with their states.
fn states(report: &Report) -> Vec<(&str, ManagementState)> {
    report.rows.iter().map(|row| (row.name.as_str(), row.status.state)).collect()
}

#[tokio::test]
async fn workloads_of_all_namespaces_are_listed_with_their_policies() {
    let on = json!({"adieu.dev/graceful": "true"});
    let items = [
        deployment("bank", "selected", &json!({})),
        deployment("kube-system", "dns", &on),
        deployment("shop", "other", &json!({})),
        deployment("shop", "web", &on),
    ];
    let policy = json!({
        "metadata": {"name": "all", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"selector": {}, "namespaceSelector": {"matchLabels": {"team": "bank"}}},
    });
    let namespace = json!({"metadata": {"name": "bank", "labels": {"team": "bank"}}});
    let client = client(move |_, target| {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Some(match path.rsplit('/').next().unwrap() {
            "deployments" if query.contains("continue=more") => (200, page(&items[2..])),
            "deployments" => {
                let metadata = json!({"resourceVersion": "1", "continue": "more"});
                (200, json!({"metadata": metadata, "items": items[..2]}))
            }
            "clustergracefulpolicies" => (200, page(std::slice::from_ref(&policy))),
            "namespaces" => (200, page(std::slice::from_ref(&namespace))),
            _ => (200, page(&[])),
        })
    });
    let (report, warnings) = read(&client, &ALL).await.unwrap();
    let expected = [("selected", ManagementState::Queued), ("web", ManagementState::NotInjected)];
    assert_eq!(states(&report), expected);
    assert_eq!(report.rows[0].status.managed_by, ["ClusterGracefulPolicy/all"]);
    assert_eq!((report.not_managed, report.is_complete, warnings), (2, true, vec![]));

    let all = read(&client, &Selection { includes_not_managed: true, ..ALL }).await.unwrap().0;
    let expected = [
        ("selected", ManagementState::Queued),
        ("dns", ManagementState::NotManaged),
        ("other", ManagementState::NotManaged),
        ("web", ManagementState::NotInjected),
    ];
    assert_eq!((states(&all), all.not_managed), (expected.to_vec(), 2));
}

#[tokio::test]
async fn missing_rights_and_kinds_are_reported() {
    let client_without = |denied: &'static [&'static str]| {
        client(move |_, target| {
            let kind = target.split('?').next().unwrap().rsplit('/').next().unwrap();
            Some(match kind {
                _ if denied.contains(&kind) => (403, failure(403, "forbidden")),
                "gracefulpolicies" | "clustergracefulpolicies" => (404, not_found()),
                "statefulsets" => (200, page(&[deployment("shop", "db", &json!({}))])),
                _ => (200, page(&[])),
            })
        })
    };
    let selection = Selection { includes_not_managed: true, ..ALL };
    let (report, warnings) = read(&client_without(&["deployments"]), &selection).await.unwrap();
    assert_eq!(states(&report), [("db", ManagementState::NotManaged)]);
    assert!(!report.is_complete);
    assert!(warnings[0].contains("CRDs of adieu are not installed"), "{warnings:?}");
    assert_eq!(warnings[1], "Deployments cannot be listed: forbidden");

    let (report, warnings) = read(&client_without(&["gracefulpolicies"]), &selection).await.unwrap();
    assert_eq!(states(&report), [("db", ManagementState::Unknown)]);
    assert!(!report.is_complete);
    assert!(warnings[0].contains("GracefulPolicies cannot be listed"), "{warnings:?}");

    let denied = read(&client_without(&["deployments", "statefulsets", "daemonsets"]), &ALL).await;
    let error = denied.unwrap_err().to_string();
    assert!(error.starts_with("no workloads can be listed: Deployments cannot be listed"), "{error}");
}

#[tokio::test]
async fn a_given_workload_is_listed_although_it_is_not_managed() {
    let object = deployment("shop", "web", &json!({}));
    let client = client(move |_, target| {
        Some(match target.split('?').next().unwrap().rsplit('/').next().unwrap() {
            "web" => (200, object.clone()),
            "shop" => (200, json!({"metadata": {"name": "shop"}})),
            "gracefulpolicies" | "clustergracefulpolicies" | "services" => (200, page(&[])),
            _ => (404, not_found()),
        })
    });
    let error = async |namespace: &str, workload: &str| {
        let (namespace, workloads) = (namespace.to_owned(), [workload.parse::<Reference>().unwrap()]);
        let selection = Selection { namespace: Some(&namespace), workloads: &workloads, ..ALL };
        let read = read(&client, &selection).await;
        read.map(|(report, _)| report.rows[0].name.clone()).map_err(|error| error.to_string())
    };
    assert_eq!(error("shop", "deploy/web").await, Ok("web".to_owned()));
    let missing = error("shop", "deploy/api").await.unwrap_err();
    assert_eq!(missing, "Deployment \"api\" not found in namespace \"shop\"");
    let missing = error("shpo", "deploy/web").await.unwrap_err();
    assert!(missing.contains("the namespace \"shpo\" does not exist"), "{missing}");
}

#[tokio::test]
async fn a_workload_that_is_too_large_for_the_operator_is_not_injected() {
    let mut large = deployment("shop", "large", &json!({"adieu.dev/graceful": "true"}));
    large["spec"]["template"]["spec"]["containers"][0]["env"] = json!(vec![json!({"name": "A"}); 30_000]);
    let broken = json!({"metadata": {"name": 1}});
    let client = client(move |_, target| {
        let items = [large.clone(), broken.clone()];
        let is_deployments = target.contains("/deployments");
        Some((200, if is_deployments { page(&items) } else { page(&[]) }))
    });
    let (report, warnings) = read(&client, &ALL).await.unwrap();
    assert_eq!(states(&report), [("large", ManagementState::NotInjected)]);
    let reason = report.rows[0].status.reason.as_ref().unwrap();
    assert!(reason.contains("exceed the limit"), "{reason}");
    assert!(warnings[0].starts_with("a Deployment cannot be read"), "{warnings:?}");
    assert!(!report.is_complete);
}

#[tokio::test]
async fn the_last_termination_is_that_of_the_workload_and_missing_profiles_are_no_problem() {
    let on = json!({"adieu.dev/graceful": "true"});
    let workloads = ["web", "idle", "again"].map(|name| deployment("shop", name, &on));
    let profile = |name: &str, uid: &str| {
        json!({
            "metadata": {"name": format!("deployment-{name}"), "namespace": "shop", "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid},
            ]},
            "spec": {"kind": "Deployment", "name": name},
            "status": {"lastOutcome": "Killed", "lastTerminationTime": "2026-01-31T12:00:00Z"},
        })
    };
    let mut older = profile("idle", "idle");
    older["status"].as_object_mut().unwrap().remove("lastOutcome");
    let profiles =
        [profile("web", "web"), older, profile("again", "an-earlier-one"), json!({"metadata": {}})];
    let client_with = |code: u16| {
        let (workloads, profiles) = (workloads.clone(), profiles.clone());
        client(move |_, target| {
            Some(match target.split('?').next().unwrap().rsplit('/').next().unwrap() {
                "deployments" => (200, page(&workloads)),
                "terminationprofiles" if code == 200 => (200, page(&profiles)),
                "terminationprofiles" => (code, failure(code, "no profiles")),
                _ => (200, page(&[])),
            })
        })
    };
    let (report, warnings) = read(&client_with(200), &ALL).await.unwrap();
    let outcomes: Vec<_> = report.rows.iter().map(|row| row.last_termination.clone()).collect();
    let killed =
        LastTermination { outcome: TerminationOutcome::Killed, time: "2026-01-31T12:00:00Z".to_owned() };
    assert_eq!(outcomes, [Some(killed), None, None]);
    assert_eq!((report.has_terminations, warnings), (true, vec![]));
    for (code, warned) in [(403, 0), (404, 0), (500, 1)] {
        let (report, warnings) = read(&client_with(code), &ALL).await.unwrap();
        assert_eq!((report.has_terminations, warnings.len()), (false, warned), "{code}: {warnings:?}");
        assert!(report.is_complete && report.rows.iter().all(|row| row.last_termination.is_none()));
    }
}

#[tokio::test]
async fn an_injected_drain_that_is_too_short_for_the_exposures_is_a_state() {
    let on = json!({"adieu.dev/graceful": "true"});
    let injected = |name: &str| {
        let mut workload = deployment("shop", name, &on);
        let object: DynamicObject = serde_json::from_value(workload.clone()).unwrap();
        let evaluation = evaluate(&Workload::of(Kind::Deployment, &object), &NamespaceContext::default());
        workload["spec"]["template"] = evaluation.template.unwrap();
        workload
    };
    let workloads = ["web", "worker"].map(injected);
    let group = json!({"name": "networking.k8s.io", "versions": [
        {"groupVersion": "networking.k8s.io/v1", "version": "v1"},
    ]});
    let ingresses = json!({"kind": "Ingress", "name": "ingresses", "namespaced": true, "singularName": "",
        "verbs": ["get", "list", "watch"]});
    let ingress = json!({
        "metadata": {"name": "shop", "namespace": "shop"},
        "spec": {"ingressClassName": "nginx", "defaultBackend": {"service": {"name": "web"}}},
    });
    let service =
        json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"selector": {"app": "web"}}});
    let client = client(move |_, target| {
        Some(match target.split('?').next().unwrap() {
            "/apis" => (200, json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]})),
            "/apis/networking.k8s.io/v1" => {
                let version = "networking.k8s.io/v1";
                (
                    200,
                    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version,
                    "resources": [ingresses]}),
                )
            }
            path if path.ends_with("/ingresses") => (200, page(std::slice::from_ref(&ingress))),
            path if path.ends_with("/services") => (200, page(std::slice::from_ref(&service))),
            path if path.ends_with("/deployments") => (200, page(&workloads)),
            _ => (200, page(&[])),
        })
    });
    let (report, warnings) = read(&client, &ALL).await.unwrap();
    let expected = [("web", ManagementState::DrainTooShort), ("worker", ManagementState::Injected)];
    assert_eq!((states(&report), warnings), (expected.to_vec(), vec![]));
    let reason = report.rows[0].status.reason.as_ref().unwrap();
    assert!(reason.contains("Ingress shop/shop (class nginx) needs 30 s"), "{reason}");
}
