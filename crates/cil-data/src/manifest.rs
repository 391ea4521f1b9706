//! `manifest.json` of a data set's folder: the contract with whoever fetched it.
//!
//! This reads only what it needs and refuses any other layout version; `cargo xtask verify-data` checks the rest.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

const FORMAT: u32 = 1;
const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    format: u32,
    pub(crate) name: String,
    pub(crate) classes: Vec<String>,
    channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) splits: Splits,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Splits {
    pub(crate) train: Part,
    pub(crate) test: Part,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Part {
    pub(crate) count: usize,
    pub(crate) images: String,
    pub(crate) labels: String,
    pub(crate) content_sha256: String,
}

impl Manifest {
    /// The manifest of a folder that should hold the data set `name`.
    pub(crate) fn load(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join("manifest.json");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "{} is missing; run `cargo xtask fetch-data {name}`, or name another folder with --data-dir",
                path.display()
            ),
            Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
        };
        let mut text = String::new();
        let place = || format!("cannot read {}", path.display());
        file.take(MAX_BYTES + 1).read_to_string(&mut text).with_context(place)?;
        if text.len() as u64 > MAX_BYTES {
            bail!("{} is longer than {MAX_BYTES} bytes", path.display());
        }
        let manifest: Self =
            serde_json::from_str(&text).with_context(|| format!("{} is not a manifest", path.display()))?;
        manifest.check(name).with_context(|| format!("in {}", path.display()))?;
        Ok(manifest)
    }

    fn check(&self, name: &str) -> Result<()> {
        if self.format != FORMAT {
            bail!("format is {}, this program reads {FORMAT}", self.format);
        }
        if self.name != name {
            bail!("the data set is {:?}, {name:?} was asked for", self.name);
        }
        let sides = 1..=4096;
        if self.channels != 3 || !sides.contains(&self.height) || !sides.contains(&self.width) {
            bail!(
                "images are {}x{}x{}; use three channels and sides from 1 to 4096",
                self.channels,
                self.height,
                self.width
            );
        }
        if self.classes.is_empty() || self.classes.len() > usize::from(u16::MAX) {
            bail!("there are {} classes; use 1 to 65535", self.classes.len());
        }
        for (name, part) in [("train", &self.splits.train), ("test", &self.splits.test)] {
            // Images are numbered by 32 bits.
            if u32::try_from(part.count).is_err() {
                bail!("splits.{name}.count is {}; use at most {} images", part.count, u32::MAX);
            }
            for file in [&part.images, &part.labels] {
                if file.is_empty() || file.contains(['/', '\\', '\0']) || file.starts_with('.') {
                    bail!("{file:?} is not the name of a file in the same folder");
                }
            }
        }
        Ok(())
    }
}
