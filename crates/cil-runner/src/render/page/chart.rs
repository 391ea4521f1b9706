//! Line charts as inline SVG.
//!
//! A chart is data (series of points, labelled axes) and one way to draw it. Series are told apart by colour, marker
//! and, where there are more than there are colours, dashes; colours are Okabe and Ito's, from the style sheet.

use maud::{Markup, html};

use super::COLOURS;

/// A point of a series, and how far it spreads up and down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) spread: f64,
}

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// The text shown when a reader points at it.
    pub(crate) name: String,
    /// Its colour and marker, counted from 0.
    pub(crate) style: usize,
    /// Whether it is dashed.
    pub(crate) dashed: bool,
    pub(crate) points: Vec<Point>,
}

/// The content of the chart.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// A description of the chart for screen readers.
    pub(crate) about: String,
    pub(crate) x: String,
    pub(crate) y: String,
    /// Lowest and highest value of the y axis; of the points otherwise.
    pub(crate) range: Option<(f64, f64)>,
    /// Where the x axis is marked, and with what; with round numbers otherwise.
    pub(crate) ticks: Option<Vec<(f64, String)>>,
    /// Where a thin line marks the beginning of a task.
    pub(crate) borders: Vec<f64>,
    /// Whether points are marked.
    pub(crate) markers: bool,
    /// Width and height, in units of which a letter is 12 high.
    pub(crate) size: (f64, f64),
    pub(crate) series: Vec<Series>,
}

const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 42.0;

impl Chart {
    /// The chart, to stand in a page.
    pub(crate) fn draw(&self) -> Markup {
        let (width, height) = self.size;
        html! {
            svg.chart viewBox=(format!("0 0 {width} {height}")) role="img" aria-label=(self.about) { (self.inner()) }
        }
    }

    /// The chart's elements; points that are not finite are left out.
    pub(crate) fn inner(&self) -> Markup {
        let points =
            || self.series.iter().flat_map(|it| &it.points).filter(|it| it.x.is_finite() && it.y.is_finite());
        let marked = self.ticks.iter().flatten().map(|it| it.0);
        let ((x_from, x_to), (low, high)) = (extent(points().map(|it| it.x).chain(marked)), self.y_range());
        let (width, height) = self.size;
        let across = move |x: f64| LEFT + (x - x_from) / (x_to - x_from) * (width - LEFT - RIGHT);
        let up = move |y: f64| height - BOTTOM - (y - low) / (high - low) * (height - TOP - BOTTOM);
        // Every x axis counts something: classes, epochs or slices.
        let whole = || {
            let ticks = round_ticks(x_from, x_to, 6).into_iter().filter(|x| x.fract() == 0.0);
            ticks.map(|x| (x, number(x, 1.0))).collect()
        };
        let x_ticks = self.ticks.clone().unwrap_or_else(whole);
        let y_ticks = round_ticks(low, high, if height < 200.0 { 3 } else { 5 });
        let step = if y_ticks.len() > 1 { y_ticks[1] - y_ticks[0] } else { 1.0 };
        let (base, end) = (height - BOTTOM, width - RIGHT);
        html! {
                @for y in &y_ticks {
                    line.grid x1=(LEFT) x2=(end) y1=(n(up(*y))) y2=(n(up(*y))) {}
                    text.tick x=(LEFT - 6.0) y=(n(up(*y) + 4.0)) text-anchor="end" { (number(*y, step)) }
                }
                @for x in self.borders.iter().filter(|x| **x > x_from && **x < x_to) {
                    line.border x1=(n(across(*x))) x2=(n(across(*x))) y1=(TOP) y2=(base) {}
                }
                @for (x, text) in &x_ticks {
                    line.axis x1=(n(across(*x))) x2=(n(across(*x))) y1=(base) y2=(base + 4.0) {}
                    text.tick x=(n(across(*x))) y=(base + 17.0) text-anchor=(anchor(across(*x), text, width)) { (text) }
                }
                line.axis x1=(LEFT) x2=(end) y1=(base) y2=(base) {}
                text.label x=((LEFT + end) / 2.0) y=(height - 6.0) text-anchor="middle" { (self.x) }
                text.label transform=(format!("translate(13 {}) rotate(-90)", (TOP + base) / 2.0)) text-anchor="middle" { (self.y) }
                @for series in &self.series { (self.line(series, &across, &up)) }
        }
    }

