//! The plot of a calibration, as SVG: the last arrival of each termination, and the drain that follows.

use std::ops::Range;

use plotters::{
    chart::ChartBuilder,
    element::{Circle, PathElement, Text},
    style::{
        Color as _, IntoFont as _, RGBColor,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::plot::{ANSWERED, Error, FONT, LOST, MARGIN, draw};
use crate::calibration::{Observation, WayResult};

/// The height of a way's row, with its name above its points.
const ROW: u32 = 64;
/// The space of the axis and its labels.
const FRAME: u32 = 60;
/// The levels on which points are drawn, so that equal ones are seen beside each other.
const LEVELS: usize = 5;

const DRAIN: RGBColor = RGBColor(0x33, 0x33, 0x33);

/// The colours.
pub(super) const LEGEND: [(&str, RGBColor); 3] = [
    ("last arrival at a terminating pod", ANSWERED),
    ("requests still arrived, or were lost", LOST),
    ("drain", DRAIN),
];

/// Plots each way as a row of points.
pub(super) fn last_arrivals(ways: &[WayResult]) -> Result<String, Error> {
    let count = u32::try_from(ways.len()).unwrap_or(u32::MAX).max(1);
    let height = count.saturating_mul(ROW).saturating_add(FRAME);
    draw(height, "the last arrival of each termination, by way, and the drain that follows", |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_left(MARGIN)
            .margin_right(MARGIN)
            .x_label_area_size(42)
            .build_cartesian_2d(seconds(ways), 0.0..f64::from(count))
            .map_err(Error::of)?;
        let mut mesh = chart.configure_mesh();
        mesh.disable_y_mesh().y_labels(0).x_labels(12).x_desc("seconds after SIGTERM");
        mesh.label_style(FONT).x_label_formatter(&|x| format!("{x:.1} s"));
        mesh.light_line_style(RGBColor(0xf0, 0xf0, 0xf0)).bold_line_style(RGBColor(0xe0, 0xe0, 0xe0));
        mesh.draw().map_err(Error::of)?;
        for (row, way) in (0..count).rev().map(f64::from).zip(ways) {
            let points = way.observations.iter().enumerate().map(|(number, seen)| {
                let at = (seen.last_arrival_seconds, row + level(number));
                Circle::new(at, 3, colour(seen).mix(0.7).filled())
            });
            chart.draw_series(points).map_err(Error::of)?;
            let drain = way.drain_seconds.and_then(|seconds| i32::try_from(seconds).ok()).map(f64::from);
            let lines = drain
                .into_iter()
                .map(|at| PathElement::new([(at, row + 0.05), (at, row + 0.65)], DRAIN.stroke_width(2)));
            chart.draw_series(lines).map_err(Error::of)?;
            let words = FONT.into_font().color(&RGBColor(0x22, 0x22, 0x22));
            let words = words.pos(Pos::new(HPos::Left, VPos::Top));
            let name = format!("{}: drain {}", way.way.exposure, way.drain());
            chart.draw_series([Text::new(name, (0.0, row + 0.95), words)]).map_err(Error::of)?;
        }
        Ok(())
    })
}

/// From SIGTERM to what is longest.
fn seconds(ways: &[WayResult]) -> Range<f64> {
    let drains = ways.iter().filter_map(|way| i32::try_from(way.drain_seconds?).ok()).map(f64::from);
    let longest = ways.iter().map(|way| way.max_seconds).chain(drains).fold(1.0, f64::max);
    0.0..longest * 1.05
}

/// The height of a point in its row.
fn level(number: usize) -> f64 {
    let level = u32::try_from(number % LEVELS).unwrap_or_default();
    0.1 + f64::from(level) * 0.1
}

fn colour(seen: &Observation) -> RGBColor {
    if seen.is_cut || seen.lost > 0 { LOST } else { ANSWERED }
}
