//! Groups of points by k-means.
//!
//! Draws come from one stream in order and sums run over the points in order, so the centres are a function of the
//! points and the draw alone. Settings are those of scikit-learn's `KMeans` as PODNet's code ran it: the best of ten
//! beginnings by k-means++, at most 300 rounds each. Two things are simpler here: a beginning tries one candidate for
//! each centre (there: some, the best of which counts), and rounds end when no point changes its group.

use anyhow::{Result, bail};
use cil_random::{Draw, Stream};

/// Beginnings.
const BEGINNINGS: u64 = 10;
/// Rounds of one beginning.
const ROUNDS: usize = 300;

/// `count` rows of `width` values, the centres of as many groups of the points. Where there are fewer different points,
/// some centres are equal.
///
/// `points`: rows of `width` values.
///
/// # Errors
/// If there is no point, or their number is not whole.
pub fn centres(points: &[f32], width: usize, count: usize, draw: Draw<'_>) -> Result<Vec<f32>> {
    if width == 0 || points.is_empty() || !points.len().is_multiple_of(width) {
        bail!("{} values are no points of width {width} to be grouped", points.len());
    }
    let points: Vec<f64> = points.iter().map(|value| f64::from(*value)).collect();
    let points: Vec<&[f64]> = points.chunks_exact(width).collect();
    let mut best: Option<(f64, Vec<Vec<f64>>)> = None;
    for beginning in 0..BEGINNINGS {
        let mut centres = scattered(&points, count, &mut draw.stream_of(beginning));
        let spread = settle(&points, &mut centres);
        if best.as_ref().is_none_or(|(least, _)| spread < *least) {
            best = Some((spread, centres));
        }
    }
    let values = best.into_iter().flat_map(|(_, centres)| centres.concat());
    Ok(values.map(|value| value as f32).collect())
}

/// Points to begin with: the first is any, each next one is drawn by its squared distance to those before (k-means++,
/// Arthur and Vassilvitskii 2007).
fn scattered(points: &[&[f64]], count: usize, stream: &mut Stream) -> Vec<Vec<f64>> {
    let mut centres: Vec<Vec<f64>> = Vec::with_capacity(count);
    let mut nearest = vec![f64::INFINITY; points.len()];
    while centres.len() < count {
        let total: f64 = nearest.iter().sum();
        // Any point at first, and where all are centres already.
        let chosen = match total.is_finite() && total > 0.0 {
            false => stream.below(points.len()),
            true => {
                let mut left = stream.unit() * total;
                let reached = |distance: &f64| {
                    left -= distance;
                    left < 0.0
                };
                nearest.iter().position(reached).unwrap_or(points.len() - 1)
            }
        };
        for (nearest, point) in nearest.iter_mut().zip(points) {
            *nearest = nearest.min(squared_distance(point, points[chosen]));
        }
        centres.push(points[chosen].to_vec());
    }
    centres
}

/// Moves centres to the means of the points nearest to them until nothing changes; the sum of squared distances then.
/// A centre without a point stays.
fn settle(points: &[&[f64]], centres: &mut [Vec<f64>]) -> f64 {
    let mut groups = vec![usize::MAX; points.len()];
    let mut spread = 0.0;
    for _ in 0..ROUNDS {
        let mut changed = false;
        spread = 0.0;
        for (group, point) in groups.iter_mut().zip(points) {
            let (found, distance) = nearest(point, centres);
            changed |= found != *group;
            *group = found;
            spread += distance;
        }
        if !changed {
            break;
        }
        let mut counts = vec![0usize; centres.len()];
        groups.iter().for_each(|group| counts[*group] += 1);
        let joined = centres.iter_mut().zip(&counts).filter(|(_, count)| **count > 0);
        joined.for_each(|(centre, _)| centre.fill(0.0));
        for (group, point) in groups.iter().zip(points) {
            let share = 1.0 / counts[*group] as f64;
            centres[*group].iter_mut().zip(*point).for_each(|(sum, value)| *sum += share * value);
        }
    }
    spread
}

/// The first nearest centre and the squared distance to it.
fn nearest(point: &[f64], centres: &[Vec<f64>]) -> (usize, f64) {
    let mut found = (0, f64::INFINITY);
    for (at, centre) in centres.iter().enumerate() {
        let distance = squared_distance(point, centre);
        if distance < found.1 {
            found = (at, distance);
        }
    }
    found
}

fn squared_distance(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| (left - right) * (left - right)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAW: Draw<'static> = Draw { seed: 1, purpose: "test", task: 2, position: 3 };

    fn sorted(points: &[[f32; 2]], count: usize, draw: Draw<'_>) -> Vec<[f32; 2]> {
        let found = centres(points.as_flattened(), 2, count, draw).expect("points");
        let mut found: Vec<[f32; 2]> = found.chunks_exact(2).map(|it| [it[0], it[1]]).collect();
        found.sort_by(|left, right| left.partial_cmp(right).expect("numbers"));
        found
    }

    #[test]
    fn three_heaps_have_their_means_as_centres() {
        let heaps = [[0.0, 0.0], [10.0, 0.0], [0.0, 2.0], [10.0, 1.0], [5.0, 50.0], [2.0, 1.0], [10.0, 2.0]];
        let expected = [[2.0 / 3.0, 1.0], [5.0, 50.0], [10.0, 1.0]];
        for seed in 0..20 {
            assert_eq!(sorted(&heaps, 3, Draw { seed, ..DRAW }), expected, "seed {seed}");
        }
        let mean = sorted(&heaps, 1, DRAW)[0];
        assert!((mean[0] - 37.0 / 7.0).abs() < 1e-6 && (mean[1] - 8.0).abs() < 1e-6, "{mean:?}");
    }

    #[test]
    fn of_several_beginnings_the_tightest_counts() {
        // Two pairs of pairs: beginning with both centres in one half ends in a worse grouping that does not move.
        let points = [[0.0, 0.0], [0.0, 3.0], [8.0, 0.0], [8.0, 3.0]];
        for seed in 0..50 {
            assert_eq!(sorted(&points, 2, Draw { seed, ..DRAW }), [[0.0, 1.5], [8.0, 1.5]], "seed {seed}");
        }
    }

    #[test]
    fn a_draw_repeats_and_another_may_differ() {
        let mut stream = DRAW.stream("points");
        let points: Vec<[f32; 2]> = (0..200).map(|_| [stream.unit() as f32, stream.unit() as f32]).collect();
        let found = centres(points.as_flattened(), 2, 10, DRAW).expect("points");
        assert_eq!(found, centres(points.as_flattened(), 2, 10, DRAW).expect("points"));
        let other = Draw { position: 4, ..DRAW };
        assert_ne!(found, centres(points.as_flattened(), 2, 10, other).expect("points"));
    }

    #[test]
    fn fewer_points_than_centres_are_all_centres() {
        let found = sorted(&[[1.0, 2.0], [3.0, 4.0]], 5, DRAW);
        assert!(found.contains(&[1.0, 2.0]) && found.contains(&[3.0, 4.0]) && found.len() == 5, "{found:?}");
        assert!(found.iter().all(|it| [[1.0, 2.0], [3.0, 4.0]].contains(it)), "{found:?}");
        assert!(centres(&[], 2, 1, DRAW).is_err() && centres(&[1.0], 2, 1, DRAW).is_err());
    }
}
