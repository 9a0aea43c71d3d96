//! Plots of a run over time, as SVG: requests, latency, and pod timelines.

use std::{error::Error as StdError, ops::Range, time::Duration};

use plotters::{
    chart::{ChartBuilder, ChartContext},
    coord::{
        Shift,
        combinators::IntoLogRange as _,
        ranged1d::{AsRangedCoord, Ranged, ValueFormatter},
        types::RangedCoordf64,
    },
    element::{Circle, Cross, PathElement, Rectangle, Text},
    prelude::{Cartesian2d, DrawingArea, IntoDrawingArea as _, SVGBackend},
    series::LineSeries,
    style::{
        Color as _, IntoFont as _, RGBColor,
        text_anchor::{HPos, Pos, VPos},
    },
};

use crate::verify::{PodTimeline, Recording, Sample};

/// A plot that can't be drawn.
#[derive(Debug, thiserror::Error)]
#[error("drawing a plot: {0}")]
pub struct Error(String);

impl Error {
    pub(super) fn of(error: impl StdError) -> Self {
        Self(error.to_string())
    }
}

const WIDTH: u32 = 1000;
const HEIGHT: u32 = 220;
/// The height of a pod's line, with its name above its bar.
const LINE: u32 = 36;
/// So many characters of a pod's name fit into half of a plot.
const MAX_NAME: usize = 60;
/// The space of the axis and its labels beside the lines.
const FRAME: u32 = 50;
/// As wide in every plot, so that a moment is at the same place in each.
const LEFT: u32 = 70;
/// The family and size of texts.
pub(super) const FONT: (&str, i32) = ("sans-serif", 13);
/// The space at the sides, where half of the first and the last label of the axis are.
pub(super) const MARGIN: u32 = 24;
/// The shortest latency on the axis, in milliseconds.
const SHORTEST: f64 = 0.1;
/// Of so many answers at most a point each is drawn; the slowest are.
const POINTS: usize = 4000;
/// The most seconds, a week, of which rates are drawn.
const SECONDS: usize = 604_800;

// Blue rather than green: fewer people can't tell it from red.
pub(super) const ANSWERED: RGBColor = SERVING;
pub(super) const LOST: RGBColor = RGBColor(0xc0, 0x28, 0x28);
const STARTING: RGBColor = RGBColor(0xc8, 0xcd, 0xd4);
const SERVING: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const DRAINING: RGBColor = RGBColor(0xe6, 0x9f, 0x00);
// Light, so that a lost request is seen on it.
const WITHDRAWN: RGBColor = RGBColor(0xf5, 0xdf, 0xa6);
const DISRUPTION: RGBColor = RGBColor(0x77, 0x77, 0x77);

/// The colours of requests and of the pods' lines.
pub(super) const LEGEND: [(&str, RGBColor); 5] = [
    ("starting", STARTING),
    ("answered request, ready pod", SERVING),
    ("terminating, endpoint still ready", DRAINING),
    ("terminating, endpoint not ready", WITHDRAWN),
    ("lost request", LOST),
];

type Chart<'a, 'b, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, Y>>;

/// Plots requests per second: answered, and lost.
pub(super) fn rates(recording: &Recording) -> Result<String, Error> {
    let time = time(recording);
    let answered = per_second(&recording.samples, Sample::is_answered);
    let lost = per_second(&recording.samples, |sample| sample.loss().is_some());
    let highest = answered.iter().chain(&lost).map(|(_, count)| *count).fold(1.0, f64::max);
    draw(HEIGHT, "answered and lost requests per second", |area| {
        let mut chart = chart(area, recording, time, 0.0..highest * 1.1, "requests/s")?;
        for (line, colour) in [(answered, ANSWERED), (lost, LOST)] {
            let series = LineSeries::new(line, colour.stroke_width(2));
            chart.draw_series(series).map_err(Error::of)?;
        }
        Ok(())
    })
}

