//! The arguments about connections that stay open.

use std::time::Duration;

use crate::{cli::duration::duration, load::Probes, verify::LoadBalancer};

/// The longest idle time to test by default: beyond the 60 s of an AWS Application Load Balancer, and the 75 s and 120 s
/// of usual servers.
const IDLE_LIMIT: Duration = Duration::from_secs(130);

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// Measures how long the server keeps idle connections, compares it with the idle timeout of load balancers, and
    /// reports how connections end that are kept over the disruption.
    #[arg(long)]
    idle: bool,

    /// The idle timeout of the load balancer. Default: of the workload's Ingresses, routes and Services, as far as it
    /// is known.
    #[arg(long, value_name = "SECONDS", requires = "idle", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    lb_idle: Option<u32>,

    /// The longest idle time to test. Default: 130s.
    #[arg(long, value_name = "TIME", requires = "idle", value_parser = duration)]
    idle_limit: Option<Duration>,

    /// Keeps WebSocket connections open over the disruption, and reports how they end.
    #[arg(long, value_name = "PATH")]
    websocket: Option<String>,

    /// Keeps server streams of a gRPC method open over the disruption, such as grpc.health.v1.Health/Watch, and
    /// reports how they end. It is sent an empty message.
    #[arg(long, value_name = "SERVICE/METHOD")]
    grpc_stream: Option<String>,
}

impl Arguments {
    /// What is observed besides the load.
    pub(super) fn probes(&self) -> Probes {
        Probes {
            idle_limit: self.idle.then(|| self.idle_limit.unwrap_or(IDLE_LIMIT)),
            hold: self.idle,
            websocket: self.websocket.clone(),
            grpc: self.grpc_stream.clone(),
        }
    }

    /// The load balancer of `--lb-idle`.
    pub(super) fn load_balancer(&self) -> Option<LoadBalancer> {
        self.lb_idle.map(|seconds| LoadBalancer {
            name: "the load balancer".to_owned(),
            idle_seconds: seconds.into(),
            source: "--lb-idle".to_owned(),
        })
    }

    /// Whether load balancers are compared, and have to be found in the cluster.
    pub(super) fn finds_load_balancers(&self) -> bool {
        self.idle && self.lb_idle.is_none()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parsed(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Line::try_parse_from([&["verify"], arguments].concat()).map(|line| line.arguments)
    }

    #[test]
    fn probes_follow_from_the_arguments() {
        let limit = |arguments: &[&str]| parsed(arguments).unwrap().probes().idle_limit;
        assert_eq!(limit(&[]), None);
        assert_eq!(limit(&["--idle"]), Some(Duration::from_secs(130)));
        assert_eq!(limit(&["--idle", "--idle-limit", "10s"]), Some(Duration::from_secs(10)));
        assert_eq!(parsed(&[]).unwrap().probes(), Probes::default());
        let socket = parsed(&["--websocket", "/events"]).unwrap().probes();
        assert_eq!((socket.websocket.as_deref(), socket.hold), (Some("/events"), false));
        for invalid in [&["--lb-idle", "60"][..], &["--idle-limit", "10s"], &["--idle", "--lb-idle", "0"]] {
            assert!(parsed(invalid).is_err(), "{invalid:?}");
        }
    }

    #[test]
    fn a_given_idle_timeout_replaces_those_of_the_cluster() {
        let given = parsed(&["--idle", "--lb-idle", "60"]).unwrap();
        assert!(!given.finds_load_balancers());
        assert!((given.load_balancer().unwrap().idle_seconds - 60.0).abs() < f64::EPSILON);
        let known = parsed(&["--idle"]).unwrap();
        assert!(known.finds_load_balancers() && known.load_balancer().is_none());
    }
}