    fn y_range(&self) -> (f64, f64) {
        let points = || self.series.iter().flat_map(|it| &it.points).filter(|it| it.y.is_finite());
        self.range.unwrap_or_else(|| {
            let (low, high) = extent(points().flat_map(|it| [it.y - it.spread, it.y + it.spread]));
            let pad = (high - low) * 0.05;
            (if low >= 0.0 { (low - pad).max(0.0) } else { low - pad }, high + pad)
        })
    }

    fn line(&self, series: &Series, across: &impl Fn(f64) -> f64, up: &impl Fn(f64) -> f64) -> Markup {
        let points: Vec<&Point> =
            series.points.iter().filter(|it| it.x.is_finite() && it.y.is_finite()).collect();
        let place = |x: f64, y: f64| format!("{},{}", n(across(x)), n(up(y)));
        let path: Vec<String> = points.iter().map(|it| place(it.x, it.y)).collect();
        let upper = points.iter().map(|it| place(it.x, it.y + it.spread));
        let lower = points.iter().rev().map(|it| place(it.x, it.y - it.spread));
        let band: Vec<String> = upper.chain(lower).collect();
        let colour = format!("c{}", series.style % COLOURS);
        let dashes = if series.dashed || series.style >= COLOURS { "dashed" } else { "" };
        html! {
            g class=(colour) {
                title { (series.name) }
                @if let ([point], true) = (points.as_slice(), points.iter().any(|it| it.spread > 0.0)) {
                    // A band has no width there.
                    polyline.line points=([place(point.x, point.y - point.spread), place(point.x, point.y + point.spread)].join(" ")) {}
                } @else if points.iter().any(|it| it.spread > 0.0) { polygon.band points=(band.join(" ")) {} }
                polyline.line.(dashes) points=(path.join(" ")) {}
                @if self.markers || points.len() == 1 {
                    @for point in &points { (marker(series.style, across(point.x), up(point.y))) }
                }
            }
        }
    }
}

/// The key of a series: its style beside its name.
pub(crate) fn key(name: &str, style: usize, dashed: bool) -> Markup {
    html! {
        span.key {
            svg viewBox="0 0 34 14" width="34" height="14" aria-hidden="true" { (sample(style, dashed)) }
            (name)
        }
    }
}

/// A piece of a series' line with its marker, 34 wide and 14 high.
pub(crate) fn sample(style: usize, dashed: bool) -> Markup {
    let dashes = if dashed || style >= COLOURS { "dashed" } else { "" };
    html! {
        g class=(format!("c{}", style % COLOURS)) {
            polyline.line.(dashes) points="1,7 33,7" {}
            (marker(style, 17.0, 7.0))
        }
    }
}

/// A shape for each style, so that colour is not the only difference.
fn marker(style: usize, x: f64, y: f64) -> Markup {
    let of = |corners: &[(f64, f64)]| {
        corners.iter().map(|(dx, dy)| format!("{},{}", n(x + dx), n(y + dy))).collect::<Vec<_>>().join(" ")
    };
    let corners: &[(f64, f64)] = match style % COLOURS {
        0 => return html! { circle.marker cx=(n(x)) cy=(n(y)) r="3.6" {} },
        1 => &[(-3.3, -3.3), (3.3, -3.3), (3.3, 3.3), (-3.3, 3.3)],
        2 => &[(0.0, -4.4), (4.2, 3.2), (-4.2, 3.2)],
        3 => &[(0.0, -4.8), (4.8, 0.0), (0.0, 4.8), (-4.8, 0.0)],
        4 => &[(0.0, 4.4), (4.2, -3.2), (-4.2, -3.2)],
        // A cross, and a star of four.
        5 => &[
            (-1.3, -4.2),
            (1.3, -4.2),
            (1.3, -1.3),
            (4.2, -1.3),
            (4.2, 1.3),
            (1.3, 1.3),
            (1.3, 4.2),
            (-1.3, 4.2),
            (-1.3, 1.3),
            (-4.2, 1.3),
            (-4.2, -1.3),
            (-1.3, -1.3),
        ],
        _ => &[
            (0.0, -5.0),
            (1.4, -1.4),
            (5.0, 0.0),
            (1.4, 1.4),
            (0.0, 5.0),
            (-1.4, 1.4),
            (-5.0, 0.0),
            (-1.4, -1.4),
        ],
    };
    html! { polygon.marker points=(of(corners)) {} }
}

/// Smallest and largest, never the same.
fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), it| (low.min(it), high.max(it)));
    match () {
        () if low > high => (0.0, 1.0),
        () if high - low <= f64::EPSILON * high.abs().max(low.abs()) => {
            let around = if low == 0.0 { 1.0 } else { low.abs() * 0.5 };
            (low - around, high + around)
        }
        () => (low, high),
    }
}

