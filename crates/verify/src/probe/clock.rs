//! The time and the end of an observation.

use std::{net::IpAddr, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::verify::{ConnectionKind, Ending, HeldConnection};

/// The time between two requests on a busy connection.
pub(super) const INTERVAL: Duration = Duration::from_millis(200);

/// The origin of times, and what ends the observation.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    pub(super) origin: Instant,
    pub(super) stop: CancellationToken,
}

impl Clock {
    pub(super) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// A connection that is open from now on.
    pub(super) fn opened(&self, kind: ConnectionKind, peer: Option<IpAddr>) -> HeldConnection {
        HeldConnection {
            kind,
            opened: self.now(),
            pod: None,
            peer,
            has_several_pods: false,
            announced: None,
            ended: None,
        }
    }

    /// Ends it.
    pub(super) fn end(&self, held: HeldConnection, how: Ending) -> HeldConnection {
        HeldConnection { ended: Some((self.now(), how)), ..held }
    }

    /// Ends it after an announcement.
    pub(super) fn end_as_announced(&self, held: HeldConnection) -> HeldConnection {
        let now = self.now();
        HeldConnection { announced: held.announced.or(Some(now)), ..self.end(held, Ending::Closed) }
    }
}

/// Records the pod that a response names.
pub(super) fn name_pod(held: &mut HeldConnection, pod: Option<String>) {
    if let (Some(known), Some(named)) = (&held.pod, &pod) {
        held.has_several_pods |= known != named;
    }
    held.pod = pod.or_else(|| held.pod.take());
}
