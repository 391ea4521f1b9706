//! Figures for a paper.
//!
//! A figure is one of the page's charts, with its style and key inside, so that its SVG file needs nothing else; its
//! PNG file is drawn from that SVG with the font that comes with this program, so that it is the same anywhere.

use std::collections::BTreeSet;

use anyhow::Result;
use maud::{Markup, PreEscaped, html};

use crate::render::page::chart::{Chart, sample};
use crate::render::page::confusion::{Counted, SIZE, matrix, runs_of};
use crate::render::page::kept;
use crate::render::page::overview::chart_over_classes;
use crate::results::figure::Metric;
use crate::results::summary::{Group, Summary};

/// Size of a chart's plot.
const PLOT: (f64, f64) = (520.0, 320.0);
/// Height of a line of the key, and the width of a letter in it.
const KEY: (f64, f64) = (18.0, 6.6);
mod png;

const STYLE: &str = include_str!("figures/style.css");

/// One figure.
#[derive(Clone, Debug)]
pub struct PaperFigure {
    /// Name of its files without ending.
    pub name: String,
    /// The SVG file.
    pub svg: String,
}

/// Every figure of these runs: accuracy over the classes seen, the same on old and new classes, accuracy by the bytes
/// kept where methods keep different ones, and a confusion matrix of each method.
///
/// # Errors
/// If a run's events are not in order.
pub fn all(summary: &Summary, metric: Metric) -> Result<Vec<PaperFigure>> {
    let axis = format!("{}, %", metric.title());
    let groups = &summary.groups;
    let accuracy = chart_over_classes(
        "accuracy over the classes seen",
        &axis,
        &[("", metric.key())],
        summary,
        groups,
        PLOT,
    );
    let mut figures = vec![PaperFigure { name: "accuracy".to_owned(), svg: with_key(&accuracy) }];
    let several = |group: &&Group| summary.tasks_of(group) > 1;
    let split: Vec<Group> = groups.iter().filter(several).cloned().collect();
    if !split.is_empty() {
        let keys = [("old", "old_accuracy"), ("new", "new_accuracy")];
        let about = "accuracy on old and new classes";
        let chart = chart_over_classes(about, "accuracy, %", &keys, summary, &split, PLOT);
        figures.push(PaperFigure { name: "old-and-new".to_owned(), svg: with_key(&chart) });
    }
    if let Some(chart) = kept::chart(summary, PLOT) {
        figures.push(PaperFigure { name: "accuracy-by-bytes".to_owned(), svg: with_key(&chart) });
    }
    let mut taken = BTreeSet::new();
    for group in groups {
        let Some(counted) = Counted::of(summary, runs_of(group))? else { continue };
        let label = [&group.block, &group.label].map(|it| plain(it)).join(" ").trim().replace(' ', "-");
        let mut name = format!("confusion-{label}");
        let mut number = 2;
        while !taken.insert(name.clone()) {
            name = format!("confusion-{label}-{number}");
            number += 1;
        }
        let about = format!("confusion matrix of {}", group.label);
        figures.push(PaperFigure { name, svg: standing(&about, (SIZE, SIZE), &matrix(&counted, false)?) });
    }
    Ok(figures)
}

/// A label as a part of a file's name.
fn plain(label: &str) -> String {
    let letter = |it: char| if it.is_ascii_alphanumeric() || "-_.+".contains(it) { it } else { '-' };
    let name: String = label.chars().map(letter).collect();
    name.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// A chart with the key of its series below, in as many lines as it takes.
fn with_key(chart: &Chart) -> String {
    let (width, height) = chart.size;
    let (mut x, mut line, mut places) = (0.0, 0.0, Vec::new());
    for series in &chart.series {
        let long = 44.0 + KEY.1 * series.name.chars().count() as f64 + 14.0;
        if x > 0.0 && x + long > width {
            (x, line) = (0.0, line + 1.0);
        }
        places.push((x + 12.0, height + 6.0 + KEY.0 * line));
        x += long;
    }
    // A name that is longer than the figure makes the figure wider.
    let widest = chart.series.iter().map(|it| 60.0 + KEY.1 * it.name.chars().count() as f64);
    let size = (widest.fold(width, f64::max), height + 12.0 + KEY.0 * (line + 1.0));
    let inner = html! {
        (chart.inner())
        @for (series, (x, y)) in chart.series.iter().zip(places) {
            g transform=(format!("translate({x:.1} {y:.1})")) {
                (sample(series.style, series.dashed))
                text x="40" y="11" { (series.name) }
            }
        }
    };
    standing(&chart.about, size, &inner)
}

/// An SVG file of its own.
fn standing(about: &str, size: (f64, f64), inner: &Markup) -> String {
    let (width, height) = size;
    let svg = html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(format!("{width:.0}")) height=(format!("{height:.0}"))
            viewBox=(format!("0 0 {width:.0} {height:.0}")) {
            title { (about) }
            style { (PreEscaped(STYLE)) }
            rect.paper x="0" y="0" width="100%" height="100%" {}
            (inner)
        }
    };
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", svg.into_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::page::tests::write;
    use crate::results::summary::Orders;

    #[test]
    fn figures_stand_alone_and_show_what_they_say() {
        let place = tempfile::tempdir().unwrap();
        let folders = [
            write(place.path(), "demo-lwf", 1, 5, 10),
            write(place.path(), "demo-lwf", 2, 7, 10),
            write(place.path(), "demo-joint", 1, 8, 10),
        ];
        let summary = Summary::load(&folders, Orders::Apart).unwrap();
        let all = all(&summary, Metric::Accuracy).unwrap();
        let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["accuracy", "old-and-new", "confusion-lwf", "confusion-joint"]);
        for figure in &all {
            assert!(!figure.svg.contains("var(--") && !figure.svg.contains("href="), "{}", figure.name);
            let png = image::load_from_memory(&figure.png().unwrap()).unwrap().into_rgb8();
            // Four pixels for each unit that the SVG says it is wide and high.
            let size = |key: &str| {
                let at = figure.svg.split_once(&format!(" {key}=\"")).unwrap().1;
                4 * at.split('"').next().unwrap().parse::<u32>().unwrap()
            };
            assert_eq!((png.width(), png.height()), (size("width"), size("height")), "{}", figure.name);
            assert!(png.width() >= 1700, "{} is {} pixels wide", figure.name, png.width());
            let of = |colour: [u8; 3]| png.pixels().filter(|it| it.0 == colour).count();
            assert!(of([255, 255, 255]) > 100_000, "{} is on paper", figure.name);
            // The first method's line is blue, and so are cells, the paler the fewer of their images are right.
            let is_blue = |it: &&image::Rgb<u8>| it.0[2] > it.0[0].saturating_add(25);
            assert!(png.pixels().filter(is_blue).count() > 1000, "{} shows its first method", figure.name);
            // Letters are drawn: the ink of ticks.
            assert!(of([91, 97, 107]) > 100, "{} has letters", figure.name);
        }
        assert!(all[0].svg.contains(">lwf</text>") && all[0].svg.contains(">accuracy, %</text>"));
        // The matrix is the sum of two seeds: 5 and 7 of ten, twice ten images.
        assert!(all[2].svg.contains(">12</text>"), "{}", all[2].svg);
    }
}
