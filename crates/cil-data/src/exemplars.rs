//! Real images that are kept between tasks.
//!
//! An exemplar set is a ranking per class, made once when the class is learned; a smaller budget keeps its beginning
//! (iCaRL, Rebuffi et al. 2017, algorithms 4 and 5).

use serde::{Deserialize, Serialize};

use crate::store::{SampleId, TrainSet};

/// How many images are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// That many of every class.
    PerClass(usize),
    /// That many in all, shared evenly among the classes seen.
    Total(usize),
}

impl Budget {
    /// Images of each class when `classes` are seen.
    pub fn per_class(self, classes: usize) -> usize {
        match self {
            Self::PerClass(count) => count,
            Self::Total(count) => count / classes.max(1),
        }
    }

    /// Whether nothing is ever kept.
    pub fn is_none(self) -> bool {
        matches!(self, Self::PerClass(0) | Self::Total(0))
    }
}

/// Kept images by class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Exemplars {
    by_class: Vec<Vec<SampleId>>,
}

impl Exemplars {
    /// Keeps `ranked` images of a class, the most typical first, in place of any before.
    pub fn remember(&mut self, class: usize, ranked: Vec<SampleId>) {
        if self.by_class.len() <= class {
            self.by_class.resize(class + 1, Vec::new());
        }
        self.by_class[class] = ranked;
    }

    /// Keeps of every class what the budget allows when `classes` are seen.
    pub fn trim(&mut self, budget: Budget, classes: usize) {
        let count = budget.per_class(classes);
        self.by_class.iter_mut().for_each(|ranked| ranked.truncate(count));
    }

    /// The images kept of a class, the most typical first.
    pub fn of(&self, class: usize) -> &[SampleId] {
        self.by_class.get(class).map_or(&[], Vec::as_slice)
    }

    /// Whether every image kept is one of `train`'s, of the class that it is kept for.
    pub fn are_of(&self, train: &TrainSet) -> bool {
        let of_class = |(class, kept): (usize, &Vec<SampleId>)| kept.iter().all(|it| train.has(*it, class));
        self.by_class.iter().enumerate().all(of_class)
    }

    /// All images kept.
    pub fn all(&self) -> Vec<SampleId> {
        self.by_class.concat()
    }

    /// Number of images kept.
    pub fn len(&self) -> usize {
        self.by_class.iter().map(Vec::len).sum()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that they take, at `image_bytes` each.
    pub fn bytes(&self, image_bytes: usize) -> usize {
        self.len() * image_bytes
    }
}

/// The first `count` rows of iCaRL's ranking: each brings the mean of the chosen directions as near as it can to the
/// mean of all (algorithm 4). Ties go to the lower index; a row is chosen once. (The code published with LUCIR and
/// PODNet may come to a row a second time and then counts it twice.)
///
/// `features`: rows of `width` values; they are normalised to length 1 here.
pub fn herd(features: &[f32], width: usize, count: usize) -> Vec<usize> {
    let directions: Vec<Vec<f64>> = features.chunks_exact(width.max(1)).map(direction).collect();
    let n_rows = directions.len();
    let mut mean = vec![0.0; width];
    for row in &directions {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += value / n_rows as f64);
    }
    let (mut chosen, mut sum) = (Vec::new(), vec![0.0; width]);
    let mut taken = vec![false; n_rows];
    while chosen.len() < count.min(n_rows) {
        let size = (chosen.len() + 1) as f64;
        let distance = |row: usize| -> f64 {
            let terms = mean.iter().zip(&sum).zip(&directions[row]);
            terms.map(|((mean, sum), value)| (mean - (sum + value) / size).powi(2)).sum()
        };
        let mut best: Option<(usize, f64)> = None;
        for row in (0..n_rows).filter(|row| !taken[*row]) {
            let distance = distance(row);
            if best.is_none_or(|(_, least)| distance < least) {
                best = Some((row, distance));
            }
        }
        let Some((row, _)) = best else { break };
        taken[row] = true;
        sum.iter_mut().zip(&directions[row]).for_each(|(sum, value)| *sum += value);
        chosen.push(row);
    }
    chosen
}

fn direction(row: &[f32]) -> Vec<f64> {
    let length = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt().max(1e-12);
    row.iter().map(|value| f64::from(*value) / length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn herding_follows_the_mean() {
        // Directions at 0, 30, 60 and 90 degrees have their mean at 45: 30 is nearest (60 as near, but later); then the
        // pair 30 and 60; then 0 or 90 are alike.
        let degrees = [0f32, 30., 60., 90.];
        let features: Vec<f32> = degrees
            .iter()
            .zip([1f32, 2., 3., 4.])
            .flat_map(|(angle, length)| {
                [length * angle.to_radians().cos(), length * angle.to_radians().sin()]
            })
            .collect();
        assert_eq!(herd(&features, 2, 2), [1, 2]);
        assert_eq!(herd(&features, 2, 9).len(), 4);
        assert_eq!(herd(&features, 2, 0), Vec::<usize>::new());
        assert_eq!(herd(&[0.0, 0.0, 0.0, 0.0], 2, 2), [0, 1]);
    }

    #[test]
    fn a_smaller_budget_keeps_the_beginning() {
        let ids = |range: std::ops::Range<u32>| range.map(SampleId::new).collect::<Vec<_>>();
        let mut exemplars = Exemplars::default();
        exemplars.remember(1, ids(10..14));
        exemplars.remember(0, ids(0..3));
        assert_eq!((exemplars.len(), exemplars.bytes(10)), (7, 70));
        exemplars.trim(Budget::Total(4), 2);
        assert_eq!(exemplars.all(), [ids(0..2), ids(10..12)].concat());
        exemplars.trim(Budget::PerClass(1), 9);
        assert_eq!(
            (exemplars.of(0), exemplars.of(1), exemplars.of(7)),
            (&ids(0..1)[..], &ids(10..11)[..], &[][..])
        );
        assert_eq!(Budget::Total(2000).per_class(100), 20);
        assert!(Budget::PerClass(0).is_none() && !Budget::Total(1).is_none());
    }
}
