use anyhow::anyhow;
use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn arguments(line: &[&str]) -> Arguments {
    Line::parse_from([&["calibrate"], line].concat()).arguments
}

fn intention(line: &[&str]) -> String {
    let (arguments, interrupted) = (arguments(line), CancellationToken::new());
    let runner = Runner {
        arguments: &arguments,
        ways: arguments.ways.ways().unwrap(),
        interrupted: &interrupted,
        progress: PhaseIndicator::new(),
    };
    let image = Image { name: "adieu:1".to_owned(), pull_secret: None };
    runner.intention("the cluster https://10.0.0.1:6443 (context prod)", "shop", &image)
}

#[test]
fn the_question_names_what_is_created_and_its_bounds() {
    let both = ["--service", "ClusterIP,NodePort", "--gateway-class", "eg", "--terminations", "5"];
    let bounds = ["--rate", "10", "--limit", "10m", "--window", "5m"];
    let question = intention(&[&both[..], &bounds].concat());
    for part in [
        "measure ClusterIP, NodePort, GatewayClass/eg in the cluster https://10.0.0.1:6443",
        "(context prod), namespace shop: create",
        "create 3 pods of the image adieu:1 and objects of the kinds Gateway, HTTPRoute, Job, Service",
        "send 60 requests/s to them from here, for 30 min and 108000 requests at most",
        "delete 5 of them one after the other",
        "remove everything at the end",
    ] {
        assert!(question.contains(part), "{part} is missing in {question}");
    }
    assert!(!question.contains("ClusterGracefulPolicy"), "{question}");
    let applied = intention(&["--service", "ClusterIP", "--in-cluster", "--apply", "--policy", "measured"]);
    for part in ["from 2 Jobs in the cluster", "write the drains to the ClusterGracefulPolicy measured"] {
        assert!(applied.contains(part), "{part} is missing in {applied}");
    }
}

#[test]
fn a_failed_removal_hides_neither_the_report_nor_another_error() {
    let failed = || Err(anyhow!("timed out"));
    let report = merge_errors(Ok(CalibrationReport::default()), failed()).unwrap();
    assert_eq!(report.incomplete.as_deref(), Some("timed out"));
    let incomplete = Some("the limit".to_owned());
    let limited = CalibrationReport { incomplete, ..CalibrationReport::default() };
    let report = merge_errors(Ok(limited), failed()).unwrap();
    assert_eq!(report.incomplete.as_deref(), Some("the limit; timed out"));
    for (outcome, removed, expected) in [
        (anyhow!("no image"), failed(), "no image; timed out"),
        (anyhow!(Interrupted("everything is removed")), failed(), "timed out"),
        (anyhow!(Interrupted("everything is removed")), Ok(()), "interrupted; everything is removed"),
    ] {
        let error = merge_errors(Err(outcome), removed).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}
