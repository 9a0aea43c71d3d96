//! The open connections of a port, limited in total and per peer.
//!
//! A peer is an IP address. If all connections are in use, the peer with the most loses one to a peer that has at least
//! two fewer, an idle one if it has one: however many peers open as many as they can, and whatever they send, each keeps
//! its fair share. To the webhook's port the API server is one or a few peers: one per control plane node, or one tunnel
//! agent. It opens another connection for each concurrent request, so the limits are far above the number of concurrent
//! admissions of a cluster.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{task::AbortHandle, time::Instant};

/// The client of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Its IP address.
    pub address: IpAddr,
    /// The time of the last answer with status 200 on this connection: the API server's requests always get one.
    last_success: Arc<Mutex<Option<Instant>>>,
    /// Whether a request is in progress.
    busy: Arc<AtomicBool>,
}

impl ConnectionInfo {
    /// A new connection of this address.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        Self { address, last_success: Arc::default(), busy: Arc::default() }
    }

    fn last_success(&self) -> Option<Instant> {
        *self.last_success.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    pub(super) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }

    pub(super) fn record_success(&self) {
        *self.last_success.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// The open connections of a port.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    max_total: usize,
    max_per_peer: usize,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    accepted: u64,
    /// The connections of each peer, by the order in which they were accepted.
    by_peer: HashMap<IpAddr, BTreeMap<u64, OpenConnection>>,
}

/// A connection, and the task that serves it.
#[derive(Debug)]
struct OpenConnection {
    info: ConnectionInfo,
    task: Option<AbortHandle>,
}

impl OpenConnection {
    fn is_of(&self, peer: IpAddr) -> bool {
        self.info.address == peer
    }

    fn is_idle(&self) -> bool {
        !self.info.is_busy()
    }
}

/// An open connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) info: ConnectionInfo,
    pub(super) number: u64,
    open: Arc<Mutex<Open>>,
}

/// The answer to a request for a connection.
#[derive(Debug)]
pub(super) struct ConnectionDecision {
    /// `None` if the connection is rejected.
    pub(super) connection: Option<Connection>,
    /// Whether another connection was closed for it.
    pub(super) evicted: bool,
}

impl Connections {
    pub(super) fn new(max_total: usize, max_per_peer: usize) -> Self {
        Self { max_total, max_per_peer, open: Arc::default() }
    }

    /// Admits a connection from `peer`. At the peer's own limit it replaces an idle one of its own; at the total limit it
    /// replaces one of the peer with the most, if that one has at least two more: one with a request in progress only if
    /// no other is left, because a client decides how long its request is in progress. If every peer has one, a peer
    /// without replaces the least useful idle one.
    pub(super) fn open(&self, peer: IpAddr) -> ConnectionDecision {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let own = open.by_peer.get(&peer).map_or(0, BTreeMap::len);
        let is_own_limit_reached = own >= self.max_per_peer;
        let mut evicted = false;
        if is_own_limit_reached || open.total >= self.max_total {
            let (largest, count) = open.largest();
            evicted = if is_own_limit_reached {
                open.evict(|connection| connection.is_of(peer) && connection.is_idle())
            } else if count > own + 1 {
                open.evict(|connection| largest.is_some_and(|largest| connection.is_of(largest)))
            } else {
                own == 0 && open.evict(OpenConnection::is_idle)
            };
            if !evicted {
                return ConnectionDecision { connection: None, evicted };
            }
        }
        open.total += 1;
        open.accepted += 1;
        let (number, info) = (open.accepted, ConnectionInfo::new(peer));
        let connections = open.by_peer.entry(info.address).or_default();
        connections.insert(number, OpenConnection { info: info.clone(), task: None });
        let connection = Connection { info, number, open: self.open.clone() };
        ConnectionDecision { connection: Some(connection), evicted }
    }

    /// Sets the task to abort when the connection is evicted.
    pub(super) fn set_task(&self, peer: IpAddr, number: u64, task: AbortHandle) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = open.by_peer.get_mut(&peer).and_then(|connections| connections.get_mut(&number));
        if let Some(connection) = connection {
            connection.task = Some(task);
        }
    }
}

impl Open {
    /// The peer with the most connections, and their number.
    fn largest(&self) -> (Option<IpAddr>, usize) {
        let counts = self.by_peer.iter().map(|(peer, connections)| (connections.len(), *peer));
        counts.max().map_or((None, 0), |(count, peer)| (Some(peer), count))
    }

    /// Closes the least useful of the connections that are candidates: an idle one if there is one; of these the oldest
    /// without a success, else the one with the oldest success. Returns whether there is one.
    fn evict(&mut self, is_candidate: impl Fn(&OpenConnection) -> bool) -> bool {
        let connections = self.by_peer.values().flatten().filter(|(_, connection)| is_candidate(connection));
        let least = connections.min_by_key(|(number, connection)| {
            (!connection.is_idle(), connection.info.last_success(), **number)
        });
        let Some((peer, number)) = least.map(|(number, connection)| (connection.info.address, *number))
        else {
            return false;
        };
        let evicted = self.remove(peer, number);
        if let Some(OpenConnection { task: Some(task), .. }) = &evicted {
            task.abort();
        }
        evicted.is_some()
    }