/// Plots the latency of each answer; a cross is a lost request. The axis is logarithmic: milliseconds are legible on it
/// although other requests timed out.
pub(super) fn latencies(recording: &Recording) -> Result<String, Error> {
    let mut slowest: Vec<_> = recording.samples.iter().filter(|sample| sample.is_answered()).collect();
    slowest.sort_by_key(|sample| std::cmp::Reverse(sample.took));
    slowest.truncate(POINTS);
    let lost = recording.samples.iter().filter(|sample| sample.loss().is_some());
    let millis = |sample: &Sample| (sample.took.as_secs_f64() * 1000.0).max(SHORTEST);
    let point = |sample: &Sample| (sample.due.as_secs_f64(), millis(sample));
    let shown = slowest.iter().copied().chain(lost.clone()).map(millis);
    let lowest = shown.clone().fold(f64::INFINITY, f64::min);
    let values = powers_of_ten(lowest, shown.fold(SHORTEST, f64::max)).log_scale();
    draw(HEIGHT, "the latency of each answer, and lost requests", |area| {
        let mut chart = chart(area, recording, time(recording), values, "latency, ms")?;
        let points = slowest.iter().map(|sample| Circle::new(point(sample), 2, ANSWERED.mix(0.6).filled()));
        chart.draw_series(points).map_err(Error::of)?;
        let crosses = lost.map(|sample| Cross::new(point(sample), 4, LOST.stroke_width(2)));
        chart.draw_series(crosses).map_err(Error::of)?;
        Ok(())
    })
}

/// Plots a line for every pod (starting, ready, terminating) and the requests that were or may have been lost at it.
pub(super) fn pods(recording: &Recording, attributions: &[(Duration, usize)]) -> Result<String, Error> {
    let Recording { timelines, .. } = recording;
    let time = time(recording);
    let count = u32::try_from(timelines.len()).unwrap_or(u32::MAX).max(1);
    let height = count.saturating_mul(LINE).saturating_add(FRAME);
    draw(height, "when each pod was starting, ready and terminating, and lost requests", |area| {
        let rows = 0.0..f64::from(count);
        let mut chart = chart(area, recording, time.clone(), rows, "pods")?;
        for (row, timeline) in (0..count).rev().map(f64::from).zip(timelines) {
            let bars = stages(timeline, time.end).into_iter().map(|(span, colour)| {
                let corners = [(span.start, row + 0.1), (span.end, row + 0.55)];
                Rectangle::new(corners, colour.filled())
            });
            chart.draw_series(bars).map_err(Error::of)?;
            let (at, anchor) = name_place(timeline, time.end);
            let words = FONT.into_font().color(&RGBColor(0x22, 0x22, 0x22));
            let words = words.pos(Pos::new(anchor, VPos::Top));
            let name = Text::new(shortened(&timeline.name), (at, row + 0.98), words);
            chart.draw_series([name]).map_err(Error::of)?;
        }
        let marks = attributions.iter().map(|(due, timeline)| {
            let row = f64::from(count) - 0.675 - f64::from(u32::try_from(*timeline).unwrap_or_default());
            Cross::new((due.as_secs_f64(), row), 3, LOST.stroke_width(1))
        });
        chart.draw_series(marks).map_err(Error::of)?;
        Ok(())
    })
}

/// Where the name of a pod is: at the beginning of its bar, or if there is little room after that, at its end.
fn name_place(timeline: &PodTimeline, end: f64) -> (f64, HPos) {
    let begin = timeline.first_seen.as_secs_f64();
    if begin <= end / 2.0 {
        return (begin, HPos::Left);
    }
    (timeline.gone.map_or(end, |gone| gone.as_secs_f64().min(end)), HPos::Right)
}

/// A name of at most `MAX_NAME` characters: of a longer one, the beginning and the end, which tells pods apart.
fn shortened(name: &str) -> String {
    let characters: Vec<_> = name.chars().collect();
    if characters.len() <= MAX_NAME {
        return name.to_owned();
    }
    let half = MAX_NAME / 2;
    let beginning = characters.iter().take(half - 1);
    beginning.chain(&['…']).chain(&characters[characters.len() - half..]).collect()
}

