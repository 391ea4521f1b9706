//! Accuracy by the bytes that a method keeps.
//!
//! A head of statistics and exemplars are compared fairly only beside what both keep of old classes; one point a
//! method, bytes on a logarithmic axis.

use maud::{Markup, html};

use super::chart::{Chart, Point, Series, key};
use super::colour_of;
use crate::results::figure::{Figure, Unit};
use crate::results::summary::Summary;

/// The chart of all groups that have a whole run; `None` where fewer than two are left, or all keep as much.
///
/// Training on all images in every task is left out, since it keeps all of them.
pub(crate) fn chart(summary: &Summary, size: (f64, f64)) -> Option<Chart> {
    let accuracy = Figure::new("last accuracy", "/last_accuracy", Unit::Percent);
    let kept = Figure::new("kept", "/stored_bytes", Unit::Bytes);
    let mut found = Vec::new();
    for group in summary.groups.iter().filter(|group| !summary.is_joint(group)) {
        if let (Some(accuracy), Some(kept)) = (summary.spread(group, &accuracy), summary.spread(group, &kept))
        {
            let style = group.runs.first().map_or(0, |run| colour_of(summary, *run));
            let label = [group.block.as_str(), &group.label].join(" ").trim().to_owned();
            found.push((label, style, accuracy, kept.mean));
        }
    }
    let differ = found.iter().any(|it| it.3 != found[0].3);
    if found.len() < 2 || !differ {
        return None;
    }
    let kept = || found.iter().map(|it| it.3).filter(|bytes| *bytes > 0.0);
    let decade = |bytes: f64| bytes.log10();
    let low = kept().fold(f64::MAX, |low, bytes| low.min(decade(bytes).floor()));
    let high = kept().fold(low + 1.0, |high, bytes| high.max(decade(bytes).ceil()));
    let any_keeps_nothing = found.iter().any(|it| it.3 <= 0.0);
    // Nothing stands a decade before the least.
    let nothing = low - 1.0;
    let mut ticks = if any_keeps_nothing { vec![(nothing, "nothing".to_owned())] } else { Vec::new() };
    ticks.extend((low as i32..=high as i32).map(|power| (f64::from(power), power_of_ten(power))));
    let point = |bytes: f64| if bytes > 0.0 { decade(bytes) } else { nothing };
    let series = found.into_iter().map(|(name, style, accuracy, bytes)| {
        let spread = 100.0 * accuracy.deviation.unwrap_or(0.0);
        let points = vec![Point { x: point(bytes), y: 100.0 * accuracy.mean, spread }];
        Series { name: format!("{name}, {}", Unit::Bytes.text(bytes)), style, dashed: false, points }
    });
    Some(Chart {
        about: "accuracy after the last task by bytes kept".to_owned(),
        x: "kept of old classes between tasks".to_owned(),
        y: "last accuracy, %".to_owned(),
        range: None,
        ticks: Some(ticks),
        borders: Vec::new(),
        markers: true,
        size,
        series: series.collect(),
    })
}

/// `1 kB` for 3, with the prefixes of the SI.
fn power_of_ten(power: i32) -> String {
    let of = |unit: &str, zeros: i32| format!("1{} {unit}", "0".repeat(zeros.max(0) as usize));
    match power {
        ..=2 => of("B", power),
        3..=5 => of("kB", power - 3),
        6..=8 => of("MB", power - 6),
        _ => of("GB", power - 9),
    }
}

/// The chart in a section of its own.
pub(super) fn section(summary: &Summary) -> Markup {
    let Some(chart) = chart(summary, (700.0, 320.0)) else { return html! {} };
    html! {
        section {
            h2 { "Accuracy by what is kept" }
            figure.plot.main {
                div.broad { (chart.draw()) }
                div.narrow { (Chart { size: (440.0, 280.0), ..chart.clone() }.draw()) }
                figcaption { @for it in &chart.series { (key(&it.name, it.style, it.dashed)) } }
            }
            p.note {
                "Bytes of exemplars, statistics and generators that a method keeps of old classes between tasks, beside the "
                "model itself; the most after any task. Bars: one standard deviation over seeds."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::render::page::tests::write;
    use crate::results::summary::Orders;

    /// A run that keeps that many bytes.
    fn run(place: &Path, preset: &str, seed: u64, right: u32, bytes: u64) -> std::path::PathBuf {
        let folder = write(place, preset, seed, right, 10);
        let events = folder.join("events.jsonl");
        let text = fs::read_to_string(&events).unwrap();
        let changed = text.replace("\"stored_bytes\":3145728", &format!("\"stored_bytes\":{bytes}"));
        fs::write(events, changed).unwrap();
        folder
    }

    #[test]
    fn a_point_stands_at_its_accuracy_and_its_bytes() {
        let place = tempfile::tempdir().unwrap();
        let folders = [
            run(place.path(), "demo-lwf", 1, 5, 0),
            run(place.path(), "demo-lwf", 2, 7, 0),
            run(place.path(), "demo-lwf-discriminant", 1, 8, 34_000),
            run(place.path(), "demo-lucir-e20", 1, 6, 6_144_000),
            run(place.path(), "demo-joint", 1, 9, 100_000_000),
        ];
        let summary = Summary::load(&folders, Orders::Apart).unwrap();
        let chart = chart(&summary, (520.0, 320.0)).unwrap();
        let places: Vec<_> = chart.series.iter().map(|it| (it.name.as_str(), it.points[0])).collect();
        let near =
            |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}, {expected}");
        assert_eq!(places.len(), 3, "training on all images is no comparison: {places:?}");
        assert_eq!(places[0].0, "lwf, 0 B");
        // Two seeds: 5 and 7 of ten; nothing is kept, so the point stands before the least.
        near(places[0].1.x, 3.0);
        near(places[0].1.y, 60.0);
        assert!(places[0].1.spread > 10.0);
        near(places[1].1.x, 34_000f64.log10());
        near(places[1].1.y, 80.0);
        near(places[2].1.x, 6_144_000f64.log10());
        let ticks: Vec<&str> = chart.ticks.iter().flatten().map(|it| it.1.as_str()).collect();
        assert_eq!(ticks, ["nothing", "10 kB", "100 kB", "1 MB", "10 MB"]);
        let text = chart.draw().into_string();
        assert!(text.contains(">100 kB</text>") && !text.contains("NaN"), "{text}");
    }

    #[test]
    fn there_is_no_chart_where_all_keep_as_much() {
        let place = tempfile::tempdir().unwrap();
        let folders = [run(place.path(), "demo-lwf", 1, 5, 7), run(place.path(), "demo-lucir-e0", 1, 8, 7)];
        let summary = Summary::load(&folders, Orders::Apart).unwrap();
        assert!(chart(&summary, (520.0, 320.0)).is_none());
        assert!(section(&summary).into_string().is_empty());
    }
}
