//! The alternatives to adieu in the cluster.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::arms::{Arm, DEPLOYMENT, LABELLED, NAMESPACE};
use crate::image::Image;
use crate::progress::Step;
use crate::target::Target;
use crate::{command, interrupt};

const NOOP_WEBHOOK: &str = "tests/apps/noop-webhook/manifests.yaml";
const FLOOR: &str = "benches/manifests/floor.yaml";
const POLICY: &str = "benches/manifests/mutating-admission-policy.yaml";
/// A Service in front of the Deployment, from which adieu gets the probe's port.
const SERVICE: &str = "benches/manifests/service.yaml";

/// The limit for adieu to observe the Service.
const LIMIT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(200);

/// The do-nothing webhook and the MutatingAdmissionPolicy.
pub struct Alternatives<'a> {
    target: &'a Target,
}

impl<'a> Alternatives<'a> {
    /// The alternatives in `target`, which may not exist yet.
    pub fn new(target: &'a Target) -> Self {
        Self { target }
    }

    /// Sets them up, from scratch. Returns the manifests of the minimal configuration, which is created only for its
    /// blocks.
    pub fn set_up(&self, noop_webhook: &Image) -> Result<String> {
        self.remove()?;
        let step = Step::start("setting up the alternatives to adieu");
        for namespace in [NAMESPACE, LABELLED] {
            self.kubectl(&["create", "namespace", namespace])?;
            self.apply(namespace, &self.read(SERVICE)?)?;
        }
        self.kubectl(&["label", "namespace", LABELLED, "adieu.dev/injection=enabled"])?;
        self.kubectl(&["create", "serviceaccount", "checkout", "--namespace", NAMESPACE])?;
        let host = format!("noop-webhook.{NAMESPACE}.svc");
        let pair = rcgen::generate_simple_self_signed([host]).context("cannot create a certificate")?;
        let base64 = |pem: String| json!(ByteString(pem.into_bytes())).to_string();
        let certificate = base64(pair.cert.pem());
        let manifests = self
            .read(NOOP_WEBHOOK)?
            .replace("\"PATCH\"", &base64(self.patch()?))
            .replace("CERTIFICATE", &certificate)
            .replace("KEY", &base64(pair.signing_key.serialize_pem()))
            .replace("IMAGE", &noop_webhook.reference());
        self.apply(NAMESPACE, &manifests)?;
        self.apply(NAMESPACE, &self.read(POLICY)?)
            .context("a MutatingAdmissionPolicy of admissionregistration.k8s.io/v1 needs Kubernetes 1.36")?;
        self.kubectl(&["rollout", "status", "deployment/noop-webhook", "--timeout=120s", "-n", NAMESPACE])?;
        step.done();
        Ok(self.read(FLOOR)?.replace("CERTIFICATE", &certificate))
    }

    /// Removes them, if they exist.
    pub fn remove(&self) -> Result<()> {
        let step = Step::start("removing the alternatives to adieu");
        for kinds in [
            "mutatingwebhookconfiguration/adieu-bench-noop",
            "mutatingwebhookconfiguration/adieu-bench-floor",
            "validatingadmissionpolicybinding/adieu-bench-floor",
            "validatingadmissionpolicy/adieu-bench-floor",
            "validatingadmissionpolicybinding/adieu-bench-floor-jobs",
            "validatingadmissionpolicy/adieu-bench-floor-jobs",
            "mutatingadmissionpolicybinding/adieu-bench",
            "mutatingadmissionpolicy/adieu-bench",
            "namespace/adieu-bench",
            "namespace/adieu-bench-labelled",
        ] {
            self.kubectl(&["delete", kinds, "--ignore-not-found", "--wait"])?;
        }
        step.done();
        Ok(())
    }

    /// adieu's patch of the Deployment. adieu may not have observed the Service yet.
    fn patch(&self) -> Result<String> {
        let started = Instant::now();
        let answer = loop {
            let mut kubectl = self.target.kubectl();
            kubectl.args(["create", "--dry-run=server", "--output=json", "--namespace", NAMESPACE, "-f"]);
            let answer = command::output(kubectl.arg(self.target.workspace().root().join(DEPLOYMENT)))?;
            match Arm::Adieu.check(&answer) {
                Ok(_) => break answer,
                Err(error) if started.elapsed() > LIMIT => return Err(error),
                Err(_) => interrupt::check()?,
            }
            sleep(POLL);
        };
        let deployment: Value = serde_json::from_str(&answer)?;
        let (labels, template) = (&deployment["metadata"]["labels"], &deployment["spec"]["template"]);
        let label = &labels["adieu.dev/injected"];
        anyhow::ensure!(label.is_string(), "adieu did not label the injected Deployment: {labels}");
        Ok(json!([
            {"op": "replace", "path": "/spec/template", "value": template},
            {"op": "add", "path": "/metadata/labels/adieu.dev~1injected", "value": label},
        ])
        .to_string())
    }

    fn apply(&self, namespace: &str, manifests: &str) -> Result<()> {
        let mut file = NamedTempFile::new().context("cannot create a temporary file")?;
        file.write_all(manifests.as_bytes()).context("cannot write a temporary file")?;
        let path = file.path().to_string_lossy();
        self.kubectl(&["apply", "--namespace", namespace, "-f", &path])
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<()> {
        command::output(self.target.kubectl().args(arguments)).map(drop)
    }

    fn read(&self, file: impl AsRef<Path>) -> Result<String> {
        let file = self.target.workspace().root().join(file);
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    }
}
