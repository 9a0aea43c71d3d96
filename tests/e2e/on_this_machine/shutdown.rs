//! A node that shuts down without a drain: its kubelet gives pods its own `shutdownGracePeriod`.
//!
//! The kubelet is notified of a shutdown by systemd-logind, which can't run here. The test answers the kubelet's
//! calls on the node's system bus instead.

use std::{
    fs,
    io::{IoSlice, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use nix::{
    sys::socket::{ControlMessage, MsgFlags, sendmsg},
    unistd::pipe,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    figures::row,
    nodes::{cluster, nodes},
    operator::{ADIEU, Operator},
    support::{Scene, eventually, grace_period, pods_of, run, web},
    terminations::profile_with,
};

/// The kubelet's `shutdownGracePeriod`, in seconds.
const SHUTDOWN: i64 = 25;
/// A drain longer than that: a pod is killed before it gets SIGTERM.
const DRAIN: i64 = 40;

/// A system bus with a logind, and a kubelet as its only client.
struct Bus(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    kubelet: Option<UnixStream>,
    /// The inhibitor lock: readable once the kubelet closes its end.
    lock: Option<OwnedFd>,
    serial: u32,
}

impl Bus {
    /// Listens at the socket of the node's system bus: `/var/run` is a link to `/run`.
    fn listen(process: u32) -> Self {
        let folder = PathBuf::from(format!("/proc/{process}/root/run/dbus"));
        fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("system_bus_socket");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(socket).unwrap();
        let state = Arc::<Mutex<State>>::default();
        let of_bus = state.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let state = of_bus.clone();
                thread::spawn(move || serve(&client.unwrap(), &state));
            }
        });
        Self(state)
    }

    fn is_inhibited(&self) -> bool {
        lock(&self.0).lock.is_some()
    }

    /// Signals that the node shuts down, or that the shutdown is canceled.
    fn prepare_for_shutdown(&self, active: bool) {
        let mut state = lock(&self.0);
        let fields = [
            (1, "o", string("/org/freedesktop/login1")),
            (2, "s", string("org.freedesktop.login1.Manager")),
            (3, "s", string("PrepareForShutdown")),
            (8, "g", signature("b")),
        ];
        let signal = state.message(4, &fields, &u32::from(active).to_le_bytes());
        state.kubelet.as_ref().unwrap().write_all(&signal).unwrap();
    }

    /// Waits until the kubelet releases the inhibitor lock.
    async fn released(&self) {
        let held = lock(&self.0).lock.take().unwrap();
        let wait = move || drop(fs::File::from(held).read(&mut [0]));
        tokio::task::spawn_blocking(wait).await.unwrap();
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers one client until it disconnects.
fn serve(client: &UnixStream, state: &Mutex<State>) {
    let mut reader = client.try_clone().unwrap();
    if authenticate(&mut reader).is_none() {
        return;
    }
    lock(state).kubelet = Some(client.try_clone().unwrap());
    while let Some((serial, member)) = read_call(&mut reader) {
        let mut state = lock(state);
        let reply = (5, "u", serial.to_le_bytes().to_vec());
        let answer = |state: &mut State, kind: &str, body: &[u8]| {
            let mut fields = vec![reply.clone(), (6, "s", string(":1.1")), (8, "g", signature(kind))];
            fields.retain(|(code, ..)| *code != 8 || !kind.is_empty());
            if kind == "h" {
                fields.push((9, "u", 1_u32.to_le_bytes().to_vec()));
            }
            state.message(2, &fields, body)
        };
        match member.as_str() {
            "Hello" => {
                let answer = answer(&mut state, "s", &string(":1.1"));
                (&mut &*client).write_all(&answer).unwrap();
            }
            // InhibitDelayMaxUSec, a variant.
            "Get" => {
                let delay = 1_000_000 * 2 * SHUTDOWN.cast_unsigned();
                let body = [&[1, b't', 0, 0, 0, 0, 0, 0][..], &delay.to_le_bytes()].concat();
                let answer = answer(&mut state, "v", &body);
                (&mut &*client).write_all(&answer).unwrap();
            }
            "Inhibit" => {
                let (held, given) = pipe().unwrap();
                let answer = answer(&mut state, "h", &0_u32.to_le_bytes());
                let fds = [given.as_raw_fd()];
                let rights = [ControlMessage::ScmRights(&fds)];
                let parts = [IoSlice::new(&answer)];
                sendmsg::<()>(client.as_raw_fd(), &parts, &rights, MsgFlags::empty(), None).unwrap();
                state.lock = Some(held);
            }
            _ => {
                let answer = answer(&mut state, "", &[]);
                (&mut &*client).write_all(&answer).unwrap();
            }
        }
    }
}

/// SASL as in the D-Bus specification, accepting every client.
fn authenticate(client: &mut UnixStream) -> Option<()> {
    client.read_exact(&mut [0]).ok()?;
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).ok()?;
            line.extend(byte);
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        let answer = match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["BEGIN"] => return Some(()),
            ["AUTH"] => "REJECTED EXTERNAL\r\n",
            ["AUTH", ..] => "OK 00000000000000000000000000000001\r\n",
            ["NEGOTIATE_UNIX_FD"] => "AGREE_UNIX_FD\r\n",
            _ => "ERROR\r\n",
        };
        client.write_all(answer.as_bytes()).ok()?;
    }
}

