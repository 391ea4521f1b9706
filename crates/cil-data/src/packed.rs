//! Pictures of any shape in one file, read one at a time: data sets beyond memory.
//!
//! A picture is read by its place (`pread`), not mapped, so a file that is cut off while it is used is an error and no
//! signal, and no `unsafe` is needed; what was read lately is in the system's page cache all the same. A file appears
//! under its name only when it is whole.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::dataset::hex;
use crate::picture::Picture;

/// Version of the layout.
const FORMAT: u32 = 1;
/// Bytes of an index, at most.
const MOST_BYTES: u64 = 1 << 30;

/// The index of a file of pictures, in a file beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Index {
    format: u32,
    /// Its key.
    key: String,
    /// Label, height and width of each picture, in their order.
    entries: Vec<(u16, u32, u32)>,
    /// Files that are not in it, and why.
    pub(crate) broken: Vec<(PathBuf, String)>,
    /// SHA-256 over each picture's label, height, width and pixels.
    pub(crate) digest: String,
}

/// A file of pictures, open.
#[derive(Debug)]
pub(crate) struct Packed {
    path: PathBuf,
    file: File,
    index: Index,
    /// Where each picture begins, and the end.
    starts: Vec<u64>,
}

impl Packed {
    /// Opens the file `path` if it is whole and was made of `key`; else there is none.
    pub(crate) fn open(path: &Path, key: &str) -> Option<Self> {
        let beside = index_path(path);
        let length = fs::metadata(&beside).ok()?.len();
        if length > MOST_BYTES {
            return None;
        }
        let index: Index = serde_json::from_slice(&fs::read(&beside).ok()?).ok()?;
        if index.format != FORMAT || index.key != key {
            return None;
        }
        let mut starts = vec![0u64];
        for (_, height, width) in &index.entries {
            let bytes = u64::from(*height).checked_mul(u64::from(*width))?.checked_mul(3)?;
            starts.push(starts.last()?.checked_add(bytes)?);
        }
        let file = File::open(path).ok()?;
        let whole = file.metadata().ok()?.len() == *starts.last()?;
        whole.then(|| Self { path: path.to_owned(), file, index, starts })
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Labels of the pictures.
    pub(crate) fn labels(&self) -> Vec<u16> {
        self.index.entries.iter().map(|(label, _, _)| *label).collect()
    }

    /// One picture.
    pub(crate) fn read(&self, at: usize) -> Result<Picture> {
        let (_, height, width) = self.index.entries[at];
        let mut pixels = vec![0; (self.starts[at + 1] - self.starts[at]) as usize];
        self.file
            .read_exact_at(&mut pixels, self.starts[at])
            .with_context(|| format!("cannot read picture {at} of {}", self.path.display()))?;
        Ok(Picture { height: height as usize, width: width as usize, pixels })
    }
}

/// A file of pictures that is being written.
pub(crate) struct Packing {
    path: PathBuf,
    partial: PathBuf,
    file: BufWriter<File>,
    digest: Sha256,
    index: Index,
}

impl Packing {
    /// Begins the file `path`, to be made of `key`.
    pub(crate) fn begin(path: &Path, key: &str) -> Result<Self> {
        // Two processes may make the same one at a time; each has its own until it is whole.
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        let file = File::create(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
        let index = Index {
            format: FORMAT,
            key: key.to_owned(),
            entries: Vec::new(),
            broken: Vec::new(),
            digest: String::new(),
        };
        Ok(Self { path: path.to_owned(), partial, file: BufWriter::new(file), digest: Sha256::new(), index })
    }

    /// Appends a picture.
    pub(crate) fn push(&mut self, label: u16, picture: &Picture) -> Result<()> {
        let (height, width) = (u32::try_from(picture.height)?, u32::try_from(picture.width)?);
        self.digest.update(label.to_le_bytes());
        self.digest.update(height.to_le_bytes());
        self.digest.update(width.to_le_bytes());
        self.digest.update(&picture.pixels);
        self.index.entries.push((label, height, width));
        self.file.write_all(&picture.pixels).with_context(|| self.place())
    }

    /// Notes a file that is left out.
    pub(crate) fn left_out(&mut self, path: PathBuf, why: String) {
        self.index.broken.push((path, why));
    }

    /// Makes it whole and opens it.
    pub(crate) fn end(mut self) -> Result<Packed> {
        let place = self.place();
        self.index.digest = hex(&self.digest.finalize());
        self.file.flush().with_context(|| place.clone())?;
        self.file.get_ref().sync_all().with_context(|| place.clone())?;
        let beside = index_path(&self.path);
        // The index goes first and comes last: one without the other is none.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).context(place),
            _ => {}
        }
        fs::rename(&self.partial, &self.path).with_context(|| place.clone())?;
        let partial = index_path(&self.partial);
        fs::write(&partial, serde_json::to_vec(&self.index)?).with_context(|| place.clone())?;
        fs::rename(&partial, &beside).with_context(|| place.clone())?;
        match Packed::open(&self.path, &self.index.key) {
            Some(packed) => Ok(packed),
            None => bail!("{} changed while it was written", self.path.display()),
        }
    }

    /// Leaves nothing behind.
    pub(crate) fn give_up(self) {
        // What cannot be removed is written over by the next one.
        let _ = fs::remove_file(&self.partial);
    }

    fn place(&self) -> String {
        format!("cannot write {}; it needs as much room as the decoded pictures", self.partial.display())
    }
}

fn index_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".json");
    PathBuf::from(name)
}
