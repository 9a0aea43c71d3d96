//! The arguments of `adieu verify`.

use std::time::Duration;

use super::{connections, options, tune_options};
use crate::{
    cli::{
        duration::duration,
        reference::{Reference, Workloads},
        run_options::RunOptions,
    },
    disruption::Disruption,
};

/// The text of `--help`.
pub(in crate::cli) const HELP: &str = "\
Sends requests at a constant rate to a workload, disrupts it meanwhile, and reports which requests were lost, \
when and at which pod.

Load is open-loop: a request is sent when it is due, and its time counts from then, so a slow response does not \
delay the next request, and a stall counts against every request it delays. A request is lost if it gets no \
response, or one with a status of 500 or more. Every lost request is reported with the pods that were terminating \
at that moment; if responses name their pod (--pod-header), or requests go to a pod's address, the pod is known \
exactly.

The load starts some seconds before the disruption; a service that does not answer by then is not disrupted. \
Temporary changes (replicas, a cordoned node) are restored, also after Ctrl-C, after an error or when the terminal \
is closed.

With --in-cluster the load runs as a Job in the workload's namespace, so that ClusterIP Services can be \
reached; headers and data are readable in the Job while it runs. The Job is deleted at the end.

With --idle it also reports what no drain prevents. Before the load it measures how long the server keeps idle \
connections: if a load balancer keeps them longer, requests are lost at any time, and not only in rollouts. And it \
keeps connections open over the disruption, and reports how they end: announced by Connection: close or GOAWAY, \
closed between requests, reset, or cut when the process exits. --websocket and --grpc-stream do the same for \
WebSockets and gRPC streams. Each finding has its remedy for the usual servers. The URL must lead to the pods \
without a proxy, such as that of a Service with --in-cluster.

With --tune it finds the shortest drain that loses no request under this load, by bisection with repeats. Each drain \
is rolled out by the annotation adieu.dev/drain-seconds, which is restored at the end; the result has the number of \
terminations that it is based on, and a policy.

Examples:

  adieu verify deploy/web -n shop --url https://shop.example.com/ --pod-header X-Pod
  adieu verify sts/db -n shop --url http://db.shop.svc:8080/ --in-cluster --disrupt evict
  adieu verify deploy/web -n shop --url http://10.0.0.7:30080/ --yes -o json --report report.html
  adieu verify deploy/web -n shop --url http://web.shop.svc:8080/ --in-cluster --idle --lb-idle 60
  adieu verify deploy/web -n shop --url https://shop.example.com/ --tune --tune-max 120

The exit code is 0 if every request was answered, 1 if some were lost or a finding about connections is a problem, \
2 if the result is unknown, and 130 after Ctrl-C or when the terminal is closed.";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    pub(super) workload: Workloads<Reference>,

    /// Its namespace. Default: that of the kubeconfig's context.
    #[arg(short, long, value_name = "NAME")]
    pub(super) namespace: Option<String>,

    #[command(flatten)]
    pub(super) load: options::Arguments,

    #[command(flatten)]
    pub(super) connections: connections::Arguments,

    #[command(flatten)]
    pub(super) tune: tune_options::Arguments,

    /// The disruption: restart, scale-down[=N] (to N pods, or by one, and back), delete-pod,
    /// evict, drain-node (one of its nodes) or none.
    #[arg(long, value_name = "WHAT", default_value = "restart")]
    pub(super) disrupt: Disruption,

    /// The time that the load continues after the disruption, such as 10s or 2m.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) duration: Duration,

    /// The maximum time for the disruption.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub(super) limit: Duration,

    /// Runs the load as a Job in the cluster.
    #[arg(long)]
    pub(super) in_cluster: bool,

    /// adieu's image for that Job. Default: that of the installed operator.
    #[arg(long, value_name = "IMAGE", requires = "in_cluster")]
    pub(super) image: Option<String>,

    /// The Secret in the workload's namespace for pulling that image.
    #[arg(long, value_name = "NAME", requires = "in_cluster")]
    pub(super) image_pull_secret: Option<String>,

    #[command(flatten)]
    pub(super) run: RunOptions,
}
