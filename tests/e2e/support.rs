//! A namespace for each test, and waiting for conditions.

use std::{
    fmt::Debug,
    net::SocketAddr,
    panic::{AssertUnwindSafe, resume_unwind},
    process::{Output, Stdio},
    time::Duration,
};

use futures::FutureExt as _;
use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Namespace, Node, Pod},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::ApiResource,
};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    process::Command,
    time::{Instant, sleep},
};

/// The limit for a condition in the cluster.
pub const LIMIT: Duration = Duration::from_mins(2);
/// The interval between checks.
const POLL: Duration = Duration::from_millis(100);

/// A namespace in the cluster.
pub struct Scene {
    pub client: Client,
    pub namespace: String,
}

impl Scene {
    pub async fn new() -> Self {
        Self::labelled(&json!({})).await
    }

    pub async fn labelled(labels: &Value) -> Self {
        let client = Client::try_default().await.expect("KUBECONFIG leads to a cluster");
        let namespace = json!({"metadata": {"generateName": "adieu-e2e-", "labels": labels}});
        let namespace: Namespace = serde_json::from_value(namespace).unwrap();
        let api = Api::all(client.clone());
        let namespace = api.create(&PostParams::default(), &namespace).await.unwrap().name_any();
        Self { client, namespace }
    }

    /// A copy, for another task.
    pub fn again(&self) -> Self {
        Self { client: self.client.clone(), namespace: self.namespace.clone() }
    }

    /// Removes the namespace. After a failure it is kept for inspection.
    pub async fn end(self) {
        let api: Api<Namespace> = Api::all(self.client);
        api.delete(&self.namespace, &DeleteParams::default()).await.unwrap();
    }

    pub fn api(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let gvk = kube::core::GroupVersionKind::gvk(group, version, kind);
        let resource = match kind {
            "GracefulPolicy" => ApiResource::from_gvk_with_plural(&gvk, "gracefulpolicies"),
            _ => ApiResource::from_gvk(&gvk),
        };
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Creates an object, and returns the API server's answer.
    pub async fn create(&self, object: &Value) -> Value {
        self.try_create(object).await.unwrap()
    }

    pub async fn try_create(&self, object: &Value) -> Result<Value, kube::Error> {
        let text = |field: &str| object[field].as_str().unwrap();
        let api = self.api(text("apiVersion"), text("kind"));
        let created =
            api.create(&PostParams::default(), &serde_json::from_value(object.clone()).unwrap()).await?;
        Ok(serde_json::to_value(created).unwrap())
    }

    /// Creates an object with `dryRun=All`.
    pub async fn try_create_dry(&self, object: &Value) -> Result<DynamicObject, kube::Error> {
        let text = |field: &str| object[field].as_str().unwrap();
        let api = self.api(text("apiVersion"), text("kind"));
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        // Untyped, because a typed object would lose nulls.
        let request =
            kube::core::Request::new(api.resource_url()).create(&dry_run, object.to_string().into_bytes());
        self.client.request(request.unwrap()).await
    }

    /// Runs kubectl in the namespace. Returns its standard output and error.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self.run("kubectl", &arguments, None).await.unwrap()
    }

    /// Runs kubectl with an object on its standard input.
    pub async fn kubectl_with(&self, arguments: &[&str], input: &Value) -> Result<String, String> {
        let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self.run("kubectl", &arguments, Some(input.to_string())).await
    }

    /// Runs a client of the cluster in the namespace. It is an error if it fails.
    pub async fn run(
        &self,
        program: &str,
        arguments: &[String],
        input: Option<String>,
    ) -> Result<String, String> {
        let mut command = Command::new(program);
        command.args(["--namespace", &self.namespace]).args(arguments);
        run(command, input.unwrap_or_default()).await
    }

    pub async fn patch(&self, kind: &str, name: &str, patch: &Value) -> Result<Value, kube::Error> {
        let api = self.api(if kind == "GracefulPolicy" { "adieu.dev/v1alpha1" } else { "apps/v1" }, kind);
        let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(serde_json::to_value(patched).unwrap())
    }

    /// Sets (or with `None` removes) an annotation, as `kubectl annotate` does.
    pub async fn annotate(
        &self,
        kind: &str,
        name: &str,
        key: &str,
        value: Option<&str>,
    ) -> Result<Value, kube::Error> {
        self.patch(kind, name, &json!({"metadata": {"annotations": {format!("adieu.dev/{key}"): value}}}))
            .await
    }

    /// The node addresses of a `NodePort` Service.
    pub async fn node_ports(&self, service: &Value) -> Vec<SocketAddr> {
        let port = service["spec"]["ports"][0]["nodePort"].as_u64().unwrap().try_into().unwrap();
        let nodes: Api<Node> = Api::all(self.client.clone());
        let addresses = |node: Node| node.status.and_then(|status| status.addresses).unwrap_or_default();
        let nodes = nodes.list(&ListParams::default()).await.unwrap();
        let all = nodes.into_iter().flat_map(addresses).filter(|address| address.type_ == "InternalIP");
        all.map(|internal| SocketAddr::new(internal.address.parse().unwrap(), port)).collect()
    }

