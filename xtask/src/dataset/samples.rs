//! Labelled images in memory, and their canonical order.
//!
//! Pixels lie in one buffer and are never moved; the canonical order is a list of indices. This module does not touch
//! the disk.

use anyhow::{Result, bail};
use sha2::{Digest, Sha256};

use super::CHANNELS;
use crate::digest::hex;

/// Part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Training images.
    Train,
    /// Test images.
    Test,
}

impl Split {
    /// Both, in the order in which they are written.
    pub const ALL: [Split; 2] = [Split::Train, Split::Test];

    /// The name in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Test => "test",
        }
    }
}

/// Images with their fine labels, in the order of the source.
pub struct Samples {
    image_bytes: usize,
    labels: Vec<u16>,
    pixels: Vec<u8>,
}

impl Samples {
    /// None yet, of square images of that side.
    pub fn of_side(side: usize) -> Self {
        Self { image_bytes: CHANNELS * side * side, labels: Vec::new(), pixels: Vec::new() }
    }

    /// Appends one image given as `[channel][row][column]`.
    pub fn push(&mut self, label: u16, pixels: &[u8]) -> Result<()> {
        if pixels.len() != self.image_bytes {
            bail!("an image has {} bytes, not {}", pixels.len(), self.image_bytes);
        }
        self.labels.push(label);
        self.pixels.extend_from_slice(pixels);
        Ok(())
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The label and pixels of image `index`.
    pub fn get(&self, index: usize) -> (u16, &[u8]) {
        (self.labels[index], &self.pixels[index * self.image_bytes..(index + 1) * self.image_bytes])
    }

    /// Number of images of each of `classes` classes; refuses a label beyond them.
    pub fn per_class(&self, classes: usize) -> Result<Vec<usize>> {
        let mut counts = vec![0; classes];
        for (index, &label) in self.labels.iter().enumerate() {
            match counts.get_mut(usize::from(label)) {
                Some(count) => *count += 1,
                None => bail!(
                    "image {index} has label {label}, the largest of {classes} classes is {}",
                    classes - 1
                ),
            }
        }
        Ok(counts)
    }

    /// Indices by fine label and then by the SHA-256 of the pixels.
    ///
    /// Equal keys are equal images, so their order among themselves cannot be seen.
    pub fn canonical_order(&self) -> Vec<usize> {
        let mut keys: Vec<(u16, [u8; 32], usize)> = (0..self.len())
            .map(|index| {
                let (label, pixels) = self.get(index);
                (label, Sha256::digest(pixels).into(), index)
            })
            .collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, _, index)| index).collect()
    }
}

/// The digest of a split: over each sample in canonical order, its label (two bytes, little endian) and pixels.
#[derive(Default)]
pub struct ContentDigest(Sha256);

impl ContentDigest {
    /// Adds the next sample.
    pub fn update(&mut self, label: u16, pixels: &[u8]) {
        self.0.update(label.to_le_bytes());
        self.0.update(pixels);
    }

    /// The digest in hexadecimal.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_by_label_then_pixels() {
        let mut samples = Samples::of_side(2);
        for (label, value) in [(1, 7u8), (0, 9), (1, 8), (0, 9)] {
            samples.push(label, &[value; CHANNELS * 4]).unwrap();
        }
        let order = samples.canonical_order();
        assert_eq!(&order[..2], &[1, 3]);
        let first = Sha256::digest([7u8; CHANNELS * 4]) < Sha256::digest([8u8; CHANNELS * 4]);
        assert_eq!(&order[2..], if first { &[0, 2] } else { &[2, 0] });
    }

    #[test]
    fn wrong_size_and_wrong_label_are_refused() {
        let mut samples = Samples::of_side(2);
        assert!(samples.push(0, &[0; 5]).is_err());
        samples.push(3, &[0; CHANNELS * 4]).unwrap();
        let message = samples.per_class(3).unwrap_err().to_string();
        assert_eq!(message, "image 0 has label 3, the largest of 3 classes is 2");
    }
}
