//! Configuration files of the components. JSON is YAML, so they are JSON.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
use serde_json::{Value, json};

use super::files;
use super::layout::{API_PORT, Cluster, DNS_SERVICE, Node, POD_NETWORK};
use super::pki::{Pair, Pki, serving_name};
use super::proxy_mode::ProxyMode;
use crate::debian;
use crate::image;

/// More pods than a node here can run; its network has twice as many addresses.
const MAX_PODS: u32 = 1000;

/// Writes the files of a node.
pub fn write(cluster: &Cluster, node: &Node) -> Result<()> {
    let pki = Pki::of(cluster);
    if node.has_control_plane() {
        files::write_json(&audit_policy(node), &audit_policy_content())?;
        write_kubeconfig(cluster, &cluster.kubeconfig(), &pki.pair("admin"))?;
        for user in ["kube-controller-manager", "kube-scheduler"] {
            write_kubeconfig(cluster, &kubeconfig(node, user), &pki.pair(user))?;
        }
    }
    write_kubeconfig(cluster, &kubeconfig(node, "kube-proxy"), &pki.pair("kube-proxy"))?;
    write_kubeconfig(cluster, &kubeconfig(node, "kubelet"), &pki.pair(&node.name()))?;
    files::write_json(&kubelet(node), &kubelet_content(node, &pki))?;
    write_kube_proxy(node, proxy_mode(cluster)?)?;
    files::write_json(&network_folder(node).join("10-adieu.conflist"), &network_content(node))?;
    files::write(&containerd(node), containerd_content(node)?)
}

/// The kubeconfig of a component on a node.
pub fn kubeconfig(node: &Node, component: &str) -> PathBuf {
    node.folder().join("config").join(format!("{component}.kubeconfig"))
}

/// The audit policy of the API server.
pub fn audit_policy(node: &Node) -> PathBuf {
    node.folder().join("config/audit-policy.yaml")
}

/// The kubelet's configuration.
pub fn kubelet(node: &Node) -> PathBuf {
    node.folder().join("config/kubelet.yaml")
}

/// kube-proxy's configuration.
pub fn kube_proxy(node: &Node) -> PathBuf {
    node.folder().join("config/kube-proxy.yaml")
}

/// Writes kube-proxy's configuration.
pub fn write_kube_proxy(node: &Node, mode: ProxyMode) -> Result<()> {
    files::write_json(&kube_proxy(node), &kube_proxy_content(node, mode))
}

/// The mode of kube-proxy in the cluster, as the first node has it; the default until that is configured.
pub fn proxy_mode(cluster: &Cluster) -> Result<ProxyMode> {
    let file = kube_proxy(&cluster.first_node());
    if !file.exists() {
        return Ok(ProxyMode::default());
    }
    let content: Value = files::read_json(&file)?;
    ProxyMode::named(content["mode"].as_str().unwrap_or_default())
}

/// containerd's configuration.
pub fn containerd(node: &Node) -> PathBuf {
    node.folder().join("config/containerd.toml")
}

fn network_folder(node: &Node) -> PathBuf {
    node.folder().join("config/cni")
}

/// A self-contained kubeconfig.
fn write_kubeconfig(cluster: &Cluster, file: &Path, pair: &Pair) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let base64 = |path: &Path| read(path).map(ByteString);
    let name = cluster.netns();
    let server = format!("https://{}:{API_PORT}", cluster.first_node().ip());
    let content = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {
            "server": server,
            "certificate-authority-data": base64(&Pki::of(cluster).ca())?,
        }}],
        "users": [{"name": name, "user": {
            "client-certificate-data": base64(&pair.certificate)?,
            "client-key-data": base64(&pair.key)?,
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    });
    files::write_json(file, &content)
}

/// Only requests of pods are logged, because only their permissions are checked.
fn audit_policy_content() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        ],
    })
}

/// Everything that affects pod termination keeps its default.
fn kubelet_content(node: &Node, pki: &Pki) -> Value {
    let serving = pki.pair(&serving_name(&node.name()));
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki.ca()},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": serving.certificate,
        "tlsPrivateKeyFile": serving.key,
        "containerRuntimeEndpoint": format!("unix://{}", node.containerd_socket().display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", node.cgroup()),
        "failCgroupV1": false,
        "failSwapOn": false,
        // Lowering it needs a capability that containers often lack.
        "oomScoreAdj": 0,
        "enforceNodeAllocatable": [],
        // A developer's disk often exceeds the kubelet's thresholds.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "containerLogMaxSize": "5Mi",
        "maxPods": MAX_PODS,
        "resolvConf": "",
        "clusterDomain": "cluster.local",
        // Without an address every pod gets a warning event.
        "clusterDNS": [DNS_SERVICE],
        // The default is outside the node's own folders.
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    })
}

/// `minSyncPeriod` and similar fields keep their defaults: they determine how long
/// a terminating pod still gets requests.
fn kube_proxy_content(node: &Node, mode: ProxyMode) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode.name(),
        "clusterCIDR": POD_NETWORK,
        "hostnameOverride": node.name(),
        "clientConnection": {"kubeconfig": kubeconfig(node, "kube-proxy")},
        // These settings belong to the machine, not to the namespace: unchanged.
        "conntrack": {"maxPerCore": 0, "min": 0},
    })
}

/// `ptp` and not `bridge`: packets between pods are then routed, so that
/// kube-proxy's rules apply to them on kernels without `br_netfilter` too.
fn network_content(node: &Node) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "adieu",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": node.pod_network()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

fn containerd_content(node: &Node) -> Result<String> {
    let folder = node.folder();
    let file_system =
        statfs(&folder).with_context(|| format!("cannot get the file system of {}", folder.display()))?;
    // overlayfs doesn't support overlayfs as a lower layer here.
    let snapshotter =
        if file_system.filesystem_type() == OVERLAYFS_SUPER_MAGIC { "native" } else { "overlayfs" };
    let quoted = |path: &Path| json!(path).to_string();
    Ok(format!(
        r#"version = 2
root = {root}
state = "/run/containerd"
# Would create a folder in /opt.
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
address = {socket}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
# Without CAP_SYS_RESOURCE a lower score than the own is rejected.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {plugins}
conf_dir = {network}

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"#,
        root = quoted(&folder.join("containerd")),
        socket = quoted(&node.containerd_socket()),
        pause = image::PAUSE,
        plugins = quoted(&debian::plugin_folder()?),
        network = quoted(&network_folder(node)),
    ))
}