    fn remove(&mut self, peer: IpAddr, number: u64) -> Option<OpenConnection> {
        let connections = self.by_peer.get_mut(&peer)?;
        let removed = connections.remove(&number)?;
        if connections.is_empty() {
            self.by_peer.remove(&peer);
        }
        self.total -= 1;
        Some(removed)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(self.info.address, self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn peer(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, number).into()
    }

    /// Opens `count` connections of a peer; returns the admitted ones, and how many are open.
    fn opened(connections: &Connections, number: u8, count: usize) -> (Vec<Connection>, usize) {
        let opened = (0..count).filter_map(|_| connections.open(peer(number)).connection).collect();
        let open = connections.open.lock().unwrap();
        (opened, open.by_peer.get(&peer(number)).map_or(0, BTreeMap::len))
    }

    #[test]
    fn connections_are_limited_in_total_and_per_peer() {
        let connections = Connections::new(5, 2);
        let (two, count) = opened(&connections, 1, 3);
        assert_eq!(count, 2, "the third replaced the first");
        let others = [2, 3].map(|number| opened(&connections, number, 2).0);
        assert_eq!(connections.open.lock().unwrap().total, 5);
        assert!(connections.open(peer(3)).connection.is_none(), "no peer has more");
        drop((two, others));
        let open = connections.open.lock().unwrap();
        assert!(open.total == 0 && open.by_peer.is_empty(), "{open:?}");
    }

    #[test]
    fn each_peer_keeps_its_share_however_many_are_greedy() {
        let connections = Connections::new(100, 80);
        let (few, _) = opened(&connections, 0, 5);
        let mut greedy = Vec::new();
        for round in 1..=15 {
            greedy.extend(opened(&connections, round, 100).0);
        }
        let open = connections.open.lock().unwrap();
        let counts: HashMap<_, _> = open.by_peer.iter().map(|(peer, open)| (*peer, open.len())).collect();
        drop(open);
        assert_eq!(counts.values().sum::<usize>(), 100);
        assert_eq!(counts[&peer(0)], few.len(), "its share is more");
        for number in 1..=15 {
            assert!((6..=7).contains(&counts[&peer(number)]), "{counts:?}");
        }
        let (new, count) = opened(&connections, 16, 5);
        assert!(count == 5 && new.len() == 5);
    }

    #[tokio::test]
    async fn the_connection_without_a_success_or_with_the_oldest_is_evicted() {
        let connections = Connections::new(4, 4);
        let (held, _) = opened(&connections, 1, 4);
        let pending = |_: &Connection| tokio::spawn(std::future::pending::<()>());
        let tasks: Vec<_> = held.iter().map(pending).collect();
        for (connection, task) in held.iter().zip(&tasks) {
            connections.set_task(peer(1), connection.number, task.abort_handle());
        }
        for number in [2, 0, 3] {
            held[number].info.record_success();
        }
        let mut newcomers = Vec::new();
        for (newcomer, gone) in [(2, 1), (3, 2)] {
            newcomers.push(connections.open(peer(newcomer)));
            let still: Vec<_> = connections.open.lock().unwrap().by_peer[&peer(1)].keys().copied().collect();
            assert!(!still.contains(&held[gone].number), "{still:?}");
        }
        assert!(newcomers.iter().all(|newcomer| newcomer.evicted && newcomer.connection.is_some()));
        for (number, task) in tasks.into_iter().enumerate() {
            if [1, 2].contains(&number) {
                assert!(task.await.unwrap_err().is_cancelled());
            } else {
                assert!(!task.is_finished());
            }
        }
    }

    fn set_busy(connections: &[Connection]) {
        for connection in connections {
            connection.info.set_busy(true);
        }
    }

    #[test]
    fn a_request_in_progress_is_not_evicted_by_its_own_peer_or_a_peer_with_as_many() {
        let connections = Connections::new(3, 2);
        let (held, _) = opened(&connections, 1, 2);
        set_busy(&held);
        assert!(connections.open(peer(1)).connection.is_none(), "its own are busy");
        let (idle, _) = opened(&connections, 2, 1);
        assert!(connections.open(peer(2)).connection.is_none(), "no peer has two more");
        drop((held, idle));

        let all: Vec<_> = (1..=3).flat_map(|number| opened(&connections, number, 1).0).collect();
        set_busy(&all[..2]);
        let new = connections.open(peer(4));
        assert!(
            new.evicted && !connections.open.lock().unwrap().by_peer.contains_key(&peer(3)),
            "the idle one"
        );
        set_busy(new.connection.as_slice());
        assert!(connections.open(peer(5)).connection.is_none(), "all are busy");
    }

    #[test]
    fn requests_that_never_end_keep_no_peer_from_its_share() {
        let connections = Connections::new(9, 7);
        let (success, _) = opened(&connections, 0, 1);
        success[0].info.record_success();
        let mut greedy = Vec::new();
        for number in [1, 2] {
            greedy.extend(opened(&connections, number, 7).0);
            set_busy(&greedy);
        }
        // Its own idle connection is not the one that is evicted.
        let (new, count) = opened(&connections, 0, 2);
        assert_eq!((new.len(), count), (2, 3), "a third of all");
        set_busy(&success);
        assert!(connections.open(peer(0)).connection.is_none(), "no peer has two more");
        // The greedy ones can't take more either.
        for number in [1, 2, 1, 2] {
            assert!(connections.open(peer(number)).connection.is_none());
        }
        let open = connections.open.lock().unwrap();
        let counts = [0, 1, 2].map(|number| open.by_peer[&peer(number)].len());
        assert_eq!(counts, [3, 3, 3]);
    }
}
