//! The memory that each object of a typical cluster takes. Only what is asked of the allocator counts, without its own
//! overhead, and without the queues of the controllers.

use std::{pin::pin, time::Duration};

use adieu::{
    index::{ChangeSet, Index, caches::Caches},
    plan::Kind,
};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use serde_json::json;
use tokio::{sync::watch, time::timeout};

use crate::{DEPLOYMENTS, MEMORY, POLICIES, SERVICES, list, measured, object, server::ApiServer};

/// How many bytes a Deployment takes in the caches at most.
const DEPLOYMENT_LIMIT: usize = 1_800;
/// How many bytes a Service takes in the caches at most.
const SERVICE_LIMIT: usize = 2_300;
/// How many bytes the evaluation of a Deployment takes at most that waits for a rollout because of a policy.
const EVALUATION_LIMIT: usize = 1_300;

const DEPLOYMENT_COUNT: usize = 1_000;
const SERVICE_COUNT: usize = 1_000;
/// Objects of a kind in each namespace.
const IN_NAMESPACE: usize = 20;

/// A Deployment as the API server sends it, but in lines.
const DEPLOYMENT: &str = r#"
    {"metadata":{"name":"NAME","namespace":"NAMESPACE","uid":"UID","resourceVersion":"VERSION","generation":3,
    "creationTimestamp":"2026-01-31T12:00:00Z","labels":{"app":"NAME","team":"shop"},
    "annotations":{"deployment.kubernetes.io/revision":"2"},
    "managedFields":[{"manager":"kubectl","operation":"Update","apiVersion":"apps/v1","time":"2026-01-31T12:00:00Z",
    "fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:replicas":{}}}}]},
    "spec":{"replicas":10,"selector":{"matchLabels":{"app":"NAME"}},
    "template":{"metadata":{"labels":{"app":"NAME","team":"shop"}},
    "spec":{"containers":[{"name":"app","image":"registry.example.com/shop/NAME:1.2.3",
    "ports":[{"name":"http","containerPort":8080,"protocol":"TCP"}],
    "env":[{"name":"LOG_LEVEL","value":"info"},{"name":"DATABASE","value":"postgres://db:5432/shop"}],
    "resources":{"limits":{"memory":"512Mi"},"requests":{"cpu":"200m","memory":"384Mi"}},
    "readinessProbe":{"httpGet":{"path":"/ready","port":8080,"scheme":"HTTP"},"timeoutSeconds":1,
    "periodSeconds":5,"successThreshold":1,"failureThreshold":3},
    "terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File",
    "imagePullPolicy":"IfNotPresent"}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,
    "dnsPolicy":"ClusterFirst","securityContext":{},"schedulerName":"default-scheduler"}},
    "strategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":"25%","maxSurge":"25%"}},
    "revisionHistoryLimit":10,"progressDeadlineSeconds":600},
    "status":{"observedGeneration":3,"replicas":10,"updatedReplicas":10,"readyReplicas":10,"availableReplicas":10,
    "conditions":[{"type":"Available","status":"True","lastUpdateTime":"2026-01-31T12:00:40Z",
    "lastTransitionTime":"2026-01-31T12:00:40Z","reason":"MinimumReplicasAvailable",
    "message":"Deployment has minimum availability."},
    {"type":"Progressing","status":"True","lastUpdateTime":"2026-01-31T12:00:40Z",
    "lastTransitionTime":"2026-01-31T12:00:02Z","reason":"NewReplicaSetAvailable",
    "message":"ReplicaSet \"NAME-6f9c8b7d45\" has successfully progressed."}]}}
"#;

fn namespace(number: usize) -> String {
    format!("team-{}", number / IN_NAMESPACE)
}

fn deployment(number: usize) -> Vec<Bytes> {
    let text: String = DEPLOYMENT.lines().map(str::trim).collect();
    let text = text.replace("NAMESPACE", &namespace(number)).replace("NAME", &format!("web-{number}"));
    let text = text.replace("UID", &format!("6f1d2c3b-4a59-4e68-9b7a-{number:012x}"));
    vec![text.replace("VERSION", &(100_000 + number).to_string()).into()]
}

fn service(number: usize) -> Vec<Bytes> {
    let name = format!("web-{number}");
    let spec = json!({
        "selector": {"app": name}, "type": "ClusterIP", "clusterIP": "10.96.10.20", "clusterIPs": ["10.96.10.20"],
        "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
        "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "sessionAffinity": "None",
    });
    let fields = json!({"uid": format!("0a1b2c3d-4e5f-4a6b-8c7d-{number:012x}"), "labels": {"app": name}});
    object(&namespace(number), &name, fields, spec)
}

/// The policy of a namespace.
fn policy(number: usize) -> Vec<Bytes> {
    let namespace = namespace(number * IN_NAMESPACE);
    object(&namespace, "all", json!({}), json!({"selector": {}, "drainSeconds": 10}))
}

/// The index once it has evaluated all workloads, and its consumers have taken all changes.
async fn evaluated(caches: &Caches) -> Index {
    let (index, (_leads, is_leader)) = (Index::default(), watch::channel(true));
    let mut version = index.version();
    let is_complete = async {
        while !index.is_complete() {
            version.changed().await.unwrap();
        }
    };
    tokio::select! {
        () = index.run(caches, is_leader) => unreachable!(),
        complete = timeout(Duration::from_mins(10), is_complete) => complete.unwrap(),
    }
    take(index.changes());
    for is_cluster_scoped in [false, true] {
        take(index.changed_policies(is_cluster_scoped));
    }
    for kind in Kind::ALL {
        take(index.urgent_changes(kind));
        take(index.other_changes(kind));
    }
    for (key, _) in index.all() {
        index.drop_waiting(&key);
    }
    index
}

fn take<T: Ord + Send + 'static>(changes: ChangeSet<T>) {
    let mut changes = pin!(changes.stream(Duration::ZERO));
    while changes.next().now_or_never().flatten().is_some() {}
}

#[test]
fn typical_objects_take_little_memory_each() {
    measured(async {
        let left = async |server| list(server).await.2[1];
        let none = left(ApiServer::default()).await;
        let of_each = |left: usize, count: usize| left.saturating_sub(none) / count;
        let deployments = || ApiServer::default().with(DEPLOYMENTS, DEPLOYMENT_COUNT, deployment);
        let deployment = of_each(left(deployments()).await, DEPLOYMENT_COUNT);
        let services = ApiServer::default().with(SERVICES, SERVICE_COUNT, service);
        let service = of_each(left(services).await, SERVICE_COUNT);

        let with_policies = deployments().with(POLICIES, DEPLOYMENT_COUNT / IN_NAMESPACE, policy);
        let (caches, ..) = list(with_policies).await;
        let before = MEMORY.current_usage();
        let index = evaluated(&caches).await;
        let evaluation = (MEMORY.current_usage() - before) / DEPLOYMENT_COUNT;
        eprintln!("a Deployment takes {deployment} B, a Service {service} B, an evaluation {evaluation} B");
        assert_eq!(index.all().len(), DEPLOYMENT_COUNT);
        assert!(index.all().iter().all(|(_, evaluated)| evaluated.desired.desired_template.is_some()));
        assert!(deployment < DEPLOYMENT_LIMIT, "a Deployment takes {deployment} B");
        assert!(service < SERVICE_LIMIT, "a Service takes {service} B");
        assert!(evaluation < EVALUATION_LIMIT, "an evaluation takes {evaluation} B");
    });
}
