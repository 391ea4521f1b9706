//! Pictures of generated images beside the classes that they stand for.
//!
//! A picture is cut into its rows and brought back to the images' own size, so that a row can stand beside its class on
//! any screen; the browser enlarges it, and no pixel is changed.

use std::io::Cursor;
use std::ops::Range;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{ImageFormat, ImageReader, Limits, RgbImage};
use maud::{Markup, html};

use super::run_name;
use crate::drive::picture_name;
use crate::render::pictures::{Drawn, GAP, ZOOM};
use crate::results::recorded::{Picture, Recorded};
use crate::results::summary::Summary;

/// Bytes of pixels that a byte of a PNG file can stand for; its compression reaches no more.
const EXPANSION: u64 = 1032;

/// The pictures: of one run all, of several each one's last.
pub(super) fn section(summary: &Summary) -> Result<Markup> {
    let with: Vec<usize> =
        (0..summary.runs.len()).filter(|run| !summary.runs[*run].pictures.is_empty()).collect();
    if with.is_empty() {
        return Ok(html! {});
    }
    let mut parts = Vec::new();
    for at in with {
        let run = &summary.runs[at];
        let last = run.pictures.last().map(|it| it.task);
        let shown = |it: &&Picture| summary.runs.len() == 1 || Some(it.task) == last;
        for picture in run.pictures.iter().filter(shown) {
            parts.push(one(summary, at, picture)?);
        }
    }
    Ok(html! {
        section {
            h2 { "Generated images" }
            p.note {
                "What the generator drew for replay: a row for each old class, as the old teacher sees it. Confidence is the "
                "mean probability that the teacher gives to the class, over all images drawn of it; the row shows the first "
                "of them. Where new images are not shared, the new teacher's are here too, a row for each new class."
                @if summary.runs.len() > 1 { " The last task of each run." }
            }
            @for part in parts { (part) }
        }
    })
}

fn one(summary: &Summary, at: usize, picture: &Picture) -> Result<Markup> {
    let run = &summary.runs[at];
    let name = picture_name(picture.task, picture.new);
    let place = || format!("{}/{name}.png is not a picture of a run", run.folder.display());
    let (names, classes) = (run.class_names(), classes(run, picture));
    let rows = rows(picture, classes.len()).with_context(place)?;
    Ok(html! {
        h3 { (run_name(summary, at)) ", for task " (picture.task + 1) @if picture.new { ", new classes" } }
        div.generated {
            @for (class, row) in rows.iter().enumerate() {
                @let name = names.get(classes.start + class).map_or("", String::as_str);
                figure {
                    figcaption { b { (name) } (caption(picture.drawn.as_ref(), class)) }
                    img src=(format!("data:image/png;base64,{row}")) alt=(format!("generated images of {name}"));
                }
            }
        }
    })
}

/// How many images were drawn of a class, and how sure the teacher is of them.
fn caption(drawn: Option<&Drawn>, class: usize) -> Markup {
    let Some(of) = drawn.and_then(|it| it.classes.get(class)) else { return html! {} };
    html! {
        span {
            (of.drawn) " drawn"
            @if let Some(confidence) = of.confidence { ", confidence " (format!("{:.0} %", confidence * 100.0)) }
        }
    }
}

/// Classes that a picture has rows of: those before its task, or its task's.
fn classes(run: &Recorded, picture: &Picture) -> Range<usize> {
    let of_task = run.checked.increments().classes(picture.task);
    if picture.new { of_task } else { 0..of_task.start }
}

/// Each row of a picture as a PNG file in base 64.
fn rows(picture: &Picture, count: usize) -> Result<Vec<String>> {
    let mut reader = ImageReader::with_format(Cursor::new(&picture.png), ImageFormat::Png);
    let mut limits = Limits::default();
    limits.max_alloc = Some(EXPANSION * picture.png.len() as u64);
    reader.limits(limits);
    let whole = reader.decode()?.into_rgb8();
    let step = whole.height().saturating_sub(GAP).checked_div(count as u32).unwrap_or(0);
    if step <= GAP || step * count as u32 + GAP != whole.height() || whole.width() <= GAP {
        anyhow::bail!("it is {} pixels high, for {count} classes", whole.height());
    }
    let (width, height) = ((whole.width() - GAP) / ZOOM, (step - GAP) / ZOOM);
    (0..count as u32)
        .map(|row| {
            let pixel = |x: u32, y: u32| *whole.get_pixel(GAP + x * ZOOM, GAP + row * step + y * ZOOM);
            let mut bytes = Cursor::new(Vec::new());
            RgbImage::from_fn(width, height, pixel).write_to(&mut bytes, ImageFormat::Png)?;
            Ok(STANDARD.encode(bytes.into_inner()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use cil_data::normalise::Normalisation;

    use super::*;
    use crate::render::pictures::grid;

    #[test]
    fn a_row_is_its_images_at_their_own_size() {
        // Two images of 4x4, all black and all white.
        let black = Tensor::zeros((1, 3, 4, 4), DType::F32, &Device::Cpu).unwrap();
        let both = Tensor::cat(&[&black, &black.ones_like().unwrap()], 0).unwrap();
        let plain = Normalisation { mean: [0.0; 3], deviation: [1.0; 3] };
        let png = grid(&both, &[vec![0, 1], vec![1]], &plain).unwrap();
        let picture = Picture { task: 1, new: false, png, drawn: None };
        let rows = rows(&picture, 2).unwrap();
        let read =
            |row: &String| image::load_from_memory(&STANDARD.decode(row).unwrap()).unwrap().into_rgb8();
        let first = read(&rows[0]);
        assert_eq!((rows.len(), first.dimensions()), (2, (10, 4)));
        assert_eq!(
            (first.get_pixel(3, 3).0, first.get_pixel(5, 0).0, first.get_pixel(4, 0).0),
            ([0; 3], [255; 3], [255; 3])
        );
        assert_eq!(read(&rows[1]).get_pixel(0, 0).0, [255; 3]);
        assert!(super::rows(&picture, 3).is_err());
        assert!(super::rows(&picture, 0).is_err());
    }
}
