//! Mean and deviation of each colour.

use serde::{Deserialize, Serialize};

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

impl Normalisation {
    /// LUCIR's constants for CIFAR-100 (its deviations are means of per-image deviations).
    pub fn cifar100_lucir() -> Self {
        Self { mean: [0.5071, 0.4866, 0.4409], deviation: [0.2009, 0.1984, 0.2023] }
    }

    /// PODNet's constants for CIFAR-100: mean and deviation over all pixels.
    pub fn cifar100_podnet() -> Self {
        Self { mean: [0.5071, 0.4867, 0.4408], deviation: [0.2675, 0.2565, 0.2761] }
    }

    /// CIFAR-10: mean and deviation over all pixels of its training images, as widely used.
    pub fn cifar10() -> Self {
        Self { mean: [0.4914, 0.4822, 0.4465], deviation: [0.2470, 0.2435, 0.2616] }
    }

    /// The constants that everyone uses for ImageNet.
    pub fn imagenet() -> Self {
        Self { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] }
    }

    /// The constants that are widely used for Tiny-ImageNet: mean and deviation over all pixels.
    pub fn tiny_imagenet() -> Self {
        Self { mean: [0.4802, 0.4481, 0.3975], deviation: [0.2770, 0.2691, 0.2821] }
    }

    /// ABD's constants for CIFAR-100: mean and deviation over all pixels, in full.
    pub fn cifar100_abd() -> Self {
        Self {
            mean: [0.507_075_2, 0.486_548_87, 0.440_917_84],
            deviation: [0.267_334_3, 0.256_438_46, 0.276_150_47],
        }
    }

    /// iCaRL's for CIFAR-100: a mean is subtracted (of each pixel there, of each colour here), and nothing is divided
    /// by.
    pub fn cifar100_icarl() -> Self {
        Self { deviation: [1.0; 3], ..Self::cifar100_abd() }
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
