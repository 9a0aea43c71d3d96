//! The arguments that name the ways to measure.

use anyhow::{Context as _, bail};

use crate::{
    canaries::{Exposed, Way},
    load::{Client, Options},
};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// Types of Services, separated by commas.
    #[arg(long, value_name = "TYPES", value_enum, value_delimiter = ',', ignore_case = true)]
    service: Vec<ServiceType>,

    /// The class of an Ingress; may be given several times.
    #[arg(long, value_name = "NAME")]
    ingress_class: Vec<String>,

    /// The class of a Gateway; may be given several times.
    #[arg(long, value_name = "NAME")]
    gateway_class: Vec<String>,

    /// Where the requests of a way are sent, instead of to the address in its object's status: ClusterIP=URL,
    /// IngressClass/NAME=URL and so on. With one way, the URL is enough.
    #[arg(long, value_name = "[WAY=]URL")]
    url: Vec<String>,

    /// Accepts any certificate.
    #[arg(short = 'k', long)]
    insecure: bool,

    /// The loadBalancerClass of the Service of type LoadBalancer.
    #[arg(long, value_name = "NAME")]
    load_balancer_class: Option<String>,

    /// An annotation of the Service of type LoadBalancer, the Ingress and the Gateway; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = annotation)]
    annotation: Vec<(String, String)>,

    /// The port of the Gateway's listener.
    #[arg(long, value_name = "PORT", default_value = "80", value_parser = clap::value_parser!(u16).range(1..))]
    gateway_port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ServiceType {
    #[value(name = "ClusterIP")]
    ClusterIp,
    #[value(name = "NodePort")]
    NodePort,
    #[value(name = "LoadBalancer")]
    LoadBalancer,
}

impl Arguments {
    /// The ways, each with its URL if one is given.
    ///
    /// # Errors
    /// No way is named, or a URL is invalid or of another way.
    pub(super) fn ways(&self) -> anyhow::Result<Vec<(Way, Option<String>)>> {
        let services = self.service.iter().map(|service| match service {
            ServiceType::ClusterIp => Way::ClusterIp,
            ServiceType::NodePort => Way::NodePort,
            ServiceType::LoadBalancer => Way::LoadBalancer { class: self.load_balancer_class.clone() },
        });
        let ingresses = self.ingress_class.iter().map(|class| Way::Ingress { class: class.clone() });
        let gateways = self.gateway_class.iter().map(|class| Way::Gateway { class: class.clone() });
        let mut ways: Vec<(Way, Option<String>)> = Vec::new();
        for way in services.chain(ingresses).chain(gateways) {
            if !ways.iter().any(|(known, _)| *known == way) {
                ways.push((way, None));
            }
        }
        if ways.is_empty() {
            bail!(
                "name at least one way to measure: --service TYPES, --ingress-class NAME or --gateway-class NAME"
            );
        }
        for text in &self.url {
            let (way, url) = named(&mut ways, text)?;
            Client::new(&Options::to(url)).with_context(|| format!("the URL of {}", way.0))?;
            way.1 = Some(url.to_owned());
        }
        Ok(ways)
    }

    /// What the objects of ways have in common.
    pub(super) fn exposed(&self) -> Exposed {
        Exposed { annotations: self.annotation.clone(), gateway_port: self.gateway_port }
    }

    /// Whether certificates aren't verified.
    pub(super) fn is_insecure(&self) -> bool {
        self.insecure
    }
}

/// The way that a URL is of, and the URL.
fn named<'w, 't>(
    ways: &'w mut [(Way, Option<String>)],
    text: &'t str,
) -> anyhow::Result<(&'w mut (Way, Option<String>), &'t str)> {
    let names: Vec<_> = ways.iter().map(|(way, _)| way.to_string()).collect();
    let (name, url) = match text.split_once('=').filter(|(name, _)| !name.contains("://")) {
        Some((name, url)) => (Some(name), url),
        None => (None, text),
    };
    let position = match name {
        Some(name) => names.iter().position(|known| known.eq_ignore_ascii_case(name)),
        None => (names.len() == 1).then_some(0),
    };
    let Some(position) = position else {
        bail!("--url: {text:?} must name its way, as in {}=URL; the ways are {}", names[0], names.join(", "));
    };
    Ok((&mut ways[position], url))
}

fn annotation(text: &str) -> Result<(String, String), String> {
    let annotation = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = annotation.ok_or("use the form KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        ways: Arguments,
    }

    fn ways(arguments: &[&str]) -> Result<Vec<String>, String> {
        let line = Line::try_parse_from([&["calibrate"], arguments].concat());
        let line = line.map_err(|error| error.to_string())?;
        let ways = line.ways.ways().map_err(|error| format!("{error:#}"))?;
        let text = |(way, url): &(Way, Option<String>)| match url {
            Some(url) => format!("{way} {url}"),
            None => way.to_string(),
        };
        Ok(ways.iter().map(text).collect())
    }

    #[test]
    fn ways_are_measured_once_each_with_their_urls() {
        for (arguments, expected) in [
            (
                &["--service", "ClusterIP,nodeport", "--service", "ClusterIP"][..],
                &["ClusterIP", "NodePort"][..],
            ),
            (
                &[
                    "--ingress-class",
                    "nginx",
                    "--ingress-class",
                    "alb",
                    "--url",
                    "IngressClass/alb=http://a/?b=c",
                ],
                &["IngressClass/nginx", "IngressClass/alb http://a/?b=c"],
            ),
            (&["--gateway-class", "eg", "--url", "https://a/?b=c"], &["GatewayClass/eg https://a/?b=c"]),
            (&["--service", "LoadBalancer", "--load-balancer-class", "a/b"], &["LoadBalancer"]),
        ] {
            assert_eq!(ways(arguments).unwrap(), expected, "{arguments:?}");
        }
    }

    #[test]
    fn invalid_ways_are_reported() {
        for (arguments, part) in [
            (&[][..], "name at least one way"),
            (&["--service", "ExternalName"], "ClusterIP"),
            (
                &["--service", "ClusterIP,NodePort", "--url", "http://a/"],
                "must name its way, as in ClusterIP=URL",
            ),
            (&["--service", "ClusterIP", "--url", "NodePort=http://a/"], "the ways are ClusterIP"),
            (&["--service", "ClusterIP", "--url", "ftp://a/"], "http://"),
            (&["--service", "ClusterIP", "--annotation", "key"], "KEY=VALUE"),
            (&["--gateway-class", "eg", "--gateway-port", "0"], "--gateway-port"),
        ] {
            let error = ways(arguments).unwrap_err();
            assert!(error.contains(part), "{arguments:?}: {part} is missing in {error}");
        }
    }
}
