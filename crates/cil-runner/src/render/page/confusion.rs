//! Confusion matrices, and the confusions that happen most.
//!
//! A matrix is one small picture of a pixel a cell, whose opacity is the share of the true class; so a hundred classes
//! weigh little, and it serves light and dark pages. Counts are written where there is room.

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cil_train::event::Confusion;
use image::{ImageFormat, Rgba, RgbaImage};
use maud::{Markup, html};

use super::chart::n;
use super::{run_name, scrolling, short_name};
use crate::results::result::evaluations;
use crate::results::summary::{Group, Summary};

/// Most classes whose names stand at the matrix, and whose counts stand in it.
const NAMED: usize = 30;
const COUNTED: usize = 12;
/// Most letters of a name at the matrix.
const LETTERS: usize = 16;
/// Confusions that are listed.
const LISTED: usize = 8;
/// Height and width of a matrix.
pub(crate) const SIZE: f64 = 440.0;
/// Okabe and Ito's blue.
const CELL: [u8; 3] = [0, 114, 178];

/// Confusion counts after the last task, over a method's runs or of one run.
pub(crate) struct Counted {
    /// Images by true class and prediction.
    pub(crate) confusion: Confusion,
    /// Classes in the order of learning.
    names: Vec<String>,
    /// First classes of tasks, the first task's left out.
    borders: Vec<usize>,
    /// Runs that are counted.
    runs: usize,
}

impl Counted {
    /// Of these runs after the last task that each evaluated; those that learned other classes than the first, or are
    /// not as far, are left out.
    pub(crate) fn of(summary: &Summary, runs: &[usize]) -> Result<Option<Self>> {
        let mut counted: Option<Self> = None;
        for run in runs.iter().map(|run| &summary.runs[*run]) {
            let all = evaluations(&run.lines)?;
            let Some(last) = all.last() else { continue };
            let names = run.class_names();
            match &mut counted {
                None => {
                    let classes = last.classifier.rows.len();
                    let ends = run.checked.increments().sizes().iter().scan(0, |end, size| {
                        *end += size;
                        Some(*end)
                    });
                    let borders = ends.filter(|end| *end < classes).collect();
                    counted = Some(Self { confusion: last.classifier.clone(), names, borders, runs: 1 });
                }
                Some(it) if it.names == names && it.confusion.rows.len() == last.classifier.rows.len() => {
                    it.runs += 1;
                    for (sum, row) in it.confusion.rows.iter_mut().zip(&last.classifier.rows) {
                        sum.iter_mut().zip(row).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
                    }
                }
                Some(_) => {}
            }
        }
        Ok(counted)
    }
}

/// The runs of a group that a matrix is over: those that are counted, else its first.
pub(crate) fn runs_of(group: &Group) -> &[usize] {
    if group.counted.is_empty() { &group.runs[..group.runs.len().min(1)] } else { &group.counted }
}

/// The matrix of each method after its last task, and of each run where a method has several.
pub(super) fn section(summary: &Summary) -> Result<Markup> {
    let (mut methods, mut runs) = (Vec::new(), Vec::new());
    for group in &summary.groups {
        let name = html! { (group.label) };
        methods.extend(one(&group.label, &name, Counted::of(summary, runs_of(group))?)?);
        for run in group.runs.iter().filter(|_| group.runs.len() > 1) {
            let counted = Counted::of(summary, &[*run])?;
            runs.extend(one(&short_name(summary, *run), &run_name(summary, *run), counted)?);
        }
    }
    if methods.is_empty() {
        return Ok(html! {});
    }
    Ok(html! {
        section {
            h2 { "Confusion" }
            p.note {
                "After the last task that was evaluated, over the seeds of a method. A row is a true class, a column the "
                "predicted one; the darker, the larger the share of the row. Classes stand in the order of learning; lines "
                "part the tasks."
            }
            div.plots { @for part in methods { (part) } }
            @if !runs.is_empty() {
                details { summary { "Each run" } div.plots { @for part in runs { (part) } } }
            }
        }
    })
}

fn one(about: &str, heading: &Markup, counted: Option<Counted>) -> Result<Option<Markup>> {
    let Some(counted) = counted else { return Ok(None) };
    let (names, confusion) = (&counted.names, &counted.confusion);
    let listed = most(confusion);
    let name = |class: usize| names.get(class).map_or("", String::as_str).to_owned();
    let table = html! {
        table {
            thead { tr { th { "true class" } th.text { "predicted" } th { "images" } th { "of" } } }
            tbody {
                @for (truth, prediction, count) in &listed {
                    tr {
                        td.text { (name(*truth)) } td.text { (name(*prediction)) }
                        td { (count) } td { (total(&confusion.rows[*truth])) }
                    }
                }
            }
        }
    };
    Ok(Some(html! {
        div {
            h3 { (heading) @if counted.runs > 1 { " (sum of " (counted.runs) " seeds)" } }
            svg.chart.confusion viewBox=(format!("0 0 {SIZE} {SIZE}")) role="img"
                aria-label=(format!("confusion matrix of {about}")) { (matrix(&counted, true)?) }
            @if !listed.is_empty() { (scrolling(&table)) }
        }
    }))
}

fn total(row: &[u32]) -> u64 {
    row.iter().map(|count| u64::from(*count)).sum()
}

