//! Names, addresses and folders of a cluster and its nodes.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};

use crate::workspace::Workspace;

/// The network of the nodes. Every cluster has its own namespace, so all use the same addresses.
pub const NODE_PREFIX: u8 = 24;
/// The network of the pods.
pub const POD_NETWORK: &str = "10.244.0.0/16";
/// The network of Services.
pub const SERVICE_NETWORK: &str = "10.96.0.0/16";
/// The Service `kubernetes` in the namespace `default`: the first address of the network.
pub const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The DNS server in the configuration of pods. There is none.
pub const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The port of the API server.
pub const API_PORT: u16 = 6443;
/// More nodes than a developer's machine can run; the pods' /16 has space for 32.
pub const MAX_NODES: u8 = 8;

/// A /21 holds 2,046 pods.
pub const POD_PREFIX: u8 = 21;
/// The kernel's limit for the path of a Unix socket, without the final zero.
const SOCKET_PATH_LIMIT: usize = 107;
const NAME_LIMIT: usize = 20;

/// The name of a cluster, a short DNS label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// The name of another cluster, with a `suffix`.
    pub fn beside(&self, suffix: &str) -> Self {
        let kept: String = self.0.chars().take(NAME_LIMIT - 1 - suffix.len()).collect();
        Self(format!("{kept}-{suffix}"))
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let edges = !text.starts_with('-') && !text.ends_with('-');
        if text.is_empty() || text.len() > NAME_LIMIT || !text.chars().all(inner) || !edges {
            return Err(format!(
                "a cluster's name is 1 to {NAME_LIMIT} of a-z, 0-9 and -, and neither begins nor ends with -"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A cluster, running or not.
#[derive(Clone, Debug)]
pub struct Cluster {
    name: Name,
    workspace: Workspace,
}

impl Cluster {
    /// The cluster with this name in this repository.
    pub fn new(name: Name, workspace: Workspace) -> Self {
        Self { name, workspace }
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The repository it belongs to.
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// Its folder.
    pub fn folder(&self) -> PathBuf {
        self.workspace.clusters().join(self.name.to_string())
    }

    /// The lock that is held while the cluster is started or stopped; outside its folder, which is removed.
    pub fn lock_file(&self) -> PathBuf {
        self.workspace.clusters().join(format!("{}.lock", self.name))
    }

    /// The logs of a failed start, which are kept.
    pub fn kept_logs(&self) -> PathBuf {
        self.workspace.clusters().join(format!("{}.logs", self.name))
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder().join("kubeconfig")
    }

    /// The audit log of requests of pods, as JSON lines.
    pub fn audit_log(&self) -> PathBuf {
        self.folder().join("audit.log")
    }

    /// The network namespace of the first node, as listed by `ip netns`.
    pub fn netns(&self) -> String {
        format!("adieu-{}", self.name)
    }

    /// The node with the control plane.
    pub fn first_node(&self) -> Node {
        Node::new(self, 0)
    }

    /// Every possible node, the control plane first.
    pub fn possible_nodes(&self) -> Vec<Node> {
        (0..MAX_NODES).map(|index| Node::new(self, index)).collect()
    }

    /// Its nodes: those with a folder.
    pub fn nodes(&self) -> Vec<Node> {
        self.possible_nodes().into_iter().take_while(|node| node.folder().exists()).collect()
    }
}

/// A node of the cluster, in its own namespaces.
#[derive(Clone, Debug)]
pub struct Node {
    index: u8,
    cluster: Cluster,
}

impl Node {
    fn new(cluster: &Cluster, index: u8) -> Self {
        Self { index, cluster: cluster.clone() }
    }

    /// Whether etcd, the API server and the controllers run here.
    pub fn has_control_plane(&self) -> bool {
        self.index == 0
    }

    /// The name of the Node object.
    pub fn name(&self) -> String {
        format!("node-{}", u16::from(self.index) + 1)
    }

    /// Its address.
    pub fn ip(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 88, 0, self.index + 1)
    }

    /// The MAC address of its interface, stable because neighbours cache it.
    pub fn hardware_address(&self) -> Vec<u8> {
        // The first byte marks it as locally administered.
        [[0x02, 0x00].as_slice(), &self.ip().octets()].concat()
    }

    /// The network of its pods, with [`POD_PREFIX`] bits.
    pub fn pod_addresses(&self) -> Ipv4Addr {
        let size = 1 << (24 - POD_PREFIX);
        Ipv4Addr::new(10, 244, self.index * size, 0)
    }

    /// The same in CIDR notation.
    pub fn pod_network(&self) -> String {
        format!("{}/{POD_PREFIX}", self.pod_addresses())
    }

    /// Its network namespace.
    pub fn netns(&self) -> String {
        if self.index == 0 {
            self.cluster.netns()
        } else {
            format!("{}-{}", self.cluster.netns(), self.name())
        }
    }

    /// The cgroup of its pods, below the root of every hierarchy.
    pub fn cgroup(&self) -> String {
        format!("{}-{}", self.cluster.netns(), self.name())
    }

    /// Its state on disk.
    pub fn folder(&self) -> PathBuf {
        self.cluster.folder().join(self.name())
    }

    /// The specification for its supervisor.
    pub fn spec_file(&self) -> PathBuf {
        self.folder().join("spec.json")
    }

    /// The file that is written once it has been ready.
    pub fn ready_file(&self) -> PathBuf {
        self.folder().join("ready")
    }

    /// The socket of its containerd.
    pub fn containerd_socket(&self) -> PathBuf {
        self.folder().join("containerd.sock")
    }

    /// Checks that the kernel accepts the path of containerd's socket.
    pub fn check_paths(&self) -> Result<()> {
        let socket = self.containerd_socket();
        let length = socket.as_os_str().len();
        if length > SOCKET_PATH_LIMIT {
            bail!(
                "{} has {length} bytes, a Unix socket's path at most {SOCKET_PATH_LIMIT}; \
                 set CARGO_TARGET_DIR to a folder with a shorter path",
                socket.display()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_dns_labels() {
        for good in ["default", "a", "e2e-1", "0", "twenty-characters-20"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "..", "a_b", "twenty-one-characters", "ü"] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn pod_networks_do_not_overlap() {
        let workspace = Workspace::at("/repository".into(), "/target".into());
        let cluster = Cluster::new(Name("c".into()), workspace);
        assert_eq!(Node::new(&cluster, 0).pod_network(), "10.244.0.0/21");
        assert_eq!(Node::new(&cluster, 1).pod_network(), "10.244.8.0/21");
        assert_eq!(Node::new(&cluster, 31).pod_network(), "10.244.248.0/21");
    }

    #[test]
    fn a_cluster_has_the_nodes_that_have_a_folder() -> Result<()> {
        let target = tempfile::tempdir()?;
        let workspace = Workspace::at("/repository".into(), target.path().into());
        let cluster = Cluster::new(Name("c".into()), workspace);
        assert!(cluster.nodes().is_empty());
        for node in cluster.possible_nodes().iter().take(2) {
            std::fs::create_dir_all(node.folder())?;
        }
        assert_eq!(cluster.nodes().iter().map(Node::name).collect::<Vec<_>>(), ["node-1", "node-2"]);
        Ok(())
    }

    #[test]
    fn a_long_target_folder_is_rejected_with_the_remedy() {
        let node = |length: usize| {
            let workspace = Workspace::at("/r".into(), format!("/{}", "t".repeat(length)).into());
            Node::new(&Cluster::new(Name("c".into()), workspace), 0)
        };
        assert!(node(20).check_paths().is_ok());
        let error = node(100).check_paths().map_err(|error| error.to_string());
        assert!(error.is_err_and(|text| text.contains("CARGO_TARGET_DIR")));
    }
}
