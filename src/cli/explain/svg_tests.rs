use kube::core::DynamicObject;
use serde_json::json;

use super::*;
use crate::{
    api::TerminationProfileStatus,
    cli::explain::timeline::tests::{exposure, observed, termination},
    plan::{Kind, NamespaceContext},
};

/// Left, top, right and bottom.
type Area = [i64; 4];

fn area(label: &Label) -> Area {
    let width = width(&label.text);
    let left = if label.is_centred { label.x - width / 2 } else { label.x };
    [left, label.y - 11, left + width, label.y + 3]
}

fn is_within(inner: Area, outer: Area) -> bool {
    inner[0] >= outer[0] && inner[1] >= outer[1] && inner[2] <= outer[2] && inner[3] <= outer[3]
}

fn overlaps(one: Area, other: Area) -> bool {
    one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3]
}

fn check(picture: &Picture) {
    let labels: Vec<_> = picture.labels.iter().map(|label| (&label.text, area(label))).collect();
    for (index, (text, area)) in labels.iter().enumerate() {
        assert!(is_within(*area, [0, 0, WIDTH, picture.height]), "{text} is cut: {area:?}");
        for (other, other_area) in &labels[..index] {
            assert!(!overlaps(*area, *other_area), "{text} overlaps {other}");
        }
        for bar in &picture.bars {
            let bar = [bar.x, bar.y, bar.x + bar.width, bar.y + bar.height];
            assert!(
                !overlaps(*area, bar) || is_within(*area, bar),
                "{text} overlaps a bar: {area:?} {bar:?}"
            );
        }
    }
}

#[test]
fn no_text_of_the_picture_is_cut_or_overlaps_another() {
    for title in ["", "Termination of a pod of Deployment shop/web", "w".repeat(350).as_str()] {
        check(&Picture::of(title, &Timelines::of(&termination(), Some(&observed()), &[]), 214));
    }
    for grace in [-1, 0, 1, 2, 7, 30, 45, 99, 155, 900, 4800, 86_400, i64::MAX] {
        for drain in [0, 1, 10, i64::MAX] {
            for shutdown in [None, Some(0), Some(30)] {
                let mut termination = termination();
                let mut sidecar = termination.containers[0].clone();
                sidecar.native_sidecar = true;
                termination.containers.push(sidecar);
                termination.containers[0].pre_stop_seconds = drain;
                (termination.grace_period_seconds, termination.shutdown_timeout_seconds) = (grace, shutdown);
                check(&Picture::of("web", &Timelines::of(&termination, None, &[]), 0));
                let exposures = [exposure("azure-application-gateway", 95), exposure("cluster-ip", 10)];
                check(&Picture::of("web", &Timelines::of(&termination, None, &exposures), 0));
                for last in [0, 1, 30, 604_800] {
                    let mut observed = observed();
                    let quantiles = Quantiles { p50: last / 2, p90: last, p99: last, max: last };
                    observed.shutdown_seconds = Some(quantiles);
                    observed.endpoint_withdrawal_seconds = Some(quantiles);
                    check(&Picture::of("web", &Timelines::of(&termination, Some(&observed), &exposures), 1));
                }
            }
        }
    }
}

#[test]
fn phases_and_quantiles_are_to_scale() {
    let picture = Picture::of("web", &Timelines::of(&termination(), Some(&observed()), &[]), 214);
    let phases: Vec<_> = picture.bars.iter().filter(|bar| bar.height == BAR).collect();
    // A second of 45 is 19.1 pixels of 860.
    let places: Vec<_> = phases.iter().map(|bar| (bar.x, bar.x + bar.width)).collect();
    assert_eq!(places, [(100, 136), (138, 958), (100, 289), (291, 862), (864, 958)]);
    let marks: Vec<_> = picture.marks.iter().take(3).map(|mark| mark.x).collect();
    assert_eq!(marks, [100 + 13 * 860 / 45, 100 + 19 * 860 / 45, 100 + 22 * 860 / 45]);
    assert_eq!((picture.kill, picture.ticks.len(), picture.ticks[1]), (960, 10, 195));
    let step = |end| Axis { left: 100, end }.step();
    assert_eq!([1, 9, 45, 60, 155, 4800].map(step), [1, 1, 5, 5, 20, 500]);
}

/// The contrast of two colours, as the Web Content Accessibility Guidelines define it.
fn contrast(one: &str, other: &str) -> f64 {
    let luminance = |colour: &str| -> f64 {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5) + 0.05
    };
    let (one, other) = (luminance(one), luminance(other));
    one.max(other) / one.min(other)
}

#[test]
fn phases_are_distinguished_without_their_hues_and_their_names_are_legible() {
    use Phase::{
        Drain, Exposed, ExposedTooLong, Margin, Shutdown, Sidecars, Unexposed, Withdrawal, Withdrawn,
    };
    let (exposed, too_long) = (Exposed("cluster-ip"), ExposedTooLong("cluster-ip"));
    for phase in [Withdrawal, Withdrawn, exposed, too_long, Unexposed, Drain, Shutdown, Sidecars, Margin] {
        let Style { fill, front, .. } = style(phase);
        assert!(contrast(fill, front) > 4.5, "{phase:?}");
    }
    for (one, next) in [
        (Withdrawal, Withdrawn),
        (exposed, too_long),
        (Drain, Shutdown),
        (Shutdown, Sidecars),
        (Shutdown, Margin),
        (Sidecars, Margin),
    ] {
        assert!(contrast(style(one).fill, style(next).fill) > 1.3, "{one:?} {next:?}");
    }
}

#[test]
fn the_picture_has_both_timelines_with_each_exposure_and_what_was_observed() {
    let object: DynamicObject = serde_json::from_value(json!({
        "metadata": {"name": "<web>\u{1b}", "namespace": "shop"},
        "spec": {"template": {"spec": {"containers": [{"name": "web"}]}}},
    }))
    .unwrap();
    let mut explained = Explained::of(Kind::Deployment, "shop", &object, &NamespaceContext::default(), &[]);
    explained.exposures = vec![exposure("ingress-nginx", 30), exposure("cluster-ip", 10)];
    explained.explanation.termination = termination();
    explained.observed = Some(observed());
    let svg = picture(&explained);
    for text in [
        "<title>Termination of a pod of Deployment shop/&lt;web&gt;\\u{1b}</title>",
        "<desc>SIGKILL after 45 s; 0 to 2 s: the endpoint is withdrawn",
        ">network: ingress-nginx</text>",
        "<title>0 to 10 s: ingress-nginx: requests still arrive</title>",
        "10 to 30 s: ingress-nginx: requests still arrive after SIGTERM, the drain is too short",
        ">network: cluster-ip</text>",
        "<title>10 to 40 s: shutdown",
        "13 s: end of the last container, p50 of 214 observed terminations",
        "22 s: end of the last container, max of 214 observed terminations<",
    ] {
        assert!(svg.contains(text), "{text} is missing in {svg}");
    }
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"));
    let slow = Quantiles { max: 604_800, ..Quantiles::default() };
    explained.observed = Some(TerminationProfileStatus { shutdown_seconds: Some(slow), ..observed() });
    assert!(
        picture(&explained)
            .contains("604810 s: end of the last container, max of 214 observed terminations, beyond")
    );
    let wrong = Quantiles { p50: 900, max: 1, ..Quantiles::default() };
    explained.observed = Some(TerminationProfileStatus { shutdown_seconds: Some(wrong), ..observed() });
    assert!(!picture(&explained).contains("width=\"-"), "a bar has no negative width");
}
