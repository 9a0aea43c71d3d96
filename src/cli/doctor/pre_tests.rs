use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use super::*;
use crate::runtime::test_support::{client_of_bodies, failure, not_found};

/// A cluster.
#[derive(Clone)]
struct Cluster {
    version: &'static str,
    /// The resource that the user may not create.
    denied: &'static str,
    kinds: &'static [&'static str],
    webhook: &'static str,
    /// CRDs; `None` if they may not be listed.
    crds: Option<Value>,
}

impl Cluster {
    /// One in which adieu can be installed.
    fn new() -> Self {
        let other =
            json!({"metadata": {"name": "policies.kyverno.io"}, "spec": {"names": {"shortNames": ["pol"]}}});
        Self {
            version: "v1.36.2",
            denied: "",
            kinds: &KINDS,
            webhook: "validate.kyverno.svc",
            crds: Some(json!([other])),
        }
    }

    fn answer(&self, target: &str, body: &[u8]) -> (u16, Value) {
        let list = |items: Value| (200, json!({"metadata": {}, "items": items}));
        match target.split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default() {
            "version" => (
                200,
                json!({
                    "major": "1", "minor": "36", "gitVersion": self.version, "gitCommit": "", "gitTreeState": "",
                    "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
                }),
            ),
            "selfsubjectaccessreviews" => {
                let review: Value = serde_json::from_slice(body).unwrap();
                let attributes = &review["spec"]["resourceAttributes"];
                assert_eq!(attributes["verb"], "create");
                let allowed = attributes["resource"] != self.denied;
                (201, json!({"metadata": {}, "spec": {}, "status": {"allowed": allowed}}))
            }
            "v1" => {
                let resource = |kind: &&str| json!({"name": "", "singularName": "", "namespaced": false, "kind": kind, "verbs": []});
                let resources: Vec<_> = self.kinds.iter().map(resource).collect();
                (200, json!({"groupVersion": "admissionregistration.k8s.io/v1", "resources": resources}))
            }
            "mutatingwebhookconfigurations" => list(json!([{
                "metadata": {"name": "found"},
                "webhooks": [{
                    "name": self.webhook, "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {},
                }],
            }])),
            "customresourcedefinitions" => match &self.crds {
                Some(crds) => list(crds.clone()),
                None => (403, failure(403, "you may not list them")),
            },
            _ => (404, not_found()),
        }
    }

    async fn checked(self) -> Vec<Check> {
        let client = client_of_bodies(move |_, target, body| Some(self.answer(target, body)));
        run_checks(&client, "adieu-system").await
    }
}

#[tokio::test]
async fn a_cluster_without_conflicts_passes_all_checks() {
    let checks: Vec<_> = Cluster::new().checked().await.into_iter().map(Result::unwrap).collect();
    assert_eq!(
        checks,
        [
            "the API server is reachable, and its version is supported: v1.36.2",
            "you may create the objects of the chart in the namespace adieu-system",
            "MutatingWebhookConfiguration and ValidatingAdmissionPolicy are served",
            "adieu is not installed yet",
            "no CRD of adieu is installed yet",
            "no other kind has the short names grpol, cgrpol, tprof",
        ]
    );
}

#[tokio::test]
async fn each_conflict_is_a_problem_or_a_warning_with_its_remedy() {
    let crd = |name: &str, annotations: Value, short: &str| {
        json!([{
            "metadata": {"name": name, "annotations": annotations}, "spec": {"names": {"shortNames": [short]}},
        }])
    };
    let of_helm = json!({"meta.helm.sh/release-name": "old", "meta.helm.sh/release-namespace": "ops"});
    let policies = "gracefulpolicies.adieu.dev";
    let with = |crds: Value| Cluster { crds: Some(crds), ..Cluster::new() };
    for (cluster, is_warning, expected, remedy) in [
        (Cluster { version: "v1.29.15+k3s1", ..Cluster::new() }, false, "v1.29.15+k3s1", "adieu inject"),
        (
            Cluster { denied: "clusterroles", ..Cluster::new() },
            false,
            "create clusterroles.rbac.authorization.k8s.io in the whole cluster",
            "cluster-admin",
        ),
        (Cluster { denied: "namespaces", ..Cluster::new() }, false, "create namespaces", "cluster-admin"),
        (
            Cluster { kinds: &["MutatingWebhookConfiguration"], ..Cluster::new() },
            false,
            "does not serve ValidatingAdmissionPolicy",
            "Enable",
        ),
        (Cluster { webhook: "annotated.adieu.dev", ..Cluster::new() }, false, "found", "helm upgrade"),
        (with(crd(policies, json!({}), "grpol")), true, "belongs to no Helm release", "crds.enabled"),
        (with(crd(policies, of_helm, "grpol")), true, "release old in the namespace ops", "crds.enabled"),
        (with(crd("groups.example.com", json!({}), "grpol")), true, "grpol of groups.example.com", "in full"),
        (Cluster { crds: None, ..Cluster::new() }, true, "you may not list them", "account"),
    ] {
        let problems: Vec<_> = cluster.checked().await.into_iter().filter_map(Result::err).collect();
        let [problem] = problems.as_slice() else { panic!("{expected}: {problems:?}") };
        assert_eq!(problem.is_warning(), is_warning, "{problem}");
        let said = problem.to_string();
        let (what, what_to_do) = said.split_once("\n  ").unwrap();
        assert!(what.contains(expected) && what_to_do.contains(remedy), "{said}");
    }
}

/// The kinds of the chart that are created only with values other than the default.
const OPTIONAL: [&str; 7] = [
    "certificates",
    "configmaps",
    "issuers",
    "jobs",
    "networkpolicies",
    "prometheusrules",
    "servicemonitors",
];

#[test]
fn the_rights_are_those_for_the_kinds_of_the_chart() {
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/adieu/templates");
    // The CRDs are files.
    let mut created = BTreeSet::from(["customresourcedefinitions".to_owned()]);
    for file in fs::read_dir(templates).unwrap().map(|entry| entry.unwrap().path()) {
        let text = if file.is_file() { fs::read_to_string(file).unwrap() } else { String::new() };
        for kind in text.lines().filter_map(|line| line.strip_prefix("kind: ")) {
            let kind = kind.to_lowercase();
            created.insert(
                kind.strip_suffix('y').map_or_else(|| kind.clone() + "s", |start| format!("{start}ies")),
            );
        }
    }
    created.retain(|resource| !OPTIONAL.contains(&resource.as_str()));
    let checked = IN_CLUSTER.iter().chain(&IN_NAMESPACE).map(|(_, resource)| (*resource).to_owned());
    assert_eq!(created, checked.collect::<BTreeSet<_>>());
}
