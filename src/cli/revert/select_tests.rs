use http::Method;
use serde_json::{Value, json};

use super::*;
use crate::runtime::test_support::{client, failure, not_found};

const POLICIES: &str = "/apis/adieu.dev/v1alpha1/gracefulpolicies";
const CLUSTER_POLICIES: &str = "/apis/adieu.dev/v1alpha1/clustergracefulpolicies";

/// A workload that was injected because of an annotation.
fn injected(name: &str, namespace: &str, created: &str, annotations: &Value) -> Value {
    let mut object = plain(name, namespace, created, annotations);
    let parsed: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let graceful = [("adieu.dev/graceful".to_owned(), "true".to_owned())].into();
    let workload = Workload { annotations: &graceful, ..Workload::of(Kind::Deployment, &parsed) };
    object["spec"]["template"] = plan::evaluate(&workload, &NamespaceContext::default()).template.unwrap();
    object
}

/// A workload whose rollout is complete.
fn plain(name: &str, namespace: &str, created: &str, annotations: &Value) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": namespace, "uid": name, "generation": 1, "annotations": annotations,
            "creationTimestamp": created,
        },
        "spec": {"replicas": 1, "template": {
            "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "web"}]},
        }},
        "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "observedGeneration": 1},
    })
}

fn rolling(mut object: Value) -> Value {
    object["status"]["availableReplicas"] = json!(0);
    object
}

/// A workload with fields that a killed run owns.
fn owned(mut object: Value) -> Value {
    object["metadata"]["managedFields"] = json!([{"manager": "adieu", "operation": "Update"}]);
    object
}

fn page(items: &[Value]) -> Value {
    json!({"metadata": {"resourceVersion": "1"}, "items": items})
}

fn all_namespaces() -> Selection {
    Selection { workload: None, namespace: None, labels: None }
}

/// The selection from these Deployments, with these policies.
async fn found(selection: &Selection, deployments: Vec<Value>, policies: Vec<Value>) -> Selected {
    let client = client(move |method, target| {
        assert_eq!(method, Method::GET);
        Some(match target.split('?').next().unwrap() {
            path if path.ends_with("/deployments") => (200, page(&deployments)),
            POLICIES => (200, page(&policies)),
            CLUSTER_POLICIES => (404, failure(404, "the server could not find the requested resource")),
            _ => (200, page(&[])),
        })
    });
    select(&client, selection).await.unwrap()
}

fn names(selected: &Selected) -> Vec<(&str, &Action)> {
    selected.targets.iter().map(|target| (target.name.as_str(), &target.action)).collect()
}

#[tokio::test]
async fn targets_are_rollouts_in_progress_then_the_oldest_then_broken_workloads() {
    let none = json!({});
    let out = json!({"adieu.dev/graceful": "false"});
    let deployments = vec![
        injected("young", "shop", "2026-03-01T00:00:00Z", &none),
        injected("old", "shop", "2026-01-01T00:00:00Z", &none),
        rolling(injected("broken", "shop", "2025-01-01T00:00:00Z", &none)),
        rolling(plain("begun", "shop", "2026-02-01T00:00:00Z", &out)),
        plain("done", "shop", "2026-02-01T00:00:00Z", &out),
        owned(plain("killed", "shop", "2026-02-02T00:00:00Z", &out)),
        plain("not-opted-in", "shop", "2026-02-01T00:00:00Z", &none),
        plain("waiting", "shop", "2026-02-01T00:00:00Z", &json!({"adieu.dev/pending": "NextUpdate"})),
        injected("dns", "kube-system", "2020-01-01T00:00:00Z", &none),
    ];
    let selected = found(&all_namespaces(), deployments, vec![]).await;
    let expected = [
        ("begun", &Action::Wait),
        ("killed", &Action::Wait),
        ("waiting", &Action::Annotate),
        ("old", &Action::Restore),
        ("young", &Action::Restore),
        ("broken", &Action::Restore),
    ];
    assert_eq!(names(&selected), expected);
    assert!(selected.warnings.is_empty(), "{:?}", selected.warnings);
}