/// Round numbers between two, about as many as `count`, and at least two.
fn round_ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let ticks = (0..4).map(|finer| some_ticks(low, high, count << finer));
    ticks.reduce(|kept, finer| if kept.len() < 2 { finer } else { kept }).unwrap_or_default()
}

fn some_ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let rough = (high - low) / count as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|it| it * power).find(|it| *it >= rough).unwrap_or(rough);
    let first = (low / step - 1e-9).ceil() as i64;
    let ticks = (0..=2 * count as i64 + 2).map(|at| (first + at) as f64 * step);
    ticks.take_while(|it| *it <= high + step * 1e-9).collect()
}

/// Where a mark's text begins: in the middle of it, or at its end where it would leave the chart.
fn anchor(x: f64, text: &str, width: f64) -> &'static str {
    // Letters of ticks are some 6 wide.
    if x + 3.0 * text.chars().count() as f64 > width { "end" } else { "middle" }
}

/// A number on an axis, with the digits that its steps need.
pub(super) fn number(value: f64, step: f64) -> String {
    let largest = value.abs().max(step.abs());
    if largest >= 1e5 || (step.abs() < 1e-4 && step != 0.0) {
        return format!("{value:.1e}");
    }
    let digits = if step >= 1.0 { 0 } else { (-step.log10()).ceil() as usize };
    format!("{value:.digits$}").replace('-', "−")
}

/// A coordinate, to a tenth.
pub(crate) fn n(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(round_ticks(0.0, 100.0, 5), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(round_ticks(3.2, 4.1, 3), [3.5, 4.0]);
        assert_eq!(round_ticks(8.0, 13.0, 2), [8.0, 10.0, 12.0], "10 alone is no scale");
        assert_eq!(round_ticks(-1.0, 1.0, 5), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert_eq!(
            (number(0.25, 0.05), number(-2.0, 1.0), number(3e-6, 1e-6)),
            ("0.25".into(), "−2".into(), "3.0e-6".into())
        );
        assert_eq!(extent([].into_iter()), (0.0, 1.0));
        assert_eq!(extent([2.0, 2.0].into_iter()), (1.0, 3.0));
    }

    #[test]
    fn points_are_where_they_belong_and_what_is_no_number_is_left_out() {
        let point = |x, y| Point { x, y, spread: 0.0 };
        let points = vec![point(0.0, 0.0), point(1.0, f64::NAN), point(2.0, 100.0)];
        let series = vec![Series { name: "<a>".into(), style: 0, dashed: false, points }];
        let chart = Chart {
            about: "a \"b\"".into(),
            x: "x".into(),
            y: "y".into(),
            range: Some((0.0, 100.0)),
            ticks: None,
            borders: vec![1.0],
            markers: true,
            size: (164.0, 152.0),
            series,
        };
        let text = chart.draw().into_string();
        assert!(text.contains("points=\"52.0,110.0 152.0,10.0\""), "{text}");
        assert!(text.contains("<title>&lt;a&gt;</title>") && text.contains("a &quot;b&quot;"), "{text}");
        assert!(text.contains("class=\"border\" x1=\"102.0\"") && !text.contains("NaN"), "{text}");
        assert_eq!(text.matches("<circle").count(), 2);
        let shapes: std::collections::BTreeSet<String> =
            (0..COLOURS).map(|style| marker(style, 9.0, 9.0).into_string()).collect();
        assert_eq!(shapes.len(), COLOURS, "a marker for each colour");
    }

    #[test]
    fn an_axis_that_counts_has_whole_numbers_each_once() {
        for last in 2..9 {
            let points = (1..=last).map(|x| Point { x: f64::from(x), y: 1.0, spread: 0.0 }).collect();
            let series = vec![Series { name: "a".into(), style: 0, dashed: false, points }];
            let (about, x, y) = ("a".into(), "epochs".into(), "loss".into());
            let chart = Chart {
                about,
                x,
                y,
                range: None,
                ticks: None,
                borders: Vec::new(),
                markers: false,
                size: (300.0, 180.0),
                series,
            };
            let text = chart.draw().into_string();
            let labels: Vec<&str> =
                text.split("text-anchor=\"middle\">").skip(1).filter_map(|it| it.split('<').next()).collect();
            let labels = &labels[..labels.iter().position(|it| *it == "epochs").unwrap()];
            assert!(labels.len() > 1 && labels.windows(2).all(|it| it[0] != it[1]), "{last}: {labels:?}");
            assert!(labels.iter().all(|it| it.parse::<u32>().is_ok()), "{last}: {labels:?}");
        }
    }
}
