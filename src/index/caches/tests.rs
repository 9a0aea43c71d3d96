use kube::runtime::watcher;
use serde_json::{Value, json};

use super::{super::workloads::CACHE_LAG, *};
use crate::{api::labels::INJECTION, runtime::test_support::client};

fn namespace(name: &str, labels: &Value) -> Namespace {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap()
}

fn policy(name: &str, spec: &Value) -> ClusterGracefulPolicy {
    serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy", "metadata": {"name": name},
        "spec": spec,
    }))
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_policy_does_not_block_readiness() {
    let client = client(|_, target| {
        let policy = |name: &str, budget: Value| {
            json!({
                "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "1", "generation": 1},
                "spec": {"disruptionBudget": {"maxUnavailable": budget}},
            })
        };
        let list = |items: Value| (200, json!({"metadata": {"resourceVersion": "1"}, "items": items}));
        let version = json!({"major": "1", "minor": "40", "gitVersion": "", "gitCommit": "", "gitTreeState": "",
            "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
        match target {
            "/version" => Some((200, version)),
            watch if watch.contains("watch=") => None,
            policies if policies.contains("/gracefulpolicies") => {
                Some(list(json!([policy("bad", json!([1])), policy("good", json!(1))])))
            }
            _ => Some(list(json!([]))),
        }
    });
    let unusable = UnusableObjects::default();
    let (caches, follow) = Caches::follow(&client, Workloads::fixed(vec![]), &unusable, vec![]);
    let synced = async {
        tokio::select! { () = follow => {}, synced = caches.synced() => synced.unwrap() }
    };
    Box::pin(timeout(Duration::from_mins(1), synced)).await.expect("the end");
    let policies = caches.namespace_context("shop").policies;
    assert_eq!(policies.iter().map(|policy| policy.name_any()).collect::<Vec<_>>(), ["good"]);
    assert!(unusable.has_policy_for("shop"));
}

#[test]
fn cluster_policies_apply_by_namespace_labels() {
    let of = |selector: Value| json!({"namespaceSelector": selector});
    let team = |operator: &str| json!({"matchExpressions": [{"key": "team", "operator": operator, "values": ["shop"]}]});
    let policies = vec![
        policy("all", &json!({})),
        policy("empty", &of(json!({}))),
        policy("in", &of(team("In"))),
        policy("not-in", &of(team("NotIn"))),
        policy("both", &of(json!({"matchLabels": {"team": "shop", "tier": "front"}}))),
        policy("unreadable", &of(team("Near"))),
    ];
    let caches = Caches::fixed(vec![], vec![], vec![]).with_cluster_policies(policies).with_namespaces(vec![
        namespace("shop", &json!({"team": "shop", INJECTION: "enabled"})),
        namespace("front", &json!({"team": "shop", "tier": "front", INJECTION: "disabled"})),
        namespace("bank", &json!({"team": "bank"})),
    ]);
    for (namespace, expected, injection_enabled) in [
        ("shop", &["all", "empty", "in"][..], true),
        ("front", &["all", "both", "empty", "in"], false),
        ("bank", &["all", "empty", "not-in"], false),
        // It is not cached yet.
        ("new", &["all", "empty", "not-in"], true),
    ] {
        let around = caches.namespace_context(namespace);
        let mut names: Vec<_> = around.cluster_policies.iter().map(|policy| policy.name_any()).collect();
        names.sort();
        assert_eq!(names, expected, "{namespace}");
        assert_eq!(around.injection_enabled, injection_enabled, "{namespace}");
        assert_eq!(caches.are_policies_known(namespace), namespace != "new");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_namespace_is_awaited_if_a_policy_selects_by_labels() {
    let (namespaces, mut writer) = namespaced();
    let (sender, policies_changed) = watch::channel(());
    let caches = Caches { namespaces, policies_changed, ..Caches::fixed(vec![], vec![], vec![]) };
    let with = |selector: Value| {
        let policies =
            vec![policy("all", &json!({})), policy("some", &json!({"namespaceSelector": selector}))];
        caches.clone().with_cluster_policies(policies)
    };
    assert!(with(json!({})).wait_for_policies("shop", CACHE_LAG).await);
    let selecting = with(json!({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}));
    assert!(!selecting.wait_for_policies("shop", CACHE_LAG).await);
    let create = async {
        tokio::time::sleep(CACHE_LAG / 2).await;
        writer.apply(&watcher::Event::Apply(namespace("shop", &json!({"team": "shop"}))));
        sender.send_replace(());
    };
    assert!(tokio::join!(selecting.wait_for_policies("shop", CACHE_LAG), create).0);
}
