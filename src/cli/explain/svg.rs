//! The timelines of a pod's termination as a picture.

use std::fmt::Display;

use anyhow::anyhow;
use plotters::{
    chart::ChartBuilder,
    element::{PathElement, Rectangle, Text},
    prelude::{IntoDrawingArea as _, SVGBackend},
    style::{Color as _, IntoFont as _, RGBColor},
};

use super::{
    Explained,
    timeline::{Phase, Span, Timelines},
};

const WIDTH: u32 = 1000;
const ROW: u32 = 46;
/// The space of the title and of the axis.
const FRAME: u32 = 90;
const LEFT: u32 = 90;
const LEGEND_LINE: u32 = 20;
const WORDS: RGBColor = RGBColor(0x22, 0x22, 0x22);

fn colour(phase: Phase) -> RGBColor {
    match phase {
        Phase::Withdrawal | Phase::Exposed(_) => RGBColor(0xe0, 0xa0, 0x30),
        Phase::ExposedTooLong(_) => RGBColor(0x8a, 0x1c, 0x7c),
        Phase::Unexposed => RGBColor(0xf0, 0xd8, 0xa8),
        Phase::Withdrawn => RGBColor(0xc8, 0xcd, 0xd4),
        Phase::Drain => RGBColor(0x3b, 0x74, 0xb8),
        Phase::Shutdown => RGBColor(0x2b, 0x7a, 0x4b),
        Phase::Margin => RGBColor(0xc0, 0x28, 0x28),
    }
}

/// Draws the timelines of a workload.
///
/// # Errors
/// If it can't be drawn.
pub(super) fn picture(explained: &Explained) -> anyhow::Result<String> {
    let Explained { explanation, exposures, observed, .. } = explained;
    let timelines = Timelines::of(&explanation.termination, observed.as_ref(), exposures);
    let spans: Vec<_> = timelines.rows().flat_map(|(_, spans)| spans).copied().collect();
    let lines = u32::try_from(spans.len() + usize::from(timelines.ends.is_some())).unwrap_or_default();
    let plot_height = FRAME + rows(&timelines) * ROW;
    let mut svg = String::new();
    {
        let height = plot_height + lines * LEGEND_LINE;
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        let (plot, legend) = area.split_vertically(plot_height);
        draw(&plot, explained, &timelines).map_err(failed)?;
        for (line, span) in (0_i32..).zip(&spans) {
            let y = line * 20;
            let square = Rectangle::new([(20, y), (34, y + 12)], colour(span.phase).filled());
            legend.draw(&square).map_err(failed)?;
            let text = format!("{} to {} s: {}", span.from, span.to, span.phase);
            legend.draw(&Text::new(text, (42, y), words(14))).map_err(failed)?;
        }
        if let (Some(ends), Some(observed)) = (timelines.ends, observed) {
            let text = format!(
                "the last container of {} observed terminations ended after {} s (p50), {} s (p99), {} s (max)",
                observed.current_outcomes.sum(),
                ends.p50,
                ends.p99,
                ends.max
            );
            let y = i32::try_from(20 * spans.len()).unwrap_or_default();
            legend.draw(&Text::new(text, (42, y), words(14))).map_err(failed)?;
        }
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

type Area<'a> = plotters::prelude::DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Failure<'a> =
    plotters::drawing::DrawingAreaErrorKind<<SVGBackend<'a> as plotters::prelude::DrawingBackend>::ErrorType>;

/// The number of rows in the picture.
fn rows(timelines: &Timelines) -> u32 {
    let count = timelines.rows().count() + usize::from(timelines.ends.is_some());
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn draw<'a>(area: &Area<'a>, explained: &Explained, timelines: &Timelines) -> Result<(), Failure<'a>> {
    let Explained { kind, namespace, name, .. } = explained;
    let title = format!("Termination of a pod of {kind} {namespace}/{name}");
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .caption(title, words(18))
        .x_label_area_size(32)
        .y_label_area_size(LEFT)
        .build_cartesian_2d(0.0..seconds(timelines.end), 0.0..f64::from(rows(timelines)))?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_y_mesh().y_labels(0).x_labels(12).x_label_formatter(&|x| format!("{x:.0} s"));
    mesh.light_line_style(RGBColor(0xf4, 0xf4, 0xf4)).bold_line_style(RGBColor(0xe4, 0xe4, 0xe4));
    mesh.draw()?;
    // From the top.
    let bottoms = (0..rows(timelines)).rev().map(f64::from);
    for ((name, spans), bottom) in timelines.rows().zip(bottoms) {
        let bar = |span: &Span| {
            let corners = [(seconds(span.from), bottom + 0.1), (seconds(span.to), bottom + 0.7)];
            Rectangle::new(corners, colour(span.phase).filled())
        };
        chart.draw_series([Text::new(name, (0.0, bottom + 0.98), words(12))])?;
        chart.draw_series(spans.iter().map(bar))?;
    }
    if let Some(ends) = timelines.ends {
        chart.draw_series([Text::new("observed", (0.0, 0.98), words(12))])?;
        let line = |at: i64| [(seconds(at), 0.1), (seconds(at), 0.7)];
        let bar = Rectangle::new(
            [(seconds(ends.p50), 0.25), (seconds(ends.max), 0.55)],
            RGBColor(0xc8, 0xcd, 0xd4).filled(),
        );
        chart.draw_series([bar])?;
        let marks =
            [ends.p50, ends.p99, ends.max].map(|at| PathElement::new(line(at), WORDS.stroke_width(2)));
        chart.draw_series(marks)?;
    }
    Ok(())
}

fn words(size: u32) -> plotters::style::TextStyle<'static> {
    ("sans-serif", size).into_font().color(&WORDS)
}

#[allow(clippy::cast_precision_loss, reason = "seconds of at most a week")]
fn seconds(seconds: i64) -> f64 {
    seconds as f64
}

fn failed(error: impl Display) -> anyhow::Error {
    anyhow!("cannot draw the picture: {error}")
}

#[cfg(test)]
mod tests {
    use kube::core::DynamicObject;
    use serde_json::json;

    use super::*;
    use crate::{
        cli::explain::timeline::tests::{exposure, observed, termination},
        plan::{Kind, NamespaceContext},
    };

    #[test]
    fn the_picture_has_both_timelines_with_each_exposure_and_what_was_observed() {
        let object: DynamicObject = serde_json::from_value(json!({
            "metadata": {"name": "<web>", "namespace": "shop"},
            "spec": {"template": {"spec": {"containers": [{"name": "web"}]}}},
        }))
        .unwrap();
        let mut explained =
            Explained::of(Kind::Deployment, "shop", &object, &NamespaceContext::default(), &[]);
        explained.exposures = vec![exposure("ingress-nginx", 30), exposure("cluster-ip", 10)];
        explained.explanation.termination = termination();
        explained.observed = Some(observed());
        let svg = picture(&explained).unwrap();
        for text in [
            "0 to 2 s: the endpoint is withdrawn",
            "network: ingress-nginx",
            "0 to 10 s: ingress-nginx: requests still arrive",
            "10 to 30 s: ingress-nginx: requests still arrive after SIGTERM, the drain is too short",
            "network: cluster-ip",
            "10 to 40 s: shutdown",
            "of 214 observed terminations ended after 13 s (p50), 19 s (p99), 22 s (max)",
            "Deployment shop/&lt;web&gt;",
        ] {
            assert!(svg.contains(text), "{text} is missing in {svg}");
        }
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    }
}