/// The stages of a pod's timeline.
fn stages(timeline: &PodTimeline, end: f64) -> Vec<(Range<f64>, RGBColor)> {
    let seconds = |time: Option<Duration>| time.map_or(end, |time| time.as_secs_f64());
    let begin = timeline.first_seen.as_secs_f64();
    let gone = seconds(timeline.gone).min(end);
    let terminating = seconds(timeline.terminating).min(gone);
    let ready = seconds(timeline.ready).min(terminating);
    let withdrawn = seconds(timeline.withdrawn).clamp(terminating, gone);
    let stages = [
        (begin..ready, STARTING),
        (ready..terminating, SERVING),
        (terminating..withdrawn, DRAINING),
        (withdrawn..gone, WITHDRAWN),
    ];
    stages.into_iter().filter(|(span, _)| span.end > span.start).collect()
}

/// From the first request to the end of the last.
fn time(recording: &Recording) -> Range<f64> {
    let end = recording.samples.iter().map(Sample::done).max().unwrap_or_default();
    0.0..end.max(Duration::from_secs(1)).as_secs_f64()
}

/// From a power of ten up, with at least two of them. A little longer at both ends, so that their labels are within.
fn powers_of_ten(lowest: f64, highest: f64) -> Range<f64> {
    let power = 10_f64.powf(lowest.min(highest).log10().floor());
    power * 0.9..(highest * 1.5).max(power * 11.0)
}

/// How many samples were due in each second. The second in which the load ended is left out, unless it is the only one:
/// it has fewer.
fn per_second(samples: &[Sample], counts: fn(&Sample) -> bool) -> Vec<(f64, f64)> {
    let second = |sample: &Sample| usize::try_from(sample.due.as_secs()).unwrap_or(usize::MAX);
    let last = samples.iter().map(second).max().unwrap_or_default();
    let mut seconds = vec![0_u32; last.clamp(1, SECONDS)];
    for sample in samples.iter().filter(|sample| counts(sample)) {
        if let Some(count) = seconds.get_mut(second(sample)) {
            *count += 1;
        }
    }
    (0_u32..).zip(seconds).map(|(second, count)| (f64::from(second) + 0.5, f64::from(count))).collect()
}

/// Draws a plot, of which screen readers read the label.
pub(super) fn draw(
    height: u32,
    label: &str,
    plot: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), Error>,
) -> Result<String, Error> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        plot(&area)?;
        area.present().map_err(Error::of)?;
    }
    Ok(svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{label}\" "), 1))
}

