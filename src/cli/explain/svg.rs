//! The timelines of a pod's termination as a picture.

use maud::{Markup, PreEscaped, html};

use super::{
    Explained,
    timeline::{Phase, Span, Timelines},
};
use crate::{api::Quantiles, cli::manifests::escaped, text::counted};

const WIDTH: i64 = 1000;
/// The name of the row of what was observed.
const OBSERVED: &str = "observed";
/// The space at the sides.
const MARGIN: i64 = 16;
/// The end of the axis; half of its last label is right of it.
const RIGHT: i64 = 960;
const ROW: i64 = 36;
const BAR: i64 = 26;
/// The height of a line of text.
const LINE: i64 = 20;
/// The size of texts, and the mean width of a character in the widest fonts that viewers use.
const SIZE: i64 = 13;
const CHARACTER: i64 = 8;
/// The characters of a line of the title, so that the widest ones fit too.
const TITLE_LENGTH: usize = 72;

/// The colours of a dark page. A viewer that can't read them has the light ones, on their own background.
const DARK: &str = "@media (prefers-color-scheme: dark) \
    { .back { fill: #16191d } .front { fill: #e4e6e8 } .line { stroke: #7a828c } .grid { stroke: #2c3138 } }";

/// How a phase is drawn. Neighbours differ in brightness, so that they can be distinguished without their hues.
struct Style {
    fill: &'static str,
    /// The colour of the name.
    front: &'static str,
    name: &'static str,
}

fn style(phase: Phase) -> Style {
    let (fill, front, name) = match phase {
        Phase::Withdrawal => ("#e69f00", "#222222", "withdrawal"),
        Phase::Exposed(_) => ("#e69f00", "#222222", "requests"),
        Phase::ExposedTooLong(_) => ("#8a1c7c", "#ffffff", "after SIGTERM"),
        Phase::Unexposed => ("#f5dfa6", "#222222", "unknown"),
        Phase::Withdrawn => ("#c8cdd4", "#222222", "withdrawn"),
        Phase::Drain => ("#0072b2", "#ffffff", "drain"),
        Phase::Shutdown => ("#4fb795", "#222222", "shutdown"),
        Phase::Sidecars => ("#f0e442", "#222222", "sidecars"),
        Phase::Margin => ("#a33b20", "#ffffff", "margin"),
    };
    Style { fill, front, name }
}

/// Draws the timelines of a workload as SVG.
pub(super) fn picture(explained: &Explained) -> String {
    let Explained { kind, namespace, name, explanation, exposures, observed } = explained;
    let timelines = Timelines::of(&explanation.termination, observed.as_ref(), exposures);
    let title = escaped(&format!("Termination of a pod of {kind} {namespace}/{name}")).into_owned();
    let count = observed.as_ref().map_or(0, |observed| observed.current_outcomes.sum());
    let count = usize::try_from(count).unwrap_or_default();
    Picture::of(&title, &timelines, count).svg(&title).into_string()
}

/// The parts of the picture, in pixels.
struct Picture {
    axis: Axis,
    labels: Vec<Label>,
    bars: Vec<Bar>,
    marks: Vec<Mark>,
    /// Where the axis has a label, and where the grace period ends.
    ticks: Vec<i64>,
    kill: i64,
    /// The top and the bottom of the rows.
    rows: [i64; 2],
    height: i64,
    /// What it shows, in sentences.
    meanings: Vec<String>,
}

/// The axis of seconds.
#[derive(Clone, Copy)]
struct Axis {
    left: i64,
    /// Its seconds.
    end: i64,
}

impl Axis {
    /// The names of the rows are left of it.
    fn of(timelines: &Timelines) -> Self {
        let widths = timelines.rows().map(|(name, _)| width(&name));
        let widest = widths.max().unwrap_or_default().max(width(OBSERVED));
        Self { left: MARGIN + widest + 20, end: timelines.end }
    }

    /// The place of a time; the right end, if it is later.
    fn place(self, seconds: i64) -> i64 {
        let width = i128::from(seconds.min(self.end)) * i128::from(RIGHT - self.left);
        self.left + i64::try_from(width / i128::from(self.end.max(1))).unwrap_or_default()
    }

