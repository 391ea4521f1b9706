//! Mean and deviation of each colour.

use serde::{Deserialize, Serialize};

use crate::known::{self, Constants};
use crate::store::Images;

/// Subtracted from and divided into pixels in `[0, 1]`, by colour channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Normalisation {
    /// Subtracted.
    pub mean: [f32; 3],
    /// Divided by afterwards.
    pub deviation: [f32; 3],
}

impl From<&Constants> for Normalisation {
    fn from(constants: &Constants) -> Self {
        Self { mean: constants.mean, deviation: constants.deviation }
    }
}

impl Normalisation {
    /// The constants by which a source normalises a known data set, such as `cifar100` by `lucir`; they are in
    /// `datasets/known.json`.
    pub fn published(dataset: &str, source: &str) -> Option<Self> {
        known::constants().find(|it| (it.0, it.1) == (dataset, source)).map(|it| it.2.into())
    }

    /// The known data sets that a source normalises so.
    pub fn datasets(&self) -> Vec<&'static str> {
        let mut found: Vec<_> =
            known::constants().filter(|it| *self == it.2.into()).map(|(dataset, ..)| dataset).collect();
        found.dedup();
        found
    }

    /// One half and one quarter: for images of unknown statistics.
    pub fn half() -> Self {
        Self { mean: [0.5; 3], deviation: [0.25; 3] }
    }

    /// Mean and deviation over all pixels of images in memory; a colour that never changes has the deviation of one
    /// byte's step.
    ///
    /// # Panics
    /// If the images lie in a file.
    pub fn measured(images: &Images) -> Self {
        let (height, width) = images.sides();
        let plane = (height * width).max(1);
        let mut sums = [(0u64, 0u64); 3];
        for at in 0..images.len() {
            for (sums, plane) in sums.iter_mut().zip(images.image(at).chunks_exact(plane)) {
                for byte in plane {
                    sums.0 += u64::from(*byte);
                    sums.1 += u64::from(*byte).pow(2);
                }
            }
        }
        let count = (images.len() * plane).max(1) as f64;
        let mean = sums.map(|(sum, _)| sum as f64 / count);
        let deviation: [f64; 3] = std::array::from_fn(|colour| {
            (sums[colour].1 as f64 / count - mean[colour].powi(2)).max(1.0).sqrt()
        });
        Self {
            mean: mean.map(|value| (value / 255.0) as f32),
            deviation: deviation.map(|value| (value / 255.0) as f32),
        }
    }

    /// Whether images can be normalised with it.
    ///
    /// # Errors
    /// Naming the value that cannot be.
    pub fn check(&self) -> anyhow::Result<()> {
        // Pixels are from 0 to 1, so a mean is too and a deviation is at most 0.5; there is room for other uses.
        if let Some(value) = self.mean.iter().find(|value| !(-100.0..=100.0).contains(*value)) {
            anyhow::bail!("mean holds {value:?}; use a value from -100 to 100");
        }
        if let Some(value) = self.deviation.iter().find(|value| !(0.001..=1000.0).contains(*value)) {
            anyhow::bail!("deviation holds {value:?}; use a value from 0.001 to 1000");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_constants_are_found_by_data_set_and_source_and_back() {
        let lucir = Normalisation::published("cifar100", "lucir").unwrap();
        assert_eq!((lucir.mean[1], lucir.datasets()), (0.4866, vec!["cifar100"]));
        assert_eq!(Normalisation::published("cifar100", "usual"), None);
        assert!(Normalisation::half().datasets().is_empty());
        for (_, source, constants) in known::constants() {
            Normalisation::from(constants).check().expect(source);
        }
    }
}
