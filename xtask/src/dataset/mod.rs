//! Data sets, in memory and on disk.
//!
//! Samples are kept in one canonical order, by fine label and then by the SHA-256 of the pixels, so that the same
//! images give the same files whichever source they came from. Nothing here downloads or decodes; see `source` and
//! `fetch`.

pub mod manifest;
pub mod samples;
pub mod spec;
pub mod verify;
pub mod write;

pub use manifest::{Manifest, SourceFile, SourceRecord, SplitRecord};
pub use samples::{Samples, Split};
pub use spec::{Archive, Form, Spec};

/// Channels of an image: red, green, blue.
pub const CHANNELS: usize = 3;

/// A data set read from some source, not yet in canonical order.
pub struct Collection {
    /// Names of the fine classes, by label.
    pub classes: Vec<String>,
    /// Training images.
    pub train: Samples,
    /// Test images.
    pub test: Samples,
    /// Their source.
    pub source: SourceRecord,
}

impl Collection {
    /// Refuses a collection that does not have the classes and counts of `spec`.
    pub fn check(&self, spec: &Spec) -> anyhow::Result<()> {
        if self.classes.len() != spec.classes {
            anyhow::bail!(
                "the source names {} classes, {} has {}",
                self.classes.len(),
                spec.name,
                spec.classes
            );
        }
        for split in Split::ALL {
            let per_class = self.samples(split).per_class(spec.classes)?;
            spec.check_counts(split, &per_class)?;
        }
        Ok(())
    }

    /// The samples of `split`.
    pub fn samples(&self, split: Split) -> &Samples {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }
}
