//! The processes of a node and their arguments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::configs;
use super::layout::{API_PORT, Cluster, Node, SERVICE_NETWORK};
use super::pki::{Pki, serving_name};
use super::probe::Probe;
use super::spec::{Component, Spec};
use crate::debian;

/// Not reachable from outside the namespace, so it needs no TLS.
const ETCD: &str = "http://127.0.0.1:2379";

/// The specification for the supervisor of `node`.
pub fn spec(cluster: &Cluster, node: &Node) -> Result<Spec> {
    let mut components = Vec::new();
    if node.has_control_plane() {
        components.push(etcd(cluster, node));
    }
    components.push(containerd(node)?);
    if node.has_control_plane() {
        components.push(api_server(cluster, node));
        components.push(controller_manager(cluster, node));
        components.push(scheduler(cluster, node));
    }
    components.push(kubelet(cluster, node));
    components.push(kube_proxy(cluster, node));
    let folder = node.folder();
    Ok(Spec {
        netns: node.netns(),
        visible: cluster.workspace().target().to_owned(),
        binds: vec![
            (folder.join("kubelet"), PathBuf::from("/var/lib/kubelet")),
            (folder.join("pods"), PathBuf::from("/var/log/pods")),
        ],
        environment: BTreeMap::from([
            ("PATH".into(), debian::search_path(&cluster.workspace().bin())),
            ("HOME".into(), "/root".into()),
        ]),
        components,
        folder,
    })
}

/// The readiness probe of a component.
pub fn probe(node: &Node, component: &str) -> Probe {
    let url = match component {
        "containerd" => return Probe::Socket(node.containerd_socket()),
        "etcd" => format!("{ETCD}/health"),
        "kube-apiserver" => format!("https://{}:{API_PORT}/readyz", node.ip()),
        "kube-controller-manager" => "https://127.0.0.1:10257/healthz".to_owned(),
        "kube-scheduler" => "https://127.0.0.1:10259/healthz".to_owned(),
        "kubelet" => "http://127.0.0.1:10248/healthz".to_owned(),
        _ => "http://127.0.0.1:10256/healthz".to_owned(),
    };
    Probe::Url(url)
}

fn etcd(cluster: &Cluster, node: &Node) -> Component {
    let mut etcd = Draft::new(cluster, "etcd");
    etcd.path("data-dir", &node.folder().join("etcd"));
    etcd.set("name", node.name());
    etcd.set("listen-client-urls", ETCD);
    etcd.set("advertise-client-urls", ETCD);
    etcd.set("listen-peer-urls", "http://127.0.0.1:2380");
    etcd.set("initial-advertise-peer-urls", "http://127.0.0.1:2380");
    etcd.set("initial-cluster", format!("{}=http://127.0.0.1:2380", node.name()));
    // No data needs to survive a power failure.
    etcd.set("unsafe-no-fsync", "true");
    etcd.component()
}

fn containerd(node: &Node) -> Result<Component> {
    Ok(Component {
        name: "containerd".into(),
        program: debian::program("containerd").context("containerd is missing")?,
        arguments: vec!["--config".into(), configs::containerd(node).display().to_string()],
    })
}