    pub async fn deployment(&self, name: &str) -> Value {
        serde_json::to_value(self.api("apps/v1", "Deployment").get(name).await.unwrap()).unwrap()
    }

    /// These Deployments, from one list request.
    pub async fn deployments(&self, names: &[&str]) -> Vec<Value> {
        let all = self.api("apps/v1", "Deployment").list(&ListParams::default()).await.unwrap();
        let named =
            all.items.into_iter().filter(|deployment| names.contains(&deployment.name_any().as_str()));
        named.map(|deployment| serde_json::to_value(deployment).unwrap()).collect()
    }

    pub async fn policy(&self, name: &str) -> Value {
        serde_json::to_value(self.api("adieu.dev/v1alpha1", "GracefulPolicy").get(name).await.unwrap())
            .unwrap()
    }

    /// The number of rollouts of a Deployment.
    pub async fn revisions(&self, name: &str) -> usize {
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &self.namespace);
        let all = api.list(&ListParams::default().labels(&format!("app={name}"))).await.unwrap();
        all.items.len()
    }

    /// Waits until every pod of a Deployment is new and available, and no old one is left.
    pub async fn rolled_out(&self, name: &str) {
        self.rolled_out_within(LIMIT, name).await;
    }

    /// The same with another limit, for many or slow pods.
    pub async fn rolled_out_within(&self, limit: Duration, name: &str) {
        within(limit, &format!("the rollout of {name}"), || async {
            is_rolled_out(&self.deployment(name).await)
        })
        .await;
    }
}

/// The pods of a Deployment.
pub async fn pods_of(scene: &Scene, name: &str) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    pods.list(&ListParams::default().labels(&format!("app={name}"))).await.unwrap().items
}

/// Whether every pod of a Deployment is new and available, and no old one is left.
pub fn is_rolled_out(deployment: &Value) -> bool {
    let (wanted, status) = (&deployment["spec"]["replicas"], &deployment["status"]);
    let counts = ["replicas", "updatedReplicas", "availableReplicas"];
    counts.iter().all(|count| &status[count] == wanted) && is_observed(deployment)
}

/// Whether a workload's controller has observed its last change.
pub fn is_observed(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

/// Runs a program. Returns its standard output and error.
pub async fn run(command: Command, input: String) -> Result<String, String> {
    let Output { status, stdout, stderr } = output(command, input).await;
    let said = [stdout, stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if status.success() { Ok(said) } else { Err(said) }
}

/// Runs a program.
pub async fn output(mut command: Command, input: String) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    child.wait_with_output().await.unwrap()
}

/// The image of the sample application, which the runner loads into the cluster.
pub fn image() -> String {
    std::env::var("ADIEU_TEST_IMAGE").expect("ADIEU_TEST_IMAGE names the sample application's image")
}

/// A Deployment of the sample application.
pub fn web(name: &str, annotations: &Value) -> Value {
    workload("Deployment", name, annotations)
}

/// A workload of the sample application.
pub fn workload(kind: &str, name: &str, annotations: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{
                    "name": "web", "image": image(), "imagePullPolicy": "IfNotPresent",
                    "ports": [{"containerPort": 8080, "name": "http"}],
                }]},
            },
        },
    });
    if kind == "StatefulSet" {
        object["spec"]["serviceName"] = json!(name);
    }
    object
}

/// A user's change of the pod template that is unrelated to adieu.
pub fn release() -> Value {
    json!({"spec": {"template": {"metadata": {"annotations": {"release": "2"}}}}})
}

/// Seconds of the injected sleep in a workload's first container.
pub fn drain(workload: &Value) -> Option<i64> {
    workload["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64()
}

/// A workload's grace period in seconds.
pub fn grace_period(workload: &Value) -> Option<i64> {
    workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_i64()
}

/// Runs `act`, and then `restore`, also if `act` panics: for changes that affect other tests.
pub async fn restoring(act: impl Future<Output = ()>, restore: impl Future<Output = ()>) {
    let outcome = AssertUnwindSafe(act).catch_unwind().await;
    restore.await;
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// Waits for a condition.
pub async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    within(LIMIT, what, condition).await;
}

/// Waits for a condition within a limit.
pub async fn within<F: Future<Output = bool>>(limit: Duration, what: &str, condition: impl Fn() -> F) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < limit, "waited {} s for {what}", limit.as_secs());
        sleep(POLL).await;
    }
}

/// Waits for a value.
pub async fn found<T, F: Future<Output = Option<T>>>(what: &str, value: impl Fn() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = value().await {
            return value;
        }
        assert!(started.elapsed() < LIMIT, "waited {} s for {what}", LIMIT.as_secs());
        sleep(POLL).await;
    }
}

/// Waits until a value is the expected one.
pub async fn becomes<T: Debug + PartialEq, F: Future<Output = T>>(
    limit: Duration,
    what: &str,
    expected: T,
    value: impl Fn() -> F,
) {
    let started = Instant::now();
    loop {
        let found = value().await;
        if found == expected {
            return;
        }
        let waited = limit.as_secs();
        assert!(started.elapsed() < limit, "waited {waited} s for {what}: {expected:?}, and found {found:?}");
        sleep(POLL).await;
    }
}
