//! Terminating elegantly: every request increments a counter in Redis, at the end of up to a second of work.
//! After a rolling update under load, the counter has the number of completed requests, and vegeta that of answers.

use std::net::SocketAddr;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::Command,
};

use super::{app::App, count, figures::row, full};
use crate::support::{Scene, eventually, run};

/// Both versions of the server, the one that handles SIGTERM and the one that doesn't.
const VERSIONS: [(&str, &str); 2] = [("graceful", "true"), ("abrupt", "false")];

/// A load of vegeta.
#[derive(Clone, Copy)]
struct Attack {
    rate: u32,
    seconds: u32,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_counter_holds_every_request_whether_the_server_handles_sigterm_or_not() {
    let article = Attack { rate: 25, seconds: count(15, 40) };
    let repository = full().then_some(Attack { rate: 50, seconds: 60 });
    for attack in [article].into_iter().chain(repository) {
        attacked(attack).await;
    }
}

async fn attacked(attack: Attack) {
    let scene = Scene::new().await;
    let redis = App::deploy_without_http(&scene, "redis", "redis", json!({}), &[]).await;
    // A drain that ends during a short load.
    let managed = json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": count("5", "10")});
    let arms = VERSIONS.into_iter().flat_map(|(version, graceful)| {
        let arms = [("without", json!({})), ("with", managed.clone())];
        arms.map(|(adieu, annotations)| (version, graceful, adieu, annotations))
    });
    let (scene_of_all, redis) = (&scene, redis.address);
    let outcomes = join_all(arms.map(|(version, graceful, adieu, annotations)| async move {
        let name = format!("{version}-{adieu}");
        let values = [("GRACEFUL", graceful)];
        let app = App::deploy(scene_of_all, "elegant", &name, annotations, &values).await;
        let by_vegeta = attack.by_vegeta(&app, redis).await;
        let by_verify = attack.by_verify(&app, redis).await;
        (version, adieu, by_vegeta, by_verify)
    }))
    .await;

    for (version, adieu, by_vegeta, by_verify) in &outcomes {
        for (sender, attacked) in [("vegeta", by_vegeta), ("adieu verify", by_verify)] {
            let Attacked { sent, answered, counted, causes } = attacked;
            let what = format!("rolling update, {sender} at {}/s, {version} version", attack.rate);
            let found = format!("Redis counted {counted}");
            row("terminating-elegantly", &what, adieu, [*sent, sent - answered], &found);
            println!("{what}, {adieu} adieu: {causes}");
            assert!(*sent > usize::try_from(attack.rate).unwrap(), "{what}: only {sent} requests");
            match (*adieu, *version) {
                ("with", _) => assert_eq!((answered, counted), (sent, sent), "{what}: {causes}"),
                ("without", "abrupt") => {
                    assert!(answered < sent, "{what}: nothing was lost without adieu");
                    // Counted, but ended before it could answer, so it is lost to its client.
                    assert!(counted >= answered, "{what}: {answered} answers, but Redis counted {counted}");
                }
                _ => {}
            }
        }
        assert_eq!(by_vegeta.sent, usize::try_from(attack.rate * attack.seconds).unwrap());
    }
    scene.end().await;
}

/// The outcome of an attack, from its sender and from Redis.
struct Attacked {
    sent: usize,
    answered: usize,
    counted: usize,
    causes: Value,
}

impl Attack {
    /// The attack by vegeta, during updates of the application.
    async fn by_vegeta(self, app: &App<'_>, redis: SocketAddr) -> Attacked {
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("results");
        let mut vegeta = Command::new("vegeta");
        vegeta.arg("attack").arg(format!("-rate={}", self.rate)).arg(format!("-duration={}s", self.seconds));
        vegeta.arg("-output").arg(&results);
        let attacking = run(vegeta, format!("GET http://{}/incr\n", app.address));
        let update = async {
            let begun = usize::try_from(self.rate).unwrap();
            eventually("the load", || async { counter(redis, &app.name).await >= begun }).await;
            app.update(1).await;
        };
        let (attacked, ()) = tokio::join!(attacking, update);
        attacked.unwrap();
        app.settled().await;
        let mut vegeta = Command::new("vegeta");
        vegeta.args(["report", "-type=json"]).arg(&results);
        let report: Value = serde_json::from_str(&run(vegeta, String::new()).await.unwrap()).unwrap();
        Attacked {
            sent: number(&report["requests"]),
            answered: number(&report["status_codes"]["200"]),
            counted: counter(redis, &app.name).await,
            causes: report["errors"].clone(),
        }
    }

    /// The attack by `adieu verify`, which restarts the application.
    async fn by_verify(self, app: &App<'_>, redis: SocketAddr) -> Attacked {
        let app = app.behind(&format!("{}-again", app.name)).await;
        let before = counter(redis, &app.name).await;
        let url = format!("http://{}/incr", app.address);
        let rate = self.rate.to_string();
        let report = app.scene.verify(&app.name, &url, &["--rate", &rate]).await.report;
        Attacked {
            sent: number(&report["requests"]["sent"]),
            answered: number(&report["requests"]["answered"]),
            counted: counter(redis, &app.name).await - before,
            causes: report["causes"].clone(),
        }
    }
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap_or_default().try_into().unwrap()
}

/// The counter with this name in Redis.
async fn counter(redis: SocketAddr, name: &str) -> usize {
    let mut stream = BufReader::new(TcpStream::connect(redis).await.unwrap());
    stream.write_all(format!("GET {name}\r\n").as_bytes()).await.unwrap();
    // The length of the answer, then the answer.
    let mut lines = stream.lines();
    let length = lines.next_line().await.unwrap().unwrap();
    if length == "$-1" {
        return 0;
    }
    lines.next_line().await.unwrap().unwrap().parse().unwrap()
}
