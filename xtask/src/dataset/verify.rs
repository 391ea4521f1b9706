//! Recomputing everything that a manifest says of its folder.
//!
//! The files are streamed, so checking needs the memory of one image. Checking changes nothing on disk.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::samples::ContentDigest;
use super::{CHANNELS, Manifest, Spec, Split};

/// The content of one split.
pub struct SplitReport {
    /// Which split.
    pub split: Split,
    /// Number of images.
    pub count: usize,
    /// Recomputed digest of labels and pixels.
    pub content_sha256: String,
    /// Mean of each channel, of pixels in 0..=1.
    pub mean: [f64; CHANNELS],
    /// Standard deviation of each channel.
    pub deviation: [f64; CHANNELS],
}

/// Checks `folder` against its manifest and against `spec`.
pub fn verify(folder: &Path, spec: &Spec) -> Result<Vec<SplitReport>> {
    let manifest = Manifest::load(folder)?;
    if manifest.name != spec.name {
        bail!("{} holds the data set {:?}, not {:?}", folder.display(), manifest.name, spec.name);
    }
    if (manifest.height, manifest.width) != (spec.side, spec.side) {
        bail!(
            "the manifest in {} has images of {}x{}, {} has {side}x{side}",
            folder.display(),
            manifest.height,
            manifest.width,
            spec.name,
            side = spec.side
        );
    }
    let spec = &spec.part(manifest.classes.len());
    if manifest.classes.len() != spec.classes {
        bail!(
            "the manifest in {} names {} classes, {} has {}",
            folder.display(),
            manifest.classes.len(),
            spec.name,
            spec.classes
        );
    }
    Split::ALL.into_iter().map(|split| verify_split(folder, &manifest, spec, split)).collect()
}

fn verify_split(folder: &Path, manifest: &Manifest, spec: &Spec, split: Split) -> Result<SplitReport> {
    let record = manifest.split(split);
    if record.count != spec.count(split) {
        bail!(
            "the manifest in {} counts {} {} images, {} has {}",
            folder.display(),
            record.count,
            split.name(),
            spec.name,
            spec.count(split)
        );
    }
    let image_bytes = CHANNELS * spec.side * spec.side;
    let (images_path, labels_path) = (folder.join(&record.images), folder.join(&record.labels));
    let mut images = open_of_length(&images_path, (record.count * image_bytes) as u64)?;
    let mut labels = open_of_length(&labels_path, (record.count * 2) as u64)?;

    let mut content = ContentDigest::default();
    let mut per_class = vec![0; spec.classes];
    let (mut sums, mut squares) = ([0u64; CHANNELS], [0u64; CHANNELS]);
    let mut previous: Option<(u16, [u8; 32])> = None;
    let mut out_of_order = None;
    let (mut label, mut pixels) = ([0u8; 2], vec![0u8; image_bytes]);
    for index in 0..record.count {
        images.read_exact(&mut pixels).with_context(|| format!("cannot read {}", images_path.display()))?;
        labels.read_exact(&mut label).with_context(|| format!("cannot read {}", labels_path.display()))?;
        let label = u16::from_le_bytes(label);
        match per_class.get_mut(usize::from(label)) {
            Some(count) => *count += 1,
            None => bail!(
                "image {index} of {} has label {label}, the largest is {}",
                labels_path.display(),
                spec.classes - 1
            ),
        }
        let key = (label, Sha256::digest(&pixels).into());
        if previous.is_some_and(|previous| previous > key) && out_of_order.is_none() {
            out_of_order = Some(index);
        }
        previous = Some(key);
        content.update(label, &pixels);
        for (channel, plane) in pixels.chunks_exact(image_bytes / CHANNELS).enumerate() {
            sums[channel] += plane.iter().map(|&pixel| u64::from(pixel)).sum::<u64>();
            squares[channel] += plane.iter().map(|&pixel| u64::from(pixel).pow(2)).sum::<u64>();
        }
    }
    let content_sha256 = content.finish();
    if content_sha256 != record.content_sha256 {
        bail!(
            "{} and {} have the digest {content_sha256}, the manifest says {}",
            images_path.display(),
            labels_path.display(),
            record.content_sha256
        );
    }
    spec.check_counts(split, &per_class).with_context(|| format!("in {}", labels_path.display()))?;
    spec.check_content(split, &content_sha256).with_context(|| format!("in {}", images_path.display()))?;
    if let Some(index) = out_of_order {
        bail!("image {index} of {} is out of canonical order", images_path.display());
    }
    let pixels_per_channel = (record.count * image_bytes / CHANNELS) as f64;
    let mean = sums.map(|sum| sum as f64 / pixels_per_channel / 255.0);
    let mut deviation = squares.map(|sum| sum as f64 / pixels_per_channel / (255.0 * 255.0));
    for (value, mean) in deviation.iter_mut().zip(mean) {
        *value = (*value - mean * mean).max(0.0).sqrt();
    }
    Ok(SplitReport { split, count: record.count, content_sha256, mean, deviation })
}

fn open_of_length(path: &Path, wanted: u64) -> Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let length = file.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
    if length != wanted {
        bail!("{} has {length} bytes, not {wanted}", path.display());
    }
    Ok(BufReader::with_capacity(1 << 16, file))
}