/// The largest counts beside the diagonal: true class, prediction, images.
fn most(confusion: &Confusion) -> Vec<(usize, usize, u32)> {
    let of_row = |(truth, row): (usize, &Vec<u32>)| {
        row.iter().enumerate().map(move |(prediction, count)| (truth, prediction, *count)).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = confusion.rows.iter().enumerate().flat_map(of_row).collect();
    all.retain(|(truth, prediction, count)| truth != prediction && *count > 0);
    all.sort_by_key(|(truth, prediction, count)| (std::cmp::Reverse(*count), *truth, *prediction));
    all.truncate(LISTED);
    all
}

/// The elements of a matrix of [`SIZE`] high and wide; its cells as one picture, which a page shows, or as rectangles,
/// which every program shows.
pub(crate) fn matrix(counted: &Counted, as_picture: bool) -> Result<Markup> {
    let Counted { confusion, names, borders, .. } = counted;
    let classes = confusion.rows.len();
    let margin = if classes <= NAMED { 116.0 } else { 40.0 };
    let side = (SIZE - margin - 8.0) / classes.max(1) as f64;
    let at = |class: usize| margin + class as f64 * side;
    let middle = |class: usize| at(class) + side / 2.0;
    let labelled = (0..classes).filter(|class| classes <= NAMED || class % 10 == 0);
    let label = |class: usize| match classes <= NAMED {
        true => short(names.get(class).map_or("", String::as_str)),
        false => class.to_string(),
    };
    let inner = SIZE - margin - 8.0;
    let centre = margin + inner / 2.0;
    let cells = match as_picture {
        true => {
            let image = format!("data:image/png;base64,{}", picture(confusion)?);
            html! { image href=(image) x=(margin) y=(margin) width=(n(inner)) height=(n(inner)) preserveAspectRatio="none" {} }
        }
        false => html! {
            @for (truth, row) in confusion.rows.iter().enumerate() {
                @for (prediction, count) in row.iter().enumerate().filter(|(_, count)| **count > 0) {
                    rect.cell x=(format!("{:.3}", at(prediction))) y=(format!("{:.3}", at(truth))) width=(format!("{side:.3}"))
                        height=(format!("{side:.3}")) fill-opacity=(format!("{:.3}", f64::from(*count) / total(row) as f64)) {}
                }
            }
        },
    };
    Ok(html! {
        (cells)
        rect.frame x=(margin) y=(margin) width=(n(inner)) height=(n(inner)) {}
        @for border in borders {
            line.border x1=(n(at(*border))) x2=(n(at(*border))) y1=(margin) y2=(n(margin + inner)) {}
            line.border y1=(n(at(*border))) y2=(n(at(*border))) x1=(margin) x2=(n(margin + inner)) {}
        }
        @for class in labelled {
            text.tick x=(margin - 5.0) y=(n(middle(class) + 4.0)) text-anchor="end" { (label(class)) }
            text.tick transform=(format!("translate({} {}) rotate(-90)", n(middle(class) + 4.0), margin - 5.0)) {
                (label(class))
            }
        }
        @if classes <= COUNTED {
            @for (truth, row) in confusion.rows.iter().enumerate() {
                @for (prediction, count) in row.iter().enumerate().filter(|(_, count)| **count > 0) {
                    @let strong = f64::from(*count) > 0.5 * total(row) as f64;
                    text.count.(if strong { "strong" } else { "" }) x=(n(middle(prediction)))
                        y=(n(middle(truth) + 4.0)) text-anchor="middle" { (count) }
                }
            }
        }
        text.label x=(n(centre)) y="11" text-anchor="middle" { "predicted class" }
        text.label transform=(format!("translate(11 {}) rotate(-90)", n(centre))) text-anchor="middle" { "true class" }
    })
}

/// A name as it fits at the matrix.
fn short(name: &str) -> String {
    match name.chars().count() > LETTERS {
        true => name.chars().take(LETTERS - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

/// A pixel for each cell, as a PNG file in base 64.
fn picture(confusion: &Confusion) -> Result<String> {
    let classes = u32::try_from(confusion.rows.len()).context("a confusion matrix is too large")?;
    let pixel = |x: u32, y: u32| {
        let row = &confusion.rows[y as usize];
        let share = f64::from(row.get(x as usize).copied().unwrap_or(0)) / total(row).max(1) as f64;
        let [red, green, blue] = CELL;
        Rgba([red, green, blue, (share * 255.0).round() as u8])
    };
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbaImage::from_fn(classes, classes, pixel).write_to(&mut bytes, ImageFormat::Png)?;
    Ok(STANDARD.encode(bytes.into_inner()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_shares_of_their_rows_and_confusions_are_sorted() {
        let confusion = Confusion { rows: vec![vec![3, 1, 0], vec![2, 2, 0], vec![0, 0, 0]] };
        assert_eq!(most(&confusion), [(1, 0, 2), (0, 1, 1)]);
        let bytes = STANDARD.decode(picture(&confusion).unwrap()).unwrap();
        let picture = image::load_from_memory(&bytes).unwrap().into_rgba8();
        let opacity = |x, y| picture.get_pixel(x, y).0[3];
        // Across is the prediction, down the truth.
        assert_eq!([opacity(0, 0), opacity(1, 0), opacity(0, 1), opacity(2, 2)], [191, 64, 128, 0]);
        assert_eq!(short("a very long name of a class"), "a very long nam…");
    }
}
