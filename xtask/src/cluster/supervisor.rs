//! The first process of a node: mounts its file systems, starts and stops components on
//! request, reaps ended processes, and records the state of components. If it is killed,
//! the kernel kills every other process of the node.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use close_fds::set_fds_cloexec;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, mkfifo, setsid};

use super::process::Process;
use super::spec::{self, Component, Request, Spec, init_file, log_file, state_file};
use super::state::{State, States, now};
use super::{files, netns};
use crate::command::{SELF_EXE, tail};

/// The limit for a supervisor to mount its file systems and to listen.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);

/// The first file descriptor after standard input, output and error.
const FIRST_INHERITED: i32 = 3;

/// Settings of the whole machine that a kubelet would change. The node sees these
/// values instead.
const SHOWN_SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Starts the supervisor of a node, from the machine.
pub fn start(spec: &Spec, spec_path: &Path) -> Result<Process> {
    files::write_json(spec_path, spec)?;
    let log_path = log_file(&spec.folder, "supervisor");
    files::create_parent(&log_path)?;
    let log = File::create(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
    mkfifo(&spec::fifo(&spec.folder), Mode::S_IRUSR | Mode::S_IWUSR).context("cannot create a FIFO")?;
    let status = Command::new(SELF_EXE)
        .arg("node-supervise")
        .arg(spec_path)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot share a log")?)
        .stderr(log)
        .status()
        .context("cannot start a supervisor")?;
    if !status.success() {
        bail!("the supervisor failed ({status}):\n{}", tail(&log_path));
    }
    files::read_json(&init_file(&spec.folder))
}

/// Sends a request to the supervisor in `folder`. The result is in [`states`] a moment later.
pub fn request(folder: &Path, request: Request, component: &str) -> Result<()> {
    let mut options = OpenOptions::new();
    // Without a reader this is an error instead of an endless wait.
    options.write(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let started = Instant::now();
    let mut fifo = loop {
        match options.open(spec::fifo(folder)) {
            Ok(fifo) => break fifo,
            Err(error) if started.elapsed() > LISTENS_WITHIN => {
                let log = tail(&log_file(folder, "supervisor"));
                return Err(error).with_context(|| {
                    format!("the supervisor does not listen; the end of its log:\n{log}\n")
                });
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    };
    fifo.write_all(request.line(component).as_bytes()).context("cannot send a request to the supervisor")
}

/// Leaves the caller's session, enters new namespaces and starts [`init`] as their
/// first process.
pub fn supervise(spec_path: &Path) -> Result<()> {
    let spec: Spec = files::read_json(spec_path)?;
    // The node is independent of the terminal and of files that the caller has open: `flock FILE cargo xtask
    // cluster up` would keep its lock while the cluster runs.
    set_fds_cloexec(FIRST_INHERITED, &[]);
    setsid().context("cannot create a session")?;
    netns::enter(&spec.netns)?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID).context("cannot create namespaces")?;
    change_propagation(MsFlags::MS_PRIVATE)?;
    let mut child = Command::new(SELF_EXE)
        .arg("node-init")
        .arg(spec_path)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start the node")?;
    let process = Process::of(child.id().cast_signed()).context("the node ended immediately")?;
    // From here on it can be found and killed; it starts no component until it gets a line.
    files::write_json(&init_file(&spec.folder), &process)?;
    let mut input = child.stdin.take().context("the node has no standard input")?;
    input.write_all(b"\n").context("the node ended immediately")
}

/// The first process of a node. It ends only if it is killed.
pub fn init(spec_path: &Path) -> Result<()> {
    let spec: Spec = files::read_json(spec_path)?;
    // After the mounts the machine's processes are hidden, so the caller must record this one first.
    let line = std::io::stdin().lines().next().transpose().context("cannot read the standard input")?;
    if line.is_none() {
        bail!("this process was not recorded, so it could not be ended");
    }
    let result = mounts(&spec).and_then(|()| Supervisor::new(spec).serve());
    // The log has the reason.
    result.context("the supervisor exits and stops the node")
}

struct Supervisor {
    spec: Spec,
    states: Mutex<States>,
}

impl Supervisor {
    fn new(spec: Spec) -> Arc<Self> {
        Arc::new(Self { spec, states: Mutex::default() })
    }

    fn serve(self: &Arc<Self>) -> Result<()> {
        self.write(&self.lock())?;
        let reaper = Arc::clone(self);
        thread::spawn(move || {
            loop {
                reaper.reap_one();
            }
        });
        // Open for writing too, so that reading never ends.
        let fifo = OpenOptions::new()
            .read(true)
            .write(true)
            .open(spec::fifo(&self.spec.folder))
            .context("cannot open the FIFO")?;
        for line in BufReader::new(fifo).lines() {
            let line = line.context("cannot read a request")?;
            let component = |name| self.spec.components.iter().find(|component| component.name == name);
            match Request::read(&line).and_then(|(request, name)| Some((request, component(name)?))) {
                Some((Request::Start, component)) => self.start(component)?,
                Some((Request::Stop, component)) => self.stop(component, Signal::SIGTERM)?,
                Some((Request::Kill, component)) => self.stop(component, Signal::SIGKILL)?,
                None => crate::progress::print_line(&format!("cannot parse the request {line:?}")),
            }
        }
        Ok(())
    }

    fn start(&self, component: &Component) -> Result<()> {
        // Locked, so that the reaper knows the process before it looks.
        let mut states = self.lock();
        if states.get(&component.name).is_some_and(|state| state.pid().is_some()) {
            return Ok(());
        }
        let state = match self.spawn(component) {
            Ok(pid) => State::Running { pid, since: now() },
            Err(error) => State::Failed { why: format!("{error:#}") },
        };
        states.insert(component.name.clone(), state);
        self.write(&states)
    }

    fn stop(&self, component: &Component, signal: Signal) -> Result<()> {
        // Locked, so that the process isn't reaped, and its id reused, before the signal.
        let mut states = self.lock();
        let pid = states.get(&component.name).and_then(State::pid);
        let state = pid.map_or(State::Stopped { at: now() }, |pid| State::Stopping { pid });
        states.insert(component.name.clone(), state);
        if let Some(pid) = pid {
            // Not its group: containers keep running, as on a real node.
            let _ = kill(Pid::from_raw(pid), signal);
        }
        self.write(&states)
    }

    fn spawn(&self, component: &Component) -> Result<i32> {
        let log = log_file(&self.spec.folder, &component.name);
        // Appends to the log of earlier starts.
        let output = File::options().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        let child = Command::new(&component.program)
            .args(&component.arguments)
            .env_clear()
            .envs(&self.spec.environment)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot share a log")?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {}", component.program.display()))?;
        Ok(child.id().cast_signed())
    }

    /// Waits for any process to end: a component, or one that lost its parent.
    fn reap_one(&self) {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
            Ok(ended) => {
                let Some(pid) = ended.pid() else { return };
                // Reaped under the lock: a failed spawn reaps its own child.
                let mut states = self.lock();
                let _ = waitpid(pid, None);
                let mut all = states.values_mut();
                let Some(state) = all.find(|state| state.pid() == Some(pid.as_raw())) else { return };
                *state = match state {
                    State::Stopping { .. } => State::Stopped { at: now() },
                    _ => State::Exited { how: how(ended), at: now() },
                };
                let _ = self.write(&states);
            }
            // There are no children.
            Err(Errno::ECHILD) => thread::sleep(Duration::from_millis(100)),
            Err(_) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, states: &States) -> Result<()> {
        files::write_json(&state_file(&self.spec.folder), states)
    }
}

fn how(ended: WaitStatus) -> String {
    match ended {
        WaitStatus::Exited(_, status) => format!("status {status}"),
        WaitStatus::Signaled(_, signal, _) => signal.to_string(),
        other => format!("{other:?}"),
    }
}

/// Mounts the file systems of a node: the machine's, except for folders that components write to.
fn mounts(spec: &Spec) -> Result<()> {
    // Opened before a mount may hide it.
    let visible =
        File::open(&spec.visible).with_context(|| format!("cannot open {}", spec.visible.display()))?;
    attach(None, Path::new("/proc"), "proc")?;
    for (name, value) in SHOWN_SETTINGS {
        let shown = spec.folder.join("settings").join(name);
        let setting = Path::new("/proc/sys").join(name);
        if setting.exists() {
            files::write(&shown, format!("{value}\n"))?;
            bind(&shown, &setting)?;
        }
    }
    for hidden in ["/run", "/var"] {
        attach(None, Path::new(hidden), "tmpfs")?;
    }
    for folder in ["/var/lib", "/var/log", "/var/tmp", "/run/lock"] {
        files::create_folder(Path::new(folder))?;
    }
    std::os::unix::fs::symlink("/run", "/var/run").context("cannot link /var/run")?;
    if ["/run", "/var"].iter().any(|hidden| spec.visible.starts_with(hidden)) {
        files::create_folder(&spec.visible)?;
        bind(Path::new(&format!("/proc/self/fd/{}", visible.as_raw_fd())), &spec.visible)?;
    }
    for (own, machine) in &spec.binds {
        files::create_folder(own)?;
        files::create_folder(machine)?;
        bind(own, machine)?;
    }
    // Among the node's own processes mounts propagate, as the kubelet and CSI drivers expect.
    change_propagation(MsFlags::MS_SHARED)
}

fn change_propagation(kind: MsFlags) -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | kind, None::<&str>)
        .context("cannot change mount propagation")
}

fn attach(source: Option<&Path>, target: &Path, kind: &str) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some(source.unwrap_or(Path::new(kind))), target, Some(kind), flags, None::<&str>)
        .with_context(|| format!("cannot mount {kind} on {}", target.display()))
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .with_context(|| format!("cannot bind {} to {}", source.display(), target.display()))
}

/// The recorded states of a node's components, if there are any.
pub fn states(folder: &Path) -> Result<States> {
    let file = state_file(folder);
    match fs::metadata(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(States::new()),
        _ => files::read_json(&file),
    }
}
