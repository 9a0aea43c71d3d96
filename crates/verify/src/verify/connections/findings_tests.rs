use super::*;

fn keep_alive(ends: Option<f64>, by: Option<IdleEnd>, limit: f64) -> KeepAlive {
    KeepAlive {
        limit_seconds: limit,
        ends_after_seconds: ends,
        ended_by: by,
        answers_after_seconds: None,
        advertised_seconds: None,
        connections: 10,
        not_kept: 0,
        failed: 0,
    }
}

fn balancer(idle_seconds: f64) -> LoadBalancer {
    LoadBalancer { name: "the load balancer".to_owned(), idle_seconds, source: "--lb-idle".to_owned() }
}

#[test]
fn a_server_must_keep_idle_connections_longer_than_every_load_balancer() {
    use IdleEnd::{Closed, Dropped, Reset};
    for (keep_alive, balancers, expected, part) in [
        (
            keep_alive(Some(5.0), Some(Closed), 130.0),
            vec![balancer(60.0)],
            Some((Rule::KeepAliveTooShort, true)),
            "closes idle connections after 5.0 s, but the load balancer keeps them for 60 s (--lb-idle)",
        ),
        (
            keep_alive(Some(60.0), Some(Reset), 130.0),
            vec![balancer(60.0)],
            Some((Rule::KeepAliveTooShort, true)),
            "resets idle connections",
        ),
        (keep_alive(Some(75.0), Some(Closed), 130.0), vec![balancer(60.0)], None, ""),
        (keep_alive(None, None, 130.0), vec![balancer(60.0)], None, ""),
        (
            keep_alive(None, None, 130.0),
            vec![balancer(600.0)],
            Some((Rule::KeepAliveNotTested, false)),
            "use --idle-limit 605s",
        ),
        (
            keep_alive(Some(5.0), Some(Closed), 130.0),
            vec![],
            Some((Rule::KeepAliveNotCompared, false)),
            "use --lb-idle to compare",
        ),
        (keep_alive(None, None, 130.0), vec![], None, ""),
        (
            keep_alive(Some(8.0), Some(Dropped), 130.0),
            vec![balancer(60.0)],
            Some((Rule::IdleConnectionsDropped, true)),
            "a firewall or a NAT",
        ),
        (
            KeepAlive { not_kept: 10, ..keep_alive(None, None, 130.0) },
            vec![balancer(60.0)],
            Some((Rule::ConnectionsNotKept, false)),
            "with its first response",
        ),
        (KeepAlive { failed: 10, ..keep_alive(None, None, 130.0) }, vec![balancer(60.0)], None, ""),
    ] {
        let found = of_keep_alive(&keep_alive, &balancers);
        let rule = found.first().map(|finding| (finding.rule, finding.is_problem));
        assert_eq!(rule, expected, "{keep_alive:?} {balancers:?}");
        assert!(found.iter().all(|finding| finding.message.contains(part)), "{found:?}");
    }
}

#[test]
fn the_remedies_give_a_timeout_longer_than_the_load_balancers() {
    let found = of_keep_alive(&keep_alive(Some(5.0), Some(IdleEnd::Closed), 130.0), &[balancer(60.0)]);
    let text = |server: &str| {
        let remedy = found[0].remedies.iter().find(|remedy| remedy.server == server);
        remedy.unwrap().text.as_str()
    };
    for (server, part) in [
        ("Node.js", "server.keepAliveTimeout = 65000"),
        ("Go", "IdleTimeout: 65 * time.Second"),
        ("Java", "server.tomcat.keep-alive-timeout=65s"),
        ("Python", "uvicorn --timeout-keep-alive 65"),
        ("nginx", "keepalive_timeout 65s"),
    ] {
        assert!(text(server).contains(part), "{}", text(server));
    }
}

#[test]
fn connections_that_end_without_an_announcement_have_remedies() {
    use Behavior::{Announced, AnnouncedAndCut, Closed, Cut, Reset, ServedUntilExit};
    use ConnectionKind::{Busy, Grpc, Http2, Idle, WebSocket};
    for (kind, behavior, expected, remedy) in [
        (Busy, Announced, None, ""),
        (Busy, Closed, Some((Rule::NotAnnounced, false)), "server.close()"),
        (Busy, ServedUntilExit, Some((Rule::NotAnnounced, true)), "Shutdown of http.Server"),
        (Busy, Cut, Some((Rule::NotAnnounced, true)), "server.shutdown=graceful"),
        (Busy, Reset, Some((Rule::NotAnnounced, true)), "SIGQUIT"),
        (Idle, Closed, None, ""),
        (Idle, ServedUntilExit, Some((Rule::NotAnnounced, false)), "server.close()"),
        (Http2, Announced, None, ""),
        (Http2, Closed, Some((Rule::NotAnnounced, false)), "GOAWAY"),
        (Grpc, Announced, None, ""),
        (Grpc, Cut, Some((Rule::StreamsCut, true)), "GracefulStop"),
        (Grpc, AnnouncedAndCut, Some((Rule::StreamsCut, true)), "awaitTermination"),
        (WebSocket, Announced, None, ""),
        (WebSocket, Cut, Some((Rule::StreamsCut, true)), "client.close(1001)"),
    ] {
        let ended = ConnectionsOfKind {
            kind,
            behavior,
            connections: 2,
            pods: vec!["web-1".to_owned()],
            since: TimeBase::Sigterm,
            first_seconds: 0.1,
            last_seconds: 3.0,
        };
        let found = of_termination(&ended);
        let rule = found.as_ref().map(|finding| (finding.rule, finding.is_problem));
        assert_eq!(rule, expected, "{kind:?} {behavior:?}");
        let Some(found) = found else { continue };
        assert!(found.message.contains("2 connections"), "{}", found.message);
        assert!(found.message.contains("0.1 to 3.0 s after SIGTERM"), "{}", found.message);
        assert!(found.remedies.iter().any(|known| known.text.contains(remedy)), "{found:?}");
    }
}