#[tokio::test]
async fn workloads_of_policies_are_opted_out_and_irrevertible_ones_are_skipped() {
    let none = json!({});
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all", "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "selected"}}},
    });
    let unreadable_policy =
        json!({"metadata": {"name": "odd", "namespace": "shop"}, "spec": {"drainSeconds": "x"}});
    let mut unreadable = plain("unreadable", "shop", "2026-01-01T00:00:00Z", &none);
    unreadable["spec"]["template"]["metadata"]["annotations"] = json!({INJECTED: "{"});
    let mut controlled = injected("controlled", "shop", "2026-01-01T00:00:00Z", &none);
    controlled["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "flagger.app/v1beta1", "kind": "Can\u{1b}[2Jary\n", "name": "web\r", "uid": "c", "controller": true}]);
    let mut deleted = injected("deleted", "shop", "2026-01-01T00:00:00Z", &none);
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
    let selected_by_policy = plain("selected", "shop", "2026-01-01T00:00:00Z", &none);
    let elsewhere = plain("selected", "bank", "2026-01-01T00:00:00Z", &none);
    let all = vec![unreadable, controlled, deleted, selected_by_policy, elsewhere];
    let undecodable_policy = json!({"metadata": {"name": 5}});
    let selected = found(&all_namespaces(), all, vec![undecodable_policy, unreadable_policy, policy]).await;
    let [controlled, annotated, unreadable] = &selected.targets[..] else { panic!("{selected:?}") };
    assert_eq!((annotated.name.as_str(), &annotated.action), ("selected", &Action::Annotate));
    assert!(
        matches!(&controlled.action, Action::Skip(reason) if reason.to_string().contains("Can[2Jary web controls it"))
    );
    assert!(matches!(&unreadable.action, Action::Skip(reason) if reason.to_string().contains(INJECTED)));
}

#[tokio::test]
async fn policies_that_can_not_be_listed_cause_a_warning_only() {
    let web = injected("web", "shop", "2026-01-01T00:00:00Z", &json!({}));
    let client = client(move |_, target| {
        Some(if target.contains("adieu.dev") {
            (403, failure(403, "gracefulpolicies.adieu.dev is forbidden"))
        } else if target.contains("/deployments") {
            (200, page(std::slice::from_ref(&web)))
        } else {
            (200, page(&[]))
        })
    });
    let selection = Selection { namespace: Some("shop".into()), ..all_namespaces() };
    let selected = select(&client, &selection).await.unwrap();
    assert_eq!(names(&selected), [("web", &Action::Restore)]);
    assert_eq!(selected.warnings.len(), 2);
    assert!(selected.warnings[0].contains("forbidden"), "{:?}", selected.warnings);
}

#[tokio::test]
async fn lists_use_pages_and_labels() {
    let client = client(move |_, target| {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if !path.ends_with("/apis/apps/v1/namespaces/shop/deployments") {
            return Some((200, page(&[])));
        }
        assert!(
            query.contains("labelSelector=tier%3Dfront")
                && (query.contains("limit=25") || query.contains("limit=100")),
            "{query}"
        );
        let (name, next) = if query.contains("continue=more") { ("b", "") } else { ("a", "more") };
        let items = [injected(name, "shop", "2026-01-01T00:00:00Z", &json!({}))];
        Some((200, json!({"metadata": {"resourceVersion": "1", "continue": next}, "items": items})))
    });
    let selection =
        Selection { namespace: Some("shop".into()), labels: Some("tier=front".into()), workload: None };
    let selected = select(&client, &selection).await.unwrap();
    assert_eq!(names(&selected), [("a", &Action::Restore), ("b", &Action::Restore)]);
}

#[tokio::test]
async fn policies_are_read_page_by_page() {
    let client = client(move |_, target| {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let by_policy = |name: &str| json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"selector": {"matchLabels": {"app": name}}}});
        Some(match path {
            POLICIES => {
                assert!(query.contains("limit=25") || query.contains("limit=100"), "{query}");
                let (name, next) = if query.contains("continue=more") { ("b", "") } else { ("a", "more") };
                (
                    200,
                    json!({"metadata": {"resourceVersion": "1", "continue": next}, "items": [by_policy(name)]}),
                )
            }
            _ if path.ends_with("/deployments") => {
                let items = ["a", "b"].map(|name| plain(name, "shop", "2026-01-01T00:00:00Z", &json!({})));
                (200, page(&items))
            }
            _ => (200, page(&[])),
        })
    });
    let selected = select(&client, &all_namespaces()).await.unwrap();
    assert_eq!(names(&selected), [("a", &Action::Annotate), ("b", &Action::Annotate)]);
}

