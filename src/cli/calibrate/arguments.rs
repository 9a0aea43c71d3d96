//! The arguments of `adieu calibrate`.

use std::{num::NonZeroU32, time::Duration};

use super::ways;
use crate::cli::{duration::duration, run_options::RunOptions};

/// The text of `--help`.
pub(in crate::cli) const HELP: &str = "\
Measures the drain that pods need behind each way into this cluster, without an application of yours.

It runs canaries: pods of adieu's image that name themselves in each response, ignore SIGTERM and continue to serve. \
Requests at a constant rate, on new and on kept connections, reach them through each way that you ask for. Canaries are \
deleted one after the other, and the last request that still arrives at each is recorded. The drain is the maximum and \
a reserve that shrinks with more terminations.

Ways:

  --service ClusterIP,NodePort,LoadBalancer   Services of these types
  --ingress-class NAME                        an Ingress of this class
  --gateway-class NAME                        a Gateway of this class, with an HTTPRoute

Each way is called at the address in its object's status. With --url you give another URL that leads there from \
outside, for example through a load balancer or a CDN in front of the ingress controller. An Ingress and an HTTPRoute \
then have the host of that URL; they only match paths that begin with the name of the run.

Before it starts, it asks, and names the cluster, the namespace, what it creates, and the most requests and time. \
Everything that it creates belongs to one Job without pods, in that namespace. At the end, after an error, Ctrl-C or \
SIGTERM, it deletes that Job, and the garbage collector deletes the rest. If the connection is lost or the command is \
killed, the Job's deadline does the same. Canaries meet the restricted Pod Security Standard.

With --in-cluster the requests are sent by Jobs in the cluster, for addresses that can't be reached from here.

If a way drops connections when it withdraws a pod, no drain helps, and the report has that as a finding. With --apply \
the drains are written to spec.drainProfiles of a ClusterGracefulPolicy, with date, number of terminations and version; \
profiles of other exposures are kept.

Examples:

  adieu calibrate --service ClusterIP --in-cluster -n calibration
  adieu calibrate --ingress-class nginx --gateway-class eg --report drains.html
  adieu calibrate --ingress-class alb --annotation alb.ingress.kubernetes.io/target-type=ip --window 10m
  adieu calibrate --ingress-class nginx --url https://shop.example.com/ --terminations 59 --apply --yes

The exit code is 0 if the drain of every way is known, 1 if one is unknown or the run is incomplete, 2 if it could not \
run, and 130 after Ctrl-C, SIGTERM or when the terminal is closed.";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    pub(super) ways: ways::Arguments,

    /// The namespace of the canaries. Default: that of the kubeconfig's context.
    #[arg(short, long, value_name = "NAME")]
    pub(super) namespace: Option<String>,

    /// The number of terminations. With 59, the maximum covers 95 % of terminations with 95 % confidence.
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) terminations: u32,

    /// Requests per second through each way on new connections, and as many on kept ones.
    #[arg(long, value_name = "N", default_value = "50")]
    pub(super) rate: NonZeroU32,

    /// The time without a request after which a canary receives no more, at least 5s.
    #[arg(long, value_name = "TIME", default_value = "8s", value_parser = duration)]
    pub(super) quiet: Duration,

    /// The longest time for which a deleted canary is observed: more than the longest drain that you expect.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub(super) window: Duration,

    /// The maximum time for all terminations. The result is then that of fewer.
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = duration)]
    pub(super) limit: Duration,

    /// Sends the requests from Jobs in the cluster.
    #[arg(long)]
    pub(super) in_cluster: bool,

    /// adieu's image for the canaries. Default: that of the installed operator.
    #[arg(long, value_name = "IMAGE")]
    pub(super) image: Option<String>,

    /// The Secret in the namespace for pulling that image.
    #[arg(long, value_name = "NAME")]
    pub(super) image_pull_secret: Option<String>,

    /// Writes the drains to a ClusterGracefulPolicy.
    #[arg(long)]
    pub(super) apply: bool,

    /// The name of that ClusterGracefulPolicy, which is created if it doesn't exist.
    #[arg(long, value_name = "NAME", default_value = "calibrated", requires = "apply")]
    pub(super) policy: String,

    #[command(flatten)]
    pub(super) run: RunOptions,
}