/// The serial and the member of the next call.
fn read_call(client: &mut UnixStream) -> Option<(u32, String)> {
    let mut head = [0; 16];
    client.read_exact(&mut head).ok()?;
    let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
    let (body, serial, fields) = (number(4) as usize, number(8), number(12) as usize);
    let mut rest = vec![0; fields.next_multiple_of(8) + body];
    client.read_exact(&mut rest).ok()?;
    // The field 3 is a string, at the beginning of a structure.
    let at = (0..fields).step_by(8).find(|at| rest[*at..].starts_with(&[3, 1, b's', 0]))?;
    let length = u32::from_le_bytes(rest[at + 4..at + 8].try_into().unwrap()) as usize;
    Some((serial, String::from_utf8_lossy(&rest[at + 8..at + 8 + length]).into_owned()))
}

impl State {
    /// A message of a type, with header fields (code, signature, marshalled value) and body.
    fn message(&mut self, kind: u8, fields: &[(u8, &str, Vec<u8>)], body: &[u8]) -> Vec<u8> {
        self.serial += 1;
        let mut header = Vec::new();
        for (code, of, value) in fields {
            header.resize(header.len().next_multiple_of(8), 0);
            header.push(*code);
            header.extend(signature(of));
            header.extend(value);
        }
        let mut message = vec![b'l', kind, 1, 1];
        for number in [body.len(), self.serial as usize, header.len()] {
            message.extend(u32::try_from(number).unwrap().to_le_bytes());
        }
        message.extend(header);
        message.resize(message.len().next_multiple_of(8), 0);
        message.extend(body);
        message
    }
}

fn string(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes(), &[0]].concat()
}

fn signature(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes(), &[0]].concat()
}

/// The process of a node's kubelet, and its configuration file.
fn kubelet(node: &str) -> (u32, PathBuf) {
    let cluster = std::env::var("ADIEU_TEST_CLUSTER").unwrap();
    let end = format!("clusters/{cluster}/{node}/config/kubelet.yaml");
    let mut processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let process = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let config = line.split('\0').find_map(|argument| argument.strip_prefix("--config="))?;
        config.ends_with(&end).then(|| (process, PathBuf::from(config)))
    });
    processes.next().expect("a kubelet")
}

/// Changes the configuration of the kubelet of `node`, and returns the previous one.
async fn configure(node: &str, change: impl FnOnce(&mut Value)) -> String {
    let (_, file) = kubelet(node);
    let before = fs::read_to_string(&file).unwrap();
    let mut config: Value = serde_json::from_str(&before).unwrap();
    change(&mut config);
    fs::write(&file, config.to_string()).unwrap();
    cluster(&["restart", &format!("kubelet/{node}")]).await;
    before
}

