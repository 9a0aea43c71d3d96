//! Sets up what is in front of the application: proxies as pods, with their controllers.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::kubectl::{Kubectl, PROXIES};
use super::ways::{Plane, SlowProxy};
use crate::cluster::set_proxy_mode;
use crate::image::{self, Image};
use crate::progress::Step;
use crate::target::Target;
use crate::{debian, toolchain};

/// The kinds of the cluster-wide objects of proxies, and their label.
const CLUSTER_WIDE: [&str; 3] =
    ["clusterroles,clusterrolebindings,ingressclasses", "--selector", "bench=adieu-drain"];

/// What is in front of the application, in a cluster.
pub struct DataPlane<'a> {
    target: &'a Target,
    plane: Plane,
    kubectl: Kubectl<'a>,
}

impl<'a> DataPlane<'a> {
    /// The plane in `target`, where it may not be set up yet.
    pub fn new(target: &'a Target, plane: Plane) -> Self {
        Self { target, plane, kubectl: Kubectl::new(target, PROXIES) }
    }

    /// Sets it up, from scratch.
    pub fn set_up(&self) -> Result<()> {
        if let Some(mode) = self.plane.proxy_mode() {
            let cluster = self.target.cluster().context("the mode of kube-proxy needs a managed cluster")?;
            set_proxy_mode(cluster, mode)?;
        }
        if self.plane.class().is_none() {
            return Ok(());
        }
        self.remove_proxies()?;
        self.kubectl.run(&["create", "namespace", PROXIES])?;
        match self.plane {
            Plane::KubeProxy(_) => return Ok(()),
            Plane::TraefikIngress | Plane::TraefikGateway => self.traefik()?,
            Plane::Contour => self.contour()?,
            Plane::Slow(proxy) => self.slow(proxy)?,
        }
        self.kubectl.wait_for_rollout("proxy")
    }

    /// Removes it, if it exists. kube-proxy keeps its mode.
    pub fn remove(&self) -> Result<()> {
        if self.plane.class().is_none() {
            return Ok(());
        }
        self.remove_proxies()?;
        match self.crds()? {
            Some(crds) => self.kubectl.delete_file(&crds),
            None => Ok(()),
        }
    }

    fn remove_proxies(&self) -> Result<()> {
        self.kubectl.delete_namespace()?;
        self.kubectl.run(&[&["delete"][..], &CLUSTER_WIDE[..]].concat())
    }

    fn traefik(&self) -> Result<()> {
        let workspace = self.target.workspace();
        let image = image::program(workspace, "traefik", &toolchain::build_traefik(workspace)?)?;
        self.create_crds()?;
        self.apply("traefik.yaml", &[("IMAGE", &image)], &[])
    }

    fn contour(&self) -> Result<()> {
        let workspace = self.target.workspace();
        debian::ensure_proxies(workspace)?;
        let contour = image::program(workspace, "contour", &toolchain::build_contour(workspace)?)?;
        let envoy = image::assembled(workspace, "envoy")?;
        self.create_crds()?;
        self.apply("contour.yaml", &[("CONTOUR", &contour), ("ENVOY", &envoy)], &[])?;
        self.kubectl.wait_for_rollout("contour")
    }

    fn slow(&self, proxy: SlowProxy) -> Result<()> {
        let SlowProxy { program, seconds } = proxy;
        let workspace = self.target.workspace();
        debian::ensure_proxies(workspace)?;
        let controller = image::app(workspace, "proxy-controller")?;
        let image = image::assembled(workspace, program)?;
        let images = [("CONTROLLER", &controller), ("IMAGE", &image)];
        let delay = format!("{seconds}s");
        self.apply("slow-proxy.yaml", &images, &[("PROXY", program), ("DELAY", delay.as_str())])
    }

    /// Loads images, and applies a manifest with their names and other words.
    fn apply(&self, file: &str, images: &[(&str, &Image)], others: &[(&str, &str)]) -> Result<()> {
        let mut values = vec![("NAMESPACE".to_owned(), PROXIES.to_owned())];
        for (word, image) in images {
            self.target.load_image(&image.archive)?;
            values.push(((*word).to_owned(), image.reference()));
        }
        let values: Vec<_> = values.iter().map(|(word, value)| (word.as_str(), value.as_str())).collect();
        let step = Step::start(format!("applying {file}"));
        self.kubectl.apply(file, &[&values[..], others].concat())?;
        step.done();
        Ok(())
    }

    fn create_crds(&self) -> Result<()> {
        let crds = self.crds()?.context("no CRDs are known")?;
        self.kubectl.create_crds(&crds)
    }

    /// The CRDs of the objects that it watches, in the Go modules that it is built from.
    fn crds(&self) -> Result<Option<PathBuf>> {
        let folder = |name, module| toolchain::module_folder(self.target.workspace(), name, module);
        Ok(match self.plane {
            Plane::KubeProxy(_) | Plane::Slow(_) => None,
            Plane::TraefikIngress | Plane::TraefikGateway => {
                Some(folder("traefik", "sigs.k8s.io/gateway-api")?.join("config/crd/standard"))
            }
            Plane::Contour => {
                let module = folder("contour", "github.com/projectcontour/contour")?;
                Some(module.join("examples/contour/01-crds.yaml"))
            }
        })
    }
}
