//! A generated data set: shapes with a filling, for showing the program and testing it without any download.
//!
//! A class is a shape and a filling; everything else varies at random: place, size, turn, colours (a shape may be
//! brighter or darker than its ground), light, clutter and noise. So single pixels carry little information about the
//! class, and a small convolutional network learns it. Accuracies on it say nothing about photographs. An image is a
//! function of (seed, part, class, index).

mod shapes;

use std::sync::Arc;

use anyhow::{Result, bail};
use cil_random::{Draw, Stream};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::augment::Size;
use crate::store::Images;
use shapes::{FILLINGS, SHAPES};

/// Pixels of a side.
const SIDE: usize = 32;

/// How large the data set is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProceduralConfig {
    /// Classes; at most 24.
    pub classes: usize,
    /// Training images of each class.
    pub train_per_class: usize,
    /// Test images of each class.
    pub test_per_class: usize,
}

impl ProceduralConfig {
    /// Refuses what cannot be generated.
    ///
    /// # Errors
    /// Naming the key, its value and what would be right.
    pub fn check(&self) -> Result<()> {
        let most = SHAPES.len() * FILLINGS.len();
        if self.classes == 0 || self.classes > most {
            bail!("classes is {}; there are shapes and fillings for 1 to {most}", self.classes);
        }
        for (key, count) in
            [("train-per-class", self.train_per_class), ("test-per-class", self.test_per_class)]
        {
            if count == 0 || count > 10_000 {
                bail!("{key} is {count}; use a value from 1 to 10000");
            }
        }
        Ok(())
    }
}

/// Names of the first `classes` classes, such as `striped ring`.
pub(crate) fn class_names(classes: usize) -> Vec<String> {
    let name = |class: usize| {
        let (shape, filling) = parts(class);
        format!("{} {}", FILLINGS[filling], SHAPES[shape].0)
    };
    (0..classes).map(name).collect()
}

/// Training and test images.
pub(crate) fn generate(config: &ProceduralConfig, seed: u64) -> Result<(Images, Images)> {
    config.check()?;
    let part = |purpose, per_class: usize| {
        let size = Size { height: SIDE, width: SIDE };
        let mut pixels = vec![0; config.classes * per_class * size.values()];
        pixels.par_chunks_exact_mut(size.values()).enumerate().for_each(|(at, image)| {
            let (class, index) = (at / per_class, at % per_class);
            let draw = Draw { seed, purpose, task: class, position: index as u64 };
            paint(class, &mut draw.stream("image"), image);
        });
        let labels = (0..config.classes * per_class).map(|at| (at / per_class) as u16).collect();
        Images { size, pixels: Arc::new(pixels), labels: Arc::new(labels), device_copy: None, packed: None }
    };
    Ok((part("procedural train", config.train_per_class), part("procedural test", config.test_per_class)))
}

/// Shape and filling of a class: all shapes with the first filling come first.
fn parts(class: usize) -> (usize, usize) {
    (class % SHAPES.len(), class / SHAPES.len())
}

type Colour = [f64; 3];

/// Position and appearance of the shape.
struct Scene {
    centre: (f64, f64),
    scale: f64,
    turn: f64,
    ground: [Colour; 2],
    slope: (f64, f64),
    body: [Colour; 2],
    /// Turn and shift of the filling.
    filling: (f64, f64),
    clutter: Vec<Stroke>,
}

/// A short line in the background.
struct Stroke {
    from: (f64, f64),
    to: (f64, f64),
    width: f64,
    colour: Colour,
}

