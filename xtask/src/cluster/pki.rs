//! Keys and certificates of a cluster: one CA, and a certificate for each server and client.

use std::path::PathBuf;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use super::files;
use super::layout::{API_SERVICE, Cluster};

/// The validity: clusters run for hours.
const VALID_FOR: Duration = Duration::days(365);
/// The tolerance for clock skew.
const BACKDATED: Duration = Duration::hours(1);

/// The keys and certificates of a cluster.
pub struct Pki {
    folder: PathBuf,
}

/// The files of one certificate.
pub struct Pair {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM, PKCS 8.
    pub key: PathBuf,
}

/// A client, as the API server knows it.
struct Client {
    file: String,
    user: String,
    group: Option<&'static str>,
}

impl Pki {
    /// The files of that cluster.
    pub fn of(cluster: &Cluster) -> Self {
        Self { folder: cluster.folder().join("pki") }
    }

    /// The CA certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// The CA for aggregated API servers. There are none, but controllers
    /// request it until they get it.
    pub fn front_proxy_ca(&self) -> PathBuf {
        self.folder.join("front-proxy-ca.crt")
    }

    /// The certificate with this name: a component's, or `admin`.
    pub fn pair(&self, name: &str) -> Pair {
        Pair {
            certificate: self.folder.join(format!("{name}.crt")),
            key: self.folder.join(format!("{name}.key")),
        }
    }

    /// The key that signs service account tokens.
    pub fn service_account_key(&self) -> PathBuf {
        self.folder.join("service-account.key")
    }

    /// The key that verifies them.
    pub fn service_account_public_key(&self) -> PathBuf {
        self.folder.join("service-account.pub")
    }

    /// Creates all of them, for every possible node: the CA's key isn't kept, so none can be signed when a node is
    /// added.
    pub fn create(&self, cluster: &Cluster) -> Result<()> {
        let ca = CertificateAuthority::new()?;
        files::write(&self.ca(), ca.issuer.pem())?;
        files::write(&self.front_proxy_ca(), CertificateAuthority::new()?.issuer.pem())?;

        let tokens = KeyPair::generate().context("cannot create a key")?;
        files::write(&self.service_account_key(), tokens.serialize_pem())?;
        files::write(&self.service_account_public_key(), tokens.public_key_pem())?;

        for node in cluster.possible_nodes() {
            let names = [node.name(), node.ip().to_string()];
            self.save(&serving_name(&node.name()), &ca.server(&node_user(&node.name()), &names)?)?;
        }
        let local = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        for controller in ["kube-controller-manager", "kube-scheduler"] {
            self.save(&serving_name(controller), &ca.server(controller, &local)?)?;
        }
        self.save(
            &serving_name("kube-apiserver"),
            &ca.server("kube-apiserver", &api_server_names(cluster))?,
        )?;
        for client in clients(cluster) {
            self.save(&client.file, &ca.client(&client)?)?;
        }
        Ok(())
    }

    fn save(&self, name: &str, (certificate, key): &(String, String)) -> Result<()> {
        let pair = self.pair(name);
        files::write(&pair.certificate, certificate)?;
        files::write(&pair.key, key)
    }
}

/// The name of the serving certificate of a component or a node.
pub fn serving_name(component: &str) -> String {
    format!("{component}-serving")
}

fn node_user(node: &str) -> String {
    format!("system:node:{node}")
}

fn clients(cluster: &Cluster) -> Vec<Client> {
    let client =
        |file: &str, user: &str, group| Client { file: file.to_owned(), user: user.to_owned(), group };
    let mut clients = vec![
        client("admin", "kubernetes-admin", Some("system:masters")),
        client("kube-apiserver", "kube-apiserver-kubelet-client", Some("system:masters")),
        client("kube-controller-manager", "system:kube-controller-manager", None),
        client("kube-scheduler", "system:kube-scheduler", None),
        client("kube-proxy", "system:kube-proxy", None),
    ];
    for node in cluster.possible_nodes() {
        clients.push(client(&node.name(), &node_user(&node.name()), Some("system:nodes")));
    }
    clients
}

fn api_server_names(cluster: &Cluster) -> Vec<String> {
    let mut names: Vec<String> =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1"]
            .map(str::to_owned)
            .to_vec();
    names.push("kubernetes.default.svc.cluster.local".into());
    names.push(API_SERVICE.to_string());
    names.push(cluster.first_node().ip().to_string());
    names
}

struct CertificateAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl CertificateAuthority {
    fn new() -> Result<Self> {
        let mut params = params("adieu test cluster", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("cannot create a key")?;
        let issuer = CertifiedIssuer::self_signed(params, key).context("cannot sign the CA certificate")?;
        Ok(Self { issuer })
    }

    fn server(&self, user: &str, names: &[String]) -> Result<(String, String)> {
        let params = params(user, names)?;
        self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn client(&self, client: &Client) -> Result<(String, String)> {
        let mut params = params(&client.user, &[])?;
        if let Some(group) = client.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<(String, String)> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().context("cannot create a key")?;
        let certificate = params.signed_by(&key, &self.issuer).context("cannot sign a certificate")?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

fn params(common_name: &str, names: &[String]) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names).with_context(|| format!("names of {common_name}"))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = OffsetDateTime::now_utc() - BACKDATED;
    params.not_after = OffsetDateTime::now_utc() + VALID_FOR;
    Ok(params)
}
