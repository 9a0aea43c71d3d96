use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use client::Answer;

fn options(url: &str) -> Options {
    Options {
        rate: 1000.try_into().unwrap(),
        max_in_flight: 100.try_into().unwrap(),
        pod_header: Some("x-pod".to_owned()),
        ..Options::to(url)
    }
}

fn at(address: SocketAddr) -> Options {
    options(&format!("http://{address}/"))
}

async fn request(options: &Options) -> Answer {
    Client::new(options).unwrap().request().await
}

/// A server that handles every connection with `handle`, and counts connections.
async fn server<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(handle(stream));
        }
    });
    (address, connections)
}

/// A server that answers requests until the client closes the connection.
async fn answering(answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    server(move |mut stream| async move {
        let mut request = [0; 1024];
        while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
            if stream.write_all(answer.as_bytes()).await.is_err() {
                break;
            }
        }
    })
    .await
}

const OK: &str = "HTTP/1.1 200 OK\r\nx-pod: web-1\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn an_answer_has_its_status_pod_and_peer() {
    let (address, _) = answering(OK).await;
    let answer = request(&at(address)).await;
    assert_eq!(answer.outcome, Outcome::Answered(200));
    assert_eq!(answer.pod.as_deref(), Some("web-1"));
    assert_eq!(answer.peer, Some(address.ip()));
    let long: &'static str =
        format!("HTTP/1.1 200 OK\r\nx-pod: {}\r\ncontent-length: 0\r\n\r\n", "p".repeat(254)).leak();
    let (long, _) = answering(long).await;
    assert_eq!(request(&at(long)).await.pod, None, "no pod has such a name");
    let (missing, _) = answering("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(request(&at(missing)).await.outcome, Outcome::Answered(404), "the service answers");
}

#[tokio::test]
async fn a_loss_has_its_cause() {
    let (broken, _) =
        answering("HTTP/1.1 503 Service Unavailable\r\nx-pod: web-2\r\ncontent-length: 0\r\n\r\n").await;
    let answer = request(&at(broken)).await;
    assert_eq!(answer.outcome, Outcome::Lost(Cause::ServerError(503)));
    assert_eq!(answer.pod.as_deref(), Some("web-2"));

    let (cut, _) = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\nok").await;
    })
    .await;
    assert_eq!(request(&at(cut)).await.outcome, Outcome::Lost(Cause::Closed));

    let (silent, _) = server(|mut stream| async move { drop(stream.read(&mut [0; 1024]).await) }).await;
    assert_eq!(request(&at(silent)).await.outcome, Outcome::Lost(Cause::Closed));

    // TCP resets a connection that is closed with unread data.
    let (reset, _) = server(|mut stream| async move { drop(stream.read(&mut [0; 1]).await) }).await;
    assert_eq!(request(&at(reset)).await.outcome, Outcome::Lost(Cause::Reset));

    let (hanging, _) = server(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    // Long enough to connect on a busy machine.
    let impatient = Options { timeout: Duration::from_secs(1), ..at(hanging) };
    let answer = request(&impatient).await;
    assert_eq!(answer.outcome, Outcome::Lost(Cause::TimedOut));
    assert!(answer.connecting < impatient.timeout, "it was connected: {answer:?}");
    let impatient = Options { url: format!("https://{hanging}/"), insecure: true, ..impatient };
    let answer = request(&impatient).await;
    assert_eq!(answer.outcome, Outcome::Lost(Cause::TimedOut));
    assert!(answer.connecting >= impatient.timeout, "connecting includes TLS: {answer:?}");

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let answer = request(&at(closed)).await;
    assert_eq!(answer.outcome, Outcome::Lost(Cause::Refused));
    assert_eq!(answer.peer, Some(closed.ip()), "known from the URL");

    let unknown = request(&options("http://nowhere.invalid/")).await;
    assert_eq!(unknown.outcome, Outcome::Lost(Cause::Unresolved));
}

#[tokio::test]
async fn an_error_names_the_invalid_option() {
    let good = || options("http://localhost/");
    for (options, part) in [
        (Options { url: "localhost".to_owned(), ..good() }, "--url"),
        (Options { url: "ftp://localhost".to_owned(), ..good() }, "--url"),
        (Options { method: "GE T".to_owned(), ..good() }, "--method"),
        (Options { headers: vec![("a b".to_owned(), String::new())], ..good() }, "--header"),
        (Options { pod_header: Some("x pod".to_owned()), ..good() }, "--pod-header"),
        (Options { ca_certificates: Some("nothing".to_owned()), ..good() }, "--cacert"),
    ] {
        let message = Client::new(&options).unwrap_err().to_string();
        assert!(message.starts_with(part), "{message}");
    }
}

/// The samples of a load with at least this many requests.
async fn run_for(options: &Options, number: usize) -> Vec<Sample> {
    let stop = CancellationToken::new();
    let mut samples = Vec::new();
    let sink = |sample| {
        samples.push(sample);
        if samples.len() >= number {
            stop.cancel();
        }
    };
    run(&Client::new(options).unwrap(), options, Instant::now(), sink, stop.clone()).await;
    samples
}

#[tokio::test]
async fn each_request_opens_a_connection_without_keep_alive() {
    let (address, connections) = answering(OK).await;
    // On a busy machine many requests are in flight.
    let patient = |address| Options { max_in_flight: 100_000.try_into().unwrap(), ..at(address) };
    let samples = run_for(&patient(address), 50).await;
    assert!(samples.iter().all(Sample::is_answered));
    assert_eq!(connections.load(Ordering::Relaxed), samples.len());

    let (address, connections) = answering(OK).await;
    // So slow that a connection is free for the next request on a busy machine too.
    let kept = Options { keep_alive: true, rate: 20.try_into().unwrap(), ..patient(address) };
    let samples = run_for(&kept, 30).await;
    assert!(samples.iter().all(Sample::is_answered), "{samples:?}");
    assert!(connections.load(Ordering::Relaxed) < samples.len() / 2);
}

#[tokio::test]
async fn slow_answers_do_not_delay_requests() {
    // Without answers, a closed-loop load would wait for the first request.
    let (address, _) = server(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let options = Options { timeout: Duration::from_millis(300), ..at(address) };
    let mut samples = run_for(&options, 400).await;
    samples.sort_by_key(|sample| sample.due);
    let first = samples[0].due;
    for (number, sample) in samples.iter().enumerate() {
        assert_eq!(sample.due, first + Duration::from_millis(number as u64));
    }
    // Requests beyond the limit in flight are not sent, and are reported.
    let sent = samples.iter().filter(|sample| sample.outcome == Outcome::Lost(Cause::TimedOut)).count();
    let not_sent = samples.iter().filter(|sample| sample.outcome == Outcome::NotSent).count();
    assert_eq!(sent + not_sent, samples.len());
    assert!(sent >= 100 && not_sent > 0, "{sent} sent, {not_sent} not sent");
}

#[tokio::test]
async fn outstanding_answers_are_awaited_after_the_stop() {
    let (address, _) = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let _ = stream.write_all(OK.as_bytes()).await;
    })
    .await;
    let options = Options { rate: 200.try_into().unwrap(), ..at(address) };
    let samples = run_for(&options, 1).await;
    assert!(samples.len() > 1, "more were in flight when the first ended");
    assert!(samples.iter().all(|sample| {
        sample.is_answered() && sample.took.saturating_sub(sample.connecting) >= Duration::from_millis(100)
    }));
}

mod protocols;