    /// The seconds between its labels: the least round number for which they have room.
    fn step(self) -> i64 {
        // The last label may be beside its tick.
        let room = (RIGHT - self.left) / (width(&seconds(self.end)) * 3 / 2 + 12);
        let mut steps = (0..=18).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_i64.pow(power)));
        steps.find(|step| self.end / step < room).unwrap_or(self.end)
    }
}

/// A line of text.
struct Label {
    x: i64,
    /// The base line.
    y: i64,
    /// Whether its middle is at `x`, or its start.
    is_centred: bool,
    /// `None` for the colour of texts on the background.
    front: Option<&'static str>,
    text: String,
}

impl Label {
    fn anchor(&self) -> &'static str {
        if self.is_centred { "middle" } else { "start" }
    }
}

/// A rectangle: a phase, its colour in the legend, or the range of what was observed.
struct Bar {
    x: i64,
    y: i64,
    width: i64,
    height: i64,
    fill: &'static str,
    /// What a browser shows at the pointer, if it isn't empty.
    meaning: String,
}

/// A quantile of what was observed.
struct Mark {
    x: i64,
    y: i64,
    shape: &'static str,
}

/// Around the origin: a circle, a diamond and a triangle, for the median, the 99th percentile and the largest.
const SHAPES: [&str; 3] = ["M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z", "M0-7L7 0L0 7L-7 0z", "M0-6L7 6L-7 6z"];

impl Picture {
    /// `observed` is the number of terminations that were observed.
    fn of(title: &str, timelines: &Timelines, observed: usize) -> Self {
        let mut picture = Self {
            axis: Axis::of(timelines),
            labels: vec![],
            bars: vec![],
            marks: vec![],
            ticks: vec![],
            kill: 0,
            rows: [0; 2],
            height: MARGIN / 2,
            meanings: vec![],
        };
        let characters: Vec<_> = title.chars().collect();
        for line in characters.chunks(TITLE_LENGTH) {
            picture.line(MARGIN, line.iter().collect());
        }
        picture.draw_rows(timelines);
        picture.draw_axis();
        picture.draw_legend(timelines, observed);
        picture.height += MARGIN / 2;
        picture
    }

    /// Adds a line of text below everything else.
    fn line(&mut self, x: i64, text: String) {
        self.start(x, self.height + 14, text);
        self.height += LINE;
    }

    fn start(&mut self, x: i64, y: i64, text: String) {
        self.labels.push(Label { x, y, is_centred: false, front: None, text });
    }

    /// Adds a text around `x`, or as near as it is within the picture.
    fn centred(&mut self, x: i64, y: i64, front: Option<&'static str>, text: String) {
        let half = width(&text) / 2 + MARGIN / 2;
        let x = x.min(WIDTH - half).max(half);
        self.labels.push(Label { x, y, is_centred: true, front, text });
    }

    fn draw_rows(&mut self, timelines: &Timelines) {
        // The last phase of a pod ends with its grace period.
        let grace = timelines.pod.last().map_or(timelines.end, |span| span.to);
        self.kill = self.axis.place(grace);
        let kill = format!("SIGKILL after {}", seconds(grace));
        self.meanings.push(kill.clone());
        self.centred(self.kill, self.height + 14, None, kill);
        self.height += LINE + 4;
        self.rows[0] = self.height;
        for (name, spans) in timelines.rows() {
            self.start(MARGIN, self.base_line(), name);
            for span in spans {
                self.bar(*span);
            }
            self.height += ROW;
        }
        if let Some(ends) = timelines.ends {
            self.start(MARGIN, self.base_line(), OBSERVED.to_owned());
            let (from, y, fill) = (self.axis.place(ends.p50), self.height + BAR / 2, "#8a929c");
            let width = self.axis.place(ends.max) - from;
            self.bars.push(Bar { x: from, y: y - 2, width, height: 4, fill, meaning: String::new() });
            for (shape, (at, _)) in SHAPES.into_iter().zip(quantiles(ends)) {
                self.marks.push(Mark { x: self.axis.place(at), y, shape });
            }
            self.height += ROW;
        }
        self.rows[1] = self.height;
    }

    /// The base line of texts in a bar of the present row.
    fn base_line(&self) -> i64 {
        self.height + BAR / 2 + 5
    }

