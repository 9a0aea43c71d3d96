//! The arguments of the load.

use std::{
    fs,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    cli::duration::duration,
    load::{Client, Options, Probes},
};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// The URL by which users reach the workload.
    #[arg(long, value_name = "URL")]
    url: String,

    /// Requests per second.
    #[arg(long, value_name = "N", default_value = "100")]
    rate: NonZeroU32,

    /// Reuses connections; by default each request opens a new one.
    #[arg(long)]
    keep_alive: bool,

    /// Uses HTTP/2: with prior knowledge for http:, with ALPN for https:.
    #[arg(long)]
    http2: bool,

    /// The method of requests.
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    method: String,

    /// A header of requests; may be given several times.
    #[arg(short = 'H', long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(String, String)>,

    /// The body of requests.
    #[arg(short, long, value_name = "TEXT")]
    data: Option<String>,

    /// The time after which a request without an answer is lost.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    timeout: Duration,

    /// Accepts any certificate.
    #[arg(short = 'k', long)]
    insecure: bool,

    /// A file with CA certificates (PEM) for the service's certificate, instead of the system's, or of public ones with
    /// --in-cluster.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    cacert: Option<PathBuf>,

    /// The limit of requests in flight; requests due beyond it are not sent, and reported.
    #[arg(long, value_name = "N", default_value = "2000")]
    max_in_flight: NonZeroUsize,

    /// The response header that names the pod.
    #[arg(long, value_name = "NAME")]
    pod_header: Option<String>,
}

impl Arguments {
    /// The options of the load.
    ///
    /// # Errors
    /// An option is invalid, or the CA file can't be read.
    pub(super) fn options(&self) -> anyhow::Result<Options> {
        let ca_certificates = self
            .cacert
            .as_ref()
            .map(|file| fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display())));
        let options = Options {
            url: self.url.clone(),
            rate: self.rate,
            keep_alive: self.keep_alive,
            http2: self.http2,
            method: self.method.clone(),
            headers: self.header.clone(),
            data: self.data.clone(),
            timeout: self.timeout,
            insecure: self.insecure,
            ca_certificates: ca_certificates.transpose()?,
            max_in_flight: self.max_in_flight,
            pod_header: self.pod_header.clone(),
            probes: Probes::default(),
        };
        Client::new(&options)?;
        Ok(options)
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("use the form \"Name: value\"")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_a_name_and_a_value() {
        let read = |text| header(text).map(|(name, value)| format!("{name}={value}"));
        assert_eq!(read("Host: web:8080"), Ok("Host=web:8080".to_owned()));
        header("Host").unwrap_err();
    }
}
