//! The networks of nodes: a bridge in the namespace of the first node, to which the others are connected, and routes
//! to the pods of each.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::layout::{Cluster, NODE_PREFIX, Node, POD_PREFIX};
use super::netns;

/// The bridge with the first node's address. Unlike `dummy` interfaces, every kernel has bridges, and other nodes can
/// be connected.
const BRIDGE: &str = "adieu0";

/// The interface with the address of every other node.
const INTERFACE: &str = "eth0";

/// Kernel settings of a node, within its namespace.
const SETTINGS: [(&str, &str); 4] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/forwarding", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
];

/// With `br_netfilter`, packets from a pod to a Service by the first node, and back to a pod of its own node, would
/// be translated in the bridge, which doesn't send packets out of their incoming port. Packets between nodes are
/// routed, and translated there.
const TRANSLATED_IN_THE_BRIDGE: &str = "net/bridge/bridge-nf-call-iptables";

/// Gives the namespace of a node its interface, address, routes and settings.
pub fn configure(cluster: &Cluster, node: &Node) -> Result<()> {
    if !node.has_control_plane() {
        netns::within(&cluster.netns(), || with_handle(async |handle| plug_in(handle, node).await))
            .with_context(|| format!("cannot connect {} to the first node", node.name()))?;
    }
    netns::within(&node.netns(), || {
        with_handle(async |handle| address_and_routes(handle, cluster, node).await)?;
        SETTINGS.iter().try_for_each(|(name, value)| set(name, value))?;
        if setting(TRANSLATED_IN_THE_BRIDGE).exists() {
            set(TRANSLATED_IN_THE_BRIDGE, "0")?;
        }
        Ok(())
    })
    .with_context(|| format!("cannot set up the network of {}", node.name()))
}

fn setting(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}

fn set(name: &str, value: &str) -> Result<()> {
    let file = setting(name);
    fs::write(&file, value).with_context(|| format!("cannot write {}", file.display()))
}

/// Does `work` in the namespace of this thread.
fn with_handle(work: impl AsyncFnOnce(&Handle) -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        let outcome = work(&handle).await;
        connection.abort();
        outcome
    })
}

/// Connects the bridge, in this thread's namespace, to `node` with a veth pair.
async fn plug_in(handle: &Handle, node: &Node) -> Result<()> {
    let socket = node.name();
    // The kernel removes the veth pair of a node a moment after its namespace.
    if let Ok(left) = index(&socket) {
        let _ = handle.link().del(left).execute().await;
    }
    let cable = LinkVeth::new(&socket, INTERFACE).up().controller(index(BRIDGE)?).build();
    handle.link().add(cable).execute().await.with_context(|| format!("cannot add {socket}"))?;
    let file = netns::path(&node.netns());
    let namespace = File::open(&file).with_context(|| format!("cannot open {}", file.display()))?;
    let far_end = LinkUnspec::new_with_index(index(INTERFACE)?).setns_by_fd(namespace.as_raw_fd()).build();
    handle.link().set(far_end).execute().await.with_context(|| format!("cannot move {INTERFACE}"))
}

/// Sets up the namespace of `node`, which this thread is in.
async fn address_and_routes(handle: &Handle, cluster: &Cluster, node: &Node) -> Result<()> {
    let loopback = LinkMessageBuilder::<LinkUnspec>::new().name("lo").up().build();
    handle.link().set(loopback).execute().await.context("cannot bring up lo")?;
    let interface = if node.has_control_plane() {
        handle.link().add(LinkBridge::new(BRIDGE).build()).execute().await.context("cannot add a bridge")?;
        BRIDGE
    } else {
        INTERFACE
    };
    let interface = index(interface)?;
    let up = LinkUnspec::new_with_index(interface).address(node.hardware_address()).up().build();
    handle.link().set(up).execute().await.context("cannot bring the interface up")?;
    handle
        .address()
        .add(interface, IpAddr::V4(node.ip()), NODE_PREFIX)
        .execute()
        .await
        .with_context(|| format!("cannot add {}", node.ip()))?;
    // The addresses of Services need a route before they are translated.
    let default = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(interface).build();
    handle.route().add(default).execute().await.context("cannot add the default route")?;
    // Also to nodes that don't exist yet, so that adding them changes nothing here.
    for other in cluster.possible_nodes().iter().filter(|other| other.name() != node.name()) {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(other.pod_addresses(), POD_PREFIX)
            .gateway(other.ip())
            .output_interface(interface)
            .build();
        let added = handle.route().add(route).execute().await;
        added.with_context(|| format!("cannot add a route to the pods of {}", other.name()))?;
    }
    Ok(())
}

/// The number of an interface in this thread's namespace.
fn index(interface: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(interface).with_context(|| format!("there is no interface {interface}"))
}