fn api_server(cluster: &Cluster, node: &Node) -> Component {
    let pki = Pki::of(cluster);
    let mut server = Draft::new(cluster, "kube-apiserver");
    server.set("advertise-address", node.ip().to_string());
    server.set("secure-port", API_PORT.to_string());
    server.set("etcd-servers", ETCD);
    server.set("authorization-mode", "Node,RBAC");
    server.set("enable-admission-plugins", "NodeRestriction");
    server.set("allow-privileged", "true");
    server.set("service-cluster-ip-range", SERVICE_NETWORK);
    server.path("client-ca-file", &pki.ca());
    server.path("requestheader-client-ca-file", &pki.front_proxy_ca());
    server.set("requestheader-allowed-names", "front-proxy-client");
    server.set("requestheader-username-headers", "X-Remote-User");
    server.set("requestheader-group-headers", "X-Remote-Group");
    server.set("requestheader-extra-headers-prefix", "X-Remote-Extra-");
    server.pair(&pki, &serving_name("kube-apiserver"), ["tls-cert-file", "tls-private-key-file"]);
    server.pair(&pki, "kube-apiserver", ["kubelet-client-certificate", "kubelet-client-key"]);
    server.path("kubelet-certificate-authority", &pki.ca());
    // Without it, logs and exec resolve the node's name by DNS.
    server.set("kubelet-preferred-address-types", "InternalIP");
    // By default it runs until the last watch ends, a minute after the signal.
    server.set("shutdown-watch-termination-grace-period", "1s");
    server.set("service-account-issuer", "https://kubernetes.default.svc.cluster.local");
    server.path("service-account-signing-key-file", &pki.service_account_key());
    server.path("service-account-key-file", &pki.service_account_public_key());
    server.path("audit-policy-file", &configs::audit_policy(node));
    server.path("audit-log-path", &cluster.audit_log());
    server.component()
}

fn controller_manager(cluster: &Cluster, node: &Node) -> Component {
    let pki = Pki::of(cluster);
    let mut manager = Draft::new(cluster, "kube-controller-manager");
    manager.controller(cluster, node);
    manager.path("root-ca-file", &pki.ca());
    manager.path("service-account-private-key-file", &pki.service_account_key());
    manager.set("use-service-account-credentials", "true");
    // As in large clusters: by default a controller sends 20 requests per second.
    manager.set("kube-api-qps", "200");
    manager.set("kube-api-burst", "400");
    // The pod networks of nodes are in their own configuration.
    manager.set("allocate-node-cidrs", "false");
    manager.component()
}

fn scheduler(cluster: &Cluster, node: &Node) -> Component {
    let mut scheduler = Draft::new(cluster, "kube-scheduler");
    scheduler.controller(cluster, node);
    scheduler.component()
}

fn kubelet(cluster: &Cluster, node: &Node) -> Component {
    let mut kubelet = Draft::new(cluster, "kubelet");
    kubelet.path("config", &configs::kubelet(node));
    kubelet.path("kubeconfig", &configs::kubeconfig(node, "kubelet"));
    kubelet.set("hostname-override", node.name());
    kubelet.set("node-ip", node.ip().to_string());
    kubelet.component()
}

fn kube_proxy(cluster: &Cluster, node: &Node) -> Component {
    let mut proxy = Draft::new(cluster, "kube-proxy");
    proxy.path("config", &configs::kube_proxy(node));
    proxy.component()
}

/// A builder of components.
struct Draft {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
}

impl Draft {
    fn new(cluster: &Cluster, name: &'static str) -> Self {
        Self { name, program: cluster.workspace().bin().join(name), arguments: Vec::new() }
    }

    fn set(&mut self, flag: &str, value: impl AsRef<str>) {
        self.arguments.push(format!("--{flag}={}", value.as_ref()));
    }

    fn path(&mut self, flag: &str, value: &Path) {
        self.set(flag, value.display().to_string());
    }

    fn pair(&mut self, pki: &Pki, name: &str, [certificate, key]: [&str; 2]) {
        let pair = pki.pair(name);
        self.path(certificate, &pair.certificate);
        self.path(key, &pair.key);
    }

    /// Flags that all controllers of the control plane have.
    fn controller(&mut self, cluster: &Cluster, node: &Node) {
        let pki = Pki::of(cluster);
        let kubeconfig = configs::kubeconfig(node, self.name);
        self.path("kubeconfig", &kubeconfig);
        self.path("authentication-kubeconfig", &kubeconfig);
        self.path("authorization-kubeconfig", &kubeconfig);
        self.path("client-ca-file", &pki.ca());
        self.pair(&pki, &serving_name(self.name), ["tls-cert-file", "tls-private-key-file"]);
        self.set("bind-address", "127.0.0.1");
        // There is only one instance.
        self.set("leader-elect", "false");
    }

    fn component(self) -> Component {
        Component { name: self.name.into(), program: self.program, arguments: self.arguments }
    }
}