impl Scene {
    fn draw(stream: &mut Stream) -> Self {
        // Ground and body differ in brightness, either way round; hues are free.
        let (dark, bright) = (stream.between(0.05, 0.35), stream.between(0.65, 0.95));
        let (ground, body) = if stream.unit() < 0.5 { (dark, bright) } else { (bright, dark) };
        let angle = stream.between(0.0, std::f64::consts::TAU);
        let mut scene = Self {
            centre: (stream.between(-0.28, 0.28), stream.between(-0.28, 0.28)),
            scale: stream.between(0.5, 0.72),
            turn: stream.between(-0.6, 0.6),
            ground: [tinted(ground, stream), tinted(ground, stream)],
            slope: (angle.cos(), angle.sin()),
            body: [tinted(body, stream), tinted(0.5 * (body + ground), stream)],
            filling: (stream.between(-0.5, 0.5), stream.unit()),
            clutter: Vec::new(),
        };
        for _ in 0..2 + stream.below(3) {
            let from = (stream.between(-1.1, 1.1), stream.between(-1.1, 1.1));
            let (angle, length) = (stream.between(0.0, std::f64::consts::TAU), stream.between(0.2, 0.7));
            let to = (from.0 + length * angle.cos(), from.1 + length * angle.sin());
            let level = (ground + stream.between(-0.25, 0.25)).clamp(0.0, 1.0);
            scene.clutter.push(Stroke {
                from,
                to,
                width: stream.between(0.03, 0.09),
                colour: tinted(level, stream),
            });
        }
        scene
    }

    /// Colour at a point of the image, both coordinates within -1 and 1.
    fn colour(&self, class: usize, x: f64, y: f64) -> Colour {
        let along = 0.5 + 0.35 * (x * self.slope.0 + y * self.slope.1);
        let mut colour = blend(self.ground[0], self.ground[1], along.clamp(0.0, 1.0));
        for stroke in &self.clutter {
            colour = blend(colour, stroke.colour, covered(stroke.distance(x, y)));
        }
        let (shape, filling) = parts(class);
        let (dx, dy) = ((x - self.centre.0) / self.scale, (y - self.centre.1) / self.scale);
        let (cos, sin) = (self.turn.cos(), self.turn.sin());
        let (u, v) = (dx * cos + dy * sin, dy * cos - dx * sin);
        let body = match filling {
            0 => self.body[0],
            _ => {
                let (turn, shift) = self.filling;
                let across = u * turn.sin() + v * turn.cos();
                let stripe = (std::f64::consts::TAU * (across * 1.7 + shift)).sin();
                blend(self.body[0], self.ground[0], covered(stripe * 0.12))
            }
        };
        blend(colour, body, covered((SHAPES[shape].1)(u, v) * self.scale))
    }
}

impl Stroke {
    fn distance(&self, x: f64, y: f64) -> f64 {
        let (ax, ay) = (x - self.from.0, y - self.from.1);
        let (bx, by) = (self.to.0 - self.from.0, self.to.1 - self.from.1);
        let along = ((ax * bx + ay * by) / (bx * bx + by * by)).clamp(0.0, 1.0);
        (ax - along * bx).hypot(ay - along * by) - self.width
    }
}

fn paint(class: usize, stream: &mut Stream, image: &mut [u8]) {
    let scene = Scene::draw(stream);
    let light = stream.between(0.85, 1.1);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let place = |at: usize| (2.0 * at as f64 + 1.0) / SIDE as f64 - 1.0;
            let colour = scene.colour(class, place(x), place(y));
            for (channel, value) in colour.into_iter().enumerate() {
                let noisy = value * light + 0.03 * stream.normal();
                image[(channel * SIDE + y) * SIDE + x] = (noisy * 255.0).round().clamp(0.0, 255.0) as u8;
            }
        }
    }
}

/// A colour of that brightness and a random hue.
fn tinted(level: f64, stream: &mut Stream) -> Colour {
    std::array::from_fn(|_| (level + stream.between(-0.2, 0.2)).clamp(0.0, 1.0))
}

fn blend(under: Colour, over: Colour, share: f64) -> Colour {
    std::array::from_fn(|channel| under[channel] + share * (over[channel] - under[channel]))
}

/// How much of a pixel lies within an outline at that distance (negative inside).
fn covered(distance: f64) -> f64 {
    (0.5 - distance * SIDE as f64 / 3.0).clamp(0.0, 1.0)
}
