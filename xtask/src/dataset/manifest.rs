//! `manifest.json`, the contract between fetching and training.
//!
//! A manifest is refused unless every field is understood, so a reader never guesses. The manifest holds no path
//! outside its own folder.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::{CHANNELS, Split};

/// The file's name in a data set's folder.
pub const FILE: &str = "manifest.json";
/// The version of the layout that this program writes and reads.
pub const FORMAT: u32 = 1;
const MAX_BYTES: u64 = 1 << 20;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the layout.
    pub format: u32,
    /// Name of the data set.
    pub name: String,
    /// Names of the fine classes, by label.
    pub classes: Vec<String>,
    /// Channels of an image.
    pub channels: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// The two splits.
    pub splits: Splits,
    /// The source of the data set.
    pub source: SourceRecord,
}

/// The two splits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Splits {
    /// Training images.
    pub train: SplitRecord,
    /// Test images.
    pub test: SplitRecord,
}

/// One split's files and digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitRecord {
    /// Number of images.
    pub count: usize,
    /// File with the pixels.
    pub images: String,
    /// File with the labels.
    pub labels: String,
    /// See [`ContentDigest`](super::samples::ContentDigest).
    pub content_sha256: String,
}

/// The source of a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRecord {
    /// `parquet`, `binary` or `python`.
    pub kind: String,
    /// The files that were read.
    pub files: Vec<SourceFile>,
}

/// One file that was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// Its name, without folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// The record of `split`.
    pub fn split(&self, split: Split) -> &SplitRecord {
        match split {
            Split::Train => &self.splits.train,
            Split::Test => &self.splits.test,
        }
    }

    /// Loads the manifest of `folder` and checks that this program understands it.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut text = String::new();
        file.take(MAX_BYTES + 1)
            .read_to_string(&mut text)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if text.len() as u64 > MAX_BYTES {
            bail!("{} is longer than {MAX_BYTES} bytes", path.display());
        }
        let manifest: Self =
            serde_json::from_str(&text).with_context(|| format!("{} is not a manifest", path.display()))?;
        manifest.check().with_context(|| format!("in {}", path.display()))?;
        Ok(manifest)
    }

    fn check(&self) -> Result<()> {
        if self.format != FORMAT {
            bail!("format is {}, this program reads {FORMAT}", self.format);
        }
        let sides = 1..=4096;
        if self.channels != CHANNELS || !sides.contains(&self.height) || !sides.contains(&self.width) {
            bail!(
                "images are {}x{}x{}; use {CHANNELS} channels and sides from 1 to 4096",
                self.channels,
                self.height,
                self.width
            );
        }
        for split in Split::ALL {
            let record = self.split(split);
            for (file, suffix) in [(&record.images, "images"), (&record.labels, "labels")] {
                let wanted = format!("{}.{suffix}", split.name());
                if *file != wanted {
                    bail!("{} has the file {file:?}, not {wanted:?}", split.name());
                }
            }
        }
        Ok(())
    }
}