/// Deletes pods that the kubelet ended, which stay as failed or succeeded ones.
async fn remove_ended(scene: &Scene, namespace: &str, node: &str) {
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), namespace);
    let ended = format!("spec.nodeName={node},status.phase!=Running,status.phase!=Pending");
    let ended = ListParams::default().fields(&ended);
    pods.delete_collection(&DeleteParams::default(), &ended).await.unwrap();
}

/// An opted-in Deployment with its pod on `node`, which is killed if it has less time than its drain.
fn web_on(node: &str) -> Value {
    let annotations = json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": DRAIN.to_string()});
    let mut object = web("web", &annotations);
    let pod = &mut object["spec"]["template"]["spec"];
    pod["nodeSelector"] = json!({"kubernetes.io/hostname": node});
    pod["containers"][0]["args"] = json!(["ignore"]);
    object
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_node_that_shuts_down_gives_pods_its_own_time_and_doctor_warns_of_it() {
    let scene = Scene::new().await;
    let Some(nodes) = nodes(&scene).await else { return scene.end().await };
    let node = nodes.last().unwrap().name_any();
    let operator = Operator::find(&scene.client).await;
    // Its only replica may be on the node.
    operator.scale(2).await;
    let bus = Bus::listen(kubelet(&node).0);
    let before = configure(&node, |config| {
        config["shutdownGracePeriod"] = json!(format!("{SHUTDOWN}s"));
    })
    .await;
    eventually("the kubelet to inhibit shutdowns", || async { bus.is_inhibited() }).await;

    // The kubelet that restarts may report its pods as not ready for a moment.
    operator.is_reachable().await;
    let created = scene.create(&web_on(&node)).await;
    assert_eq!(grace_period(&created), Some(DRAIN + 35), "it is injected on creation");
    scene.rolled_out("web").await;
    let pod = pods_of(&scene, "web").await.remove(0);
    let mut doctor = tokio::process::Command::new(env!("CARGO_BIN_EXE_adieu"));
    doctor.args(["doctor", "--namespace", &scene.namespace]);
    let said = run(doctor, String::new()).await.unwrap();

    let begun = Instant::now();
    bus.prepare_for_shutdown(true);
    let nodes: Api<Node> = Api::all(scene.client.clone());
    let is_ready = async || {
        let conditions = nodes.get(&node).await.unwrap().status.unwrap().conditions.unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    eventually("the node not to be ready", async || !is_ready().await).await;
    let unready = begun.elapsed();
    bus.released().await;
    let took = begun.elapsed();
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let status = async || pods.get(&pod.name_any()).await.unwrap().status.unwrap();
    eventually("the pod to have ended", async || status().await.phase.as_deref() == Some("Failed")).await;
    let (ended, status) = (begun.elapsed(), status().await);
    // Before an assertion fails, because it affects other tests.
    bus.prepare_for_shutdown(false);
    configure(&node, |config| *config = serde_json::from_str(&before).unwrap()).await;
    eventually("the node to be ready", is_ready).await;
    remove_ended(&scene, ADIEU, &node).await;
    operator.scale(2).await;
    // A termination counts once its pod is deleted. The leader may have been on the node too.
    operator.observes().await;
    remove_ended(&scene, &scene.namespace, &node).await;
    profile_with(&scene, "web", "CutShort", &[("NodeShutdown", 1)]).await;

    assert!(said.contains(&format!("grace period of 45 s: {node} {SHUTDOWN} s")), "{said}");
    assert!(status.message.unwrap().contains("imminent node shutdown"));
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let cells =
        [format!("{SHUTDOWN} s"), format!("{DRAIN} s"), seconds(unready), seconds(took), seconds(ended)];
    row("node-shutdown", &cells.each_ref().map(String::as_str));
    let [took, ended] = [took, ended].map(|time| time.as_secs());
    assert!((SHUTDOWN.cast_unsigned() - 1..DRAIN.cast_unsigned() - 5).contains(&took), "it took {took} s");
    assert!(ended < DRAIN.cast_unsigned(), "the pod ended after {ended} s");
    scene.end().await;
}
