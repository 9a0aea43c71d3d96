//! Access to a cluster: a managed one, in its network namespace, or an external one, by
//! its kubeconfig.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;
use http::HeaderName;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::cluster::{Cluster, Name, import_image, netns, require_running, up};
use crate::progress::Step;
use crate::workspace::Workspace;
use crate::{command, debian, toolchain};

/// Variables that would make clients leave a network namespace without external network.
const PROXIES: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// A cluster to work with.
#[derive(Clone)]
pub struct Target {
    workspace: Workspace,
    reach: Reach,
}

#[derive(Clone)]
enum Reach {
    Ours(Box<Cluster>),
    External { kubeconfig: PathBuf, load_image: Option<String> },
}

/// An external cluster.
#[derive(Args, Clone, Debug)]
pub struct External {
    /// Use the cluster of this kubeconfig instead of a managed one
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The command that loads an image archive into that cluster, with the file as its last argument, such
    /// as "kind load image-archive"
    #[arg(long, env = "ADIEU_LOAD_IMAGE", value_name = "COMMAND")]
    load_image_command: Option<String>,
}

impl External {
    /// The kubeconfig. Like kubectl, treats an empty KUBECONFIG as unset.
    pub fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref().filter(|file| !file.as_os_str().is_empty())
    }
}

impl Target {
    /// The external cluster if one is given, or else a managed one, which is started unless it runs; then it is
    /// also returned, for the caller to remove.
    pub fn choose(workspace: &Workspace, name: Name, external: &External) -> Result<(Self, Option<Cluster>)> {
        if let Some(kubeconfig) = external.kubeconfig() {
            let kubeconfig = kubeconfig
                .canonicalize()
                .with_context(|| format!("there is no kubeconfig {}", kubeconfig.display()))?;
            let load_image = external.load_image_command.clone();
            return Ok((Self::external(workspace.clone(), kubeconfig, load_image)?, None));
        }
        let cluster = Cluster::new(name, workspace.clone());
        let runs = require_running(&cluster).is_ok();
        if !runs {
            up(&cluster, None)?;
        }
        Ok((Self::ours(cluster.clone())?, (!runs).then_some(cluster)))
    }

    /// The cluster, if it is one that `cargo xtask cluster up` starts.
    pub fn cluster(&self) -> Option<&Cluster> {
        match &self.reach {
            Reach::Ours(cluster) => Some(cluster),
            Reach::External { .. } => None,
        }
    }

    /// A cluster that `cargo xtask cluster up` has started. It is an error unless it runs.
    pub fn ours(cluster: Cluster) -> Result<Self> {
        require_running(&cluster)?;
        Ok(Self { workspace: cluster.workspace().clone(), reach: Reach::Ours(Box::new(cluster)) })
    }

    /// The cluster of `kubeconfig`. `load_image` is a shell command
    /// that takes an image archive as its last argument.
    pub fn external(workspace: Workspace, kubeconfig: PathBuf, load_image: Option<String>) -> Result<Self> {
        debian::ensure_buildah(&workspace)?;
        toolchain::build_clients(&workspace)?;
        Ok(Self { workspace, reach: Reach::External { kubeconfig, load_image } })
    }

    /// The repository.
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// The absolute path of its kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        match &self.reach {
            Reach::Ours(cluster) => cluster.kubeconfig(),
            Reach::External { kubeconfig, .. } => kubeconfig.clone(),
        }
    }

    /// Loads the images of an archive into every node.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        let archive =
            archive.canonicalize().with_context(|| format!("there is no archive {}", archive.display()))?;
        let step = Step::start(format!("loading {}", archive.display()));
        match &self.reach {
            Reach::Ours(cluster) => cluster.nodes().iter().try_for_each(|node| {
                import_image(&self.workspace, &step, &node.containerd_socket(), &archive)
            })?,
            Reach::External { load_image, .. } => {
                let load = load_image.as_ref().context(
                    "name the command that loads images into this cluster: --load-image-command (or ADIEU_LOAD_IMAGE), \
                     such as \"kind load image-archive\"",
                )?;
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("{load} \"$1\""), "sh"]).arg(&archive);
                shell.env("KUBECONFIG", self.kubeconfig());
                command::run(&step, &mut shell, &self.workspace.log("load-image"))?;
            }
        }
        step.done();
        Ok(())
    }

    /// kubectl of the cluster's version. Works from any thread.
    pub fn kubectl(&self) -> Command {
        self.program("kubectl")
    }

    /// Helm. Works from any thread.
    pub fn helm(&self) -> Command {
        let state = self.workspace.cache().join("helm");
        let mut helm = self.program("helm");
        helm.env("HELM_CACHE_HOME", state.join("cache"));
        helm.env("HELM_CONFIG_HOME", state.join("config"));
        helm.env("HELM_DATA_HOME", state.join("data"));
        helm
    }

    /// Any program, where it reaches the cluster's API, pods and Services (as
    /// far as an external cluster lets it), with `KUBECONFIG` and `PATH` set.
    pub fn command(&self, program: impl Into<OsString>) -> Command {
        let mut command = match &self.reach {
            Reach::Ours(cluster) => {
                // This program again: the new process enters the namespace.
                let mut command = Command::new(command::SELF_EXE);
                command.args(["netns-exec", &cluster.netns(), "--"]).arg(program.into());
                for proxy in PROXIES {
                    command.env_remove(proxy);
                }
                command
            }
            Reach::External { .. } => Command::new(program.into()),
        };
        let rest = env::var_os("PATH").unwrap_or_default();
        let folders = [self.workspace.bin()].into_iter().chain(env::split_paths(&rest));
        if let Ok(path) = env::join_paths(folders) {
            command.env("PATH", path);
        }
        command.env("KUBECONFIG", self.kubeconfig());
        command.env("KUBECACHEDIR", self.workspace.cache().join("kubectl"));
        command
    }

    /// Moves the calling thread, and the threads and processes that it starts
    /// from now on, to where the cluster is reached. Build the runtime and the
    /// client after it, on that thread.
    pub fn enter(&self) -> Result<()> {
        match &self.reach {
            Reach::Ours(cluster) => netns::enter(&cluster.netns()),
            Reach::External { .. } => Ok(()),
        }
    }

    /// Does `work` with a client of the cluster, on a separate thread that has entered it.
    pub fn with_client<T, F>(&self, work: impl FnOnce(Client) -> F + Send) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>>,
    {
        let work = || {
            self.enter()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { work(self.client(None).await?).await })
        };
        std::thread::scope(|scope| scope.spawn(work).join())
            .map_err(|_| anyhow::anyhow!("a thread panicked"))?
    }

    /// A client, for threads that have entered it; with `username`, it impersonates that user.
    pub async fn client(&self, impersonated: Option<&str>) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        if let Some(name) = impersonated {
            config.headers.push((HeaderName::from_static("impersonate-user"), name.parse()?));
        }
        Ok(Client::try_from(config)?)
    }

    fn program(&self, name: &str) -> Command {
        self.command(self.workspace.bin().join(name))
    }
}