#[tokio::test]
async fn a_given_workload_is_opted_out_however_it_was_opted_in() {
    let named = async |object: Option<Value>| {
        let client = client(move |_, target| {
            Some(match (&object, target.contains("/deployments/web")) {
                (Some(object), true) => (200, object.clone()),
                (None, true) => (404, not_found()),
                _ => (200, page(&[])),
            })
        });
        let workload = Some("deploy/web".parse().unwrap());
        select(&client, &Selection { workload, namespace: Some("shop".into()), labels: None }).await
    };
    let created = "2026-01-01T00:00:00Z";
    let selected = named(Some(plain("web", "shop", created, &json!({})))).await.unwrap();
    assert_eq!(names(&selected), [("web", &Action::Annotate)]);
    let broken = named(Some(rolling(injected("web", "shop", created, &json!({}))))).await.unwrap();
    assert_eq!(
        broken.targets[0].before,
        Before::Settled,
        "the injection may be the cause, so nothing is waited for"
    );
    let out = plain("web", "shop", created, &json!({"adieu.dev/graceful": "false"}));
    assert_eq!(names(&named(Some(out)).await.unwrap()), []);
    let error = named(None).await.unwrap_err().to_string();
    assert_eq!(error, "Deployment \"web\" not found in namespace \"shop\"");
    let mut large = plain("web", "shop", created, &json!({}));
    large["spec"]["template"]["spec"]["containers"][0]["env"] = json!(vec![json!({"name": "A"}); 30_000]);
    let error = format!("{:#}", named(Some(large)).await.unwrap_err());
    assert!(error.starts_with("cannot get Deployment shop/web: it takes "), "{error}");
}

#[tokio::test]
async fn workloads_that_are_opted_in_again_are_found_except_where_the_run_stopped() {
    let created = "2026-01-01T00:00:00Z";
    let on = json!({"adieu.dev/graceful": "true"});
    let names =
        [("restored", "shop"), ("new", "shop"), ("pending", "shop"), ("restored", "bank"), ("new", "bank")];
    let deployments: Vec<_> =
        names.iter().map(|(name, namespace)| injected(name, namespace, created, &on)).collect();
    let targets = found(&all_namespaces(), deployments.clone(), vec![]).await.targets;
    let planned: BTreeSet<_> = targets.iter().map(Target::key).filter(|(_, _, name)| name != "new").collect();
    let done = |failed_in: &str| -> Vec<(Target, Outcome)> {
        let restored = targets.iter().filter(|target| target.name == "restored").cloned();
        let outcome = |target: &Target| {
            if target.namespace == failed_in {
                Outcome::Failed { reason: String::new(), was_broken: false }
            } else {
                Outcome::Restored
            }
        };
        restored.map(|target| (target.clone(), outcome(&target))).collect()
    };
    let again = async |done: &[(Target, Outcome)]| {
        let deployments = deployments.clone();
        let client = client(move |_, target| match target.split('?').next().unwrap() {
            path if path.ends_with("/deployments") => Some((200, page(&deployments))),
            path if path.contains("/adieu.dev/") => Some((404, not_found())),
            _ => Some((200, page(&[]))),
        });
        let again = opted_in_again(&client, &all_namespaces(), &planned, done).await.unwrap();
        again
            .into_iter()
            .map(|target| format!("{}/{}", target.namespace, target.name))
            .collect::<BTreeSet<_>>()
    };
    let all = ["bank/new", "bank/restored", "shop/new", "shop/restored"].map(str::to_owned);
    assert_eq!(again(&done("")).await, all.into(), "one that was not started stays so");
    assert_eq!(again(&done("bank")).await, ["shop/new", "shop/restored"].map(str::to_owned).into());
    let mut unreachable = done("");
    unreachable[0].1 = Outcome::Unknown { reason: String::new(), unreachable: true };
    assert!(again(&unreachable).await.is_empty());
}

#[tokio::test]
async fn a_workload_that_takes_much_memory_is_skipped() {
    let on = json!({"adieu.dev/graceful": "true"});
    let mut large = injected("large", "shop", "2026-01-01T00:00:00Z", &on);
    large["spec"]["template"]["spec"]["containers"][0]["env"] = json!(vec![json!({"name": "A"}); 30_000]);
    let targets = found(&all_namespaces(), vec![large], vec![]).await.targets;
    assert_eq!(targets[0].action, Action::Skip(SkipReason::TooLarge));
}