/// The axes, and the beginning and end of the disruption.
fn chart<'a, 'b, V, Y>(
    area: &'a DrawingArea<SVGBackend<'b>, Shift>,
    recording: &Recording,
    time: Range<f64>,
    values: V,
    what: &str,
) -> Result<Chart<'a, 'b, Y>, Error>
where
    V: AsRangedCoord<CoordDescType = Y, Value = f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(MARGIN)
        .x_label_area_size(28)
        .y_label_area_size(LEFT)
        .build_cartesian_2d(time.clone(), values)
        .map_err(Error::of)?;
    let values = chart.y_range();
    let seconds = |x: &f64| format!("{x:.0} s");
    // Three decimals at most.
    let number = |y: &f64| ((y * 1000.0).round() / 1000.0).to_string();
    let mut mesh = chart.configure_mesh();
    mesh.y_desc(what).x_labels(12).y_labels(5).label_style(FONT);
    mesh.x_label_formatter(&seconds).y_label_formatter(&number);
    mesh.light_line_style(RGBColor(0xf0, 0xf0, 0xf0)).bold_line_style(RGBColor(0xe0, 0xe0, 0xe0));
    if what == "pods" {
        mesh.disable_y_mesh().y_labels(0);
    }
    mesh.draw().map_err(Error::of)?;
    for at in recording.disruption.iter().flat_map(|(from, to)| [from, to]).map(Duration::as_secs_f64) {
        if time.contains(&at) {
            let line = PathElement::new([(at, values.start), (at, values.end)], DISRUPTION.stroke_width(1));
            chart.draw_series([line]).map_err(Error::of)?;
        }
    }
    Ok(chart)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Cause, Outcome};

    fn sample(due: u64, took: u64, outcome: Outcome) -> Sample {
        Sample {
            due: Duration::from_millis(due),
            took: Duration::from_millis(took),
            connecting: Duration::ZERO,
            outcome,
            pod: None,
            peer: None,
        }
    }

    #[test]
    fn milliseconds_are_legible_beside_a_request_that_timed_out() {
        let answered = Outcome::Answered(200);
        let timed_out = sample(200, 10_000, Outcome::Lost(Cause::TimedOut));
        let samples = vec![sample(0, 40, answered), sample(100, 4, answered), timed_out];
        let svg = latencies(&Recording::new(samples, vec![], None)).unwrap();
        let labels: Vec<_> = svg.lines().filter(|line| line.parse::<f64>().is_ok()).collect();
        assert_eq!(labels, ["1", "10", "100", "1000", "10000"]);
        let places = svg.split("cy=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        let places: Vec<i32> = places.map(|place| place.parse().unwrap()).collect();
        assert_eq!(places.len(), 2);
        assert!(places[0] + 30 < places[1], "{places:?}");
    }

    #[test]
    fn the_axis_of_latencies_has_labels_whatever_they_are() {
        assert_eq!(powers_of_ten(f64::INFINITY, SHORTEST), 0.1 * 0.9..0.1 * 11.0);
        assert_eq!(powers_of_ten(4.0, 5.0), 0.9..11.0);
        assert_eq!(powers_of_ten(1.0, 60_000.0), 0.9..90_000.0);
        let nothing = latencies(&Recording::default()).unwrap();
        assert!(nothing.lines().any(|line| line == "0.1"), "{nothing}");
        let instant = Recording::new(vec![sample(0, 0, Outcome::Answered(200))], vec![], None);
        assert!(latencies(&instant).unwrap().lines().any(|line| line == "1"));
    }

    #[test]
    fn the_incomplete_last_second_is_not_drawn_as_a_lower_rate() {
        let samples: Vec<_> =
            (0..25).map(|number| sample(number * 100, 10_000, Outcome::Answered(200))).collect();
        assert_eq!(per_second(&samples, Sample::is_answered), [(0.5, 10.0), (1.5, 10.0)]);
        assert_eq!(per_second(&samples[..5], Sample::is_answered), [(0.5, 5.0)]);
        assert_eq!(per_second(&[], Sample::is_answered), [(0.5, 0.0)]);
    }

    #[test]
    fn the_name_of_a_pod_is_within_the_plot() {
        let timeline = |first_seen, gone: Option<u64>| PodTimeline {
            first_seen: Duration::from_secs(first_seen),
            gone: gone.map(Duration::from_secs),
            ..PodTimeline::default()
        };
        assert!(matches!(name_place(&timeline(4, Some(5)), 10.0), (4.0, HPos::Left)));
        assert!(matches!(name_place(&timeline(6, None), 10.0), (10.0, HPos::Right)));
        assert!(matches!(name_place(&timeline(6, Some(8)), 10.0), (8.0, HPos::Right)));
        assert_eq!(shortened("web-6d5f7c9b8-x2x4q"), "web-6d5f7c9b8-x2x4q");
        let long = shortened(&format!("{}-6d5f7c9b8-x2x4q", "w".repeat(230)));
        assert_eq!(long.chars().count(), MAX_NAME);
        assert!(
            long.starts_with("www") && long.contains('…') && long.ends_with("w-6d5f7c9b8-x2x4q"),
            "{long}"
        );
    }
}