    fn bar(&mut self, span: Span) {
        let (from, to) = (self.axis.place(span.from), self.axis.place(span.to));
        let Style { fill, front, name } = style(span.phase);
        // A gap, except for what is narrow anyway.
        let bar_width = (to - from - 2).max(1);
        if width(name) + 8 <= bar_width {
            self.centred(i64::midpoint(from, to), self.base_line(), Some(front), name.to_owned());
        }
        let (y, meaning) = (self.height, meaning(span));
        self.bars.push(Bar { x: from, y, width: bar_width, height: BAR, fill, meaning });
    }

    fn draw_axis(&mut self) {
        let step = self.axis.step();
        for second in (0..=self.axis.end / step).map(|tick| tick * step) {
            let x = self.axis.place(second);
            self.ticks.push(x);
            self.centred(x, self.height + LINE - 4, None, seconds(second));
        }
        self.height += LINE + MARGIN;
    }

    fn draw_legend(&mut self, timelines: &Timelines, observed: usize) {
        for span in timelines.rows().flat_map(|(_, spans)| spans) {
            let (y, fill, text) = (self.height + 3, style(span.phase).fill, meaning(*span));
            self.bars.push(Bar { x: MARGIN, y, width: 14, height: 14, fill, meaning: String::new() });
            self.meanings.push(text.clone());
            self.line(MARGIN + 24, text);
        }
        let Some(ends) = timelines.ends else { return };
        let observed = counted(observed, "observed termination");
        for (shape, (at, quantile)) in SHAPES.into_iter().zip(quantiles(ends)) {
            self.marks.push(Mark { x: MARGIN + 7, y: self.height + 10, shape });
            let beyond = if at > timelines.end { ", beyond the axis" } else { "" };
            let text = format!("{at} s: end of the last container, {quantile} of {observed}{beyond}");
            self.meanings.push(text.clone());
            self.line(MARGIN + 24, text);
        }
    }

    fn svg(&self, title: &str) -> Markup {
        let [top, bottom] = self.rows;
        html! {
            svg xmlns="http://www.w3.org/2000/svg" role="img" width=(WIDTH) height=(self.height)
                viewBox=(format!("0 0 {WIDTH} {}", self.height)) style="max-width: 100%; height: auto"
                font-family="sans-serif" font-size=(SIZE) {
                title { (title) }
                desc { (self.meanings.join("; ")) }
                style { (PreEscaped(DARK)) }
                rect class="back" width=(WIDTH) height=(self.height) fill="#ffffff" {}
                @for tick in &self.ticks {
                    line class="grid" x1=(tick) x2=(tick) y1=(top) y2=(bottom) stroke="#dddddd" {}
                }
                line class="line" x1=(self.axis.left) x2=(RIGHT) y1=(bottom) y2=(bottom) stroke="#555555" {}
                @for bar in &self.bars {
                    rect x=(bar.x) y=(bar.y) width=(bar.width) height=(bar.height) fill=(bar.fill) {
                        @if !bar.meaning.is_empty() { title { (bar.meaning) } }
                    }
                }
                line class="line" x1=(self.kill) x2=(self.kill) y1=(top - 4) y2=(bottom) stroke="#555555"
                    stroke-dasharray="4 3" {}
                @for mark in &self.marks {
                    path class="front" d=(mark.shape) transform=(format!("translate({} {})", mark.x, mark.y)) fill="#222222" {}
                }
                @for label in &self.labels {
                    @if let Some(front) = label.front {
                        text x=(label.x) y=(label.y) text-anchor=(label.anchor()) fill=(front) { (label.text) }
                    } @else {
                        text class="front" x=(label.x) y=(label.y) text-anchor=(label.anchor()) fill="#222222" {
                            (label.text)
                        }
                    }
                }
            }
        }
    }
}

fn seconds(seconds: i64) -> String {
    format!("{seconds} s")
}

fn meaning(span: Span) -> String {
    format!("{} to {} s: {}", span.from, span.to, span.phase)
}

fn quantiles(ends: Quantiles) -> [(i64, &'static str); 3] {
    [(ends.p50, "p50"), (ends.p99, "p99"), (ends.max, "max")]
}

fn width(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX).saturating_mul(CHARACTER)
}

#[cfg(test)]
#[path = "svg_tests.rs"]
mod tests;
