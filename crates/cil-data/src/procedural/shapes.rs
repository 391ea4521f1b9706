//! Outlines as distances: negative inside, about the distance to the outline near it; sizes of about 1.

/// A shape's name and its distance at a point.
type Shape = (&'static str, fn(f64, f64) -> f64);

/// All shapes; no two are alike after a turn of up to 40 degrees and a change of size.
pub(super) const SHAPES: [Shape; 12] = [
    ("disc", |x, y| disc(x, y, 0.85)),
    ("ring", |x, y| (x.hypot(y) - 0.68).abs() - 0.2),
    ("square", |x, y| bar(x, y, 0.75, 0.75)),
    ("triangle", triangle),
    ("star", star),
    ("cross", |x, y| bar(x, y, 0.95, 0.27).min(bar(x, y, 0.27, 0.95))),
    ("bar", |x, y| bar(x, y, 1.0, 0.28)),
    ("crescent", |x, y| disc(x, y, 0.9).max(-disc(x - 0.45, y, 0.72))),
    ("angle", |x, y| bar(x + 0.55, y, 0.25, 0.9).min(bar(x, y - 0.65, 0.8, 0.25))),
    ("arrow", arrow),
    ("pair", |x, y| disc(x - 0.58, y, 0.4).min(disc(x + 0.58, y, 0.4))),
    ("gate", |x, y| {
        bar(x - 0.62, y, 0.2, 0.85).min(bar(x + 0.62, y, 0.2, 0.85)).min(bar(x, y + 0.65, 0.8, 0.2))
    }),
];

/// Names of the fillings.
pub(super) const FILLINGS: [&str; 2] = ["plain", "striped"];

fn disc(x: f64, y: f64, radius: f64) -> f64 {
    x.hypot(y) - radius
}

fn bar(x: f64, y: f64, half_width: f64, half_height: f64) -> f64 {
    (x.abs() - half_width).max(y.abs() - half_height)
}

fn triangle(x: f64, y: f64) -> f64 {
    let side = 3f64.sqrt() / 2.0;
    (y - 0.55).max(side * x.abs() - 0.5 * y - 0.5)
}

fn star(x: f64, y: f64) -> f64 {
    let angle = x.atan2(-y);
    x.hypot(y) - (0.62 + 0.33 * (5.0 * angle).cos())
}

fn arrow(x: f64, y: f64) -> f64 {
    let stem = bar(x, y - 0.4, 0.2, 0.55);
    let head = (y + 0.05).max(0.75 * x.abs() - 0.66 * (y + 0.95));
    stem.min(head)
}
