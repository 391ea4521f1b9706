//! `SHA256SUMS`: the digest of each file of a run folder.
//!
//! The file has the format of `sha256sum -c SHA256SUMS`, so that anybody can check a folder without this program. While
//! a file is replaced, both digests are listed, so that a power cut in between damages nothing. The event log of a run
//! in progress is not in it: its lines check each other.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};

use super::files::write_atomic;
use crate::folder::environment::hexadecimal;

/// The file's name.
pub const SUMS: &str = "SHA256SUMS";
/// Stands between a digest and a name: a file that is read as it is.
const BETWEEN: &str = "  ";

/// Digests by the name of their file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums(BTreeMap<String, Vec<String>>);

impl Sums {
    /// Those of a run folder; `None` in one of before there were any.
    ///
    /// # Errors
    /// If the file cannot be read, or a line of it is not in its form.
    pub fn load(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(SUMS);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let text = String::from_utf8(bytes).ok();
        let read = text.as_deref().and_then(|text| Some((Self::parse(text)?, text)));
        match read {
            Some((sums, text)) if sums.text() == text => Ok(Some(sums)),
            _ => bail!("{} is not what the run wrote: it has another form", path.display()),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut sums = Self::default();
        for line in text.lines() {
            let (digest, name) = line.split_once(BETWEEN)?;
            let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            if digest.len() != 64 || !digest.bytes().all(is_digit) || name.is_empty() || name.contains('/') {
                return None;
            }
            sums.0.entry(name.to_owned()).or_default().push(digest.to_owned());
        }
        Some(sums)
    }

    fn text(&self) -> String {
        let lines = self.0.iter().flat_map(|(name, digests)| digests.iter().map(move |it| (it, name)));
        lines.map(|(digest, name)| format!("{digest}{BETWEEN}{name}\n")).collect()
    }

    /// Writes them into a run folder.
    ///
    /// # Errors
    /// Naming the file.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_atomic(&folder.join(SUMS), self.text().as_bytes())
    }

    /// Names of files that have a digest.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether a file of that name has this content; `None` if it has no digest.
    pub fn is_of(&self, name: &str, content: &[u8]) -> Option<bool> {
        let digest = digest(content);
        Some(self.0.get(name)?.contains(&digest))
    }

    /// Sets the one digest of a file.
    pub fn set(&mut self, name: &str, content: &[u8]) {
        self.0.insert(name.to_owned(), vec![digest(content)]);
    }

    /// Takes a file out.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Writes a file of `folder`, and its digest.
    ///
    /// # Errors
    /// Naming the file that cannot be written.
    pub fn write_file(&mut self, folder: &Path, name: &str, content: &[u8]) -> Result<()> {
        let path = folder.join(name);
        if let Some(before) = self.0.get_mut(name) {
            let new = digest(content);
            if !before.contains(&new) {
                before.push(new);
                before.sort();
                self.write(folder)?;
            }
        }
        write_atomic(&path, content)?;
        self.set(name, content);
        self.write(folder)
    }
}

fn digest(content: &[u8]) -> String {
    hexadecimal(&Sha256::digest(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_counts_and_the_form_is_that_of_sha256sum() {
        let place = tempfile::tempdir().unwrap();
        let mut sums = Sums::default();
        sums.write_file(place.path(), "a.txt", b"a").unwrap();
        sums.write_file(place.path(), "b.txt", b"").unwrap();
        sums.write_file(place.path(), "a.txt", b"other").unwrap();
        assert_eq!(Sums::load(place.path()).unwrap().as_ref(), Some(&sums));
        assert_eq!(sums.is_of("a.txt", b"other"), Some(true));
        assert_eq!((sums.is_of("a.txt", b"a"), sums.is_of("c.txt", b"")), (Some(false), None));
        let bytes = fs::read(place.path().join(SUMS)).unwrap();
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(place.path().join(SUMS), flipped).unwrap();
            let read = Sums::load(place.path());
            let holds = |it: &Sums| {
                [("a.txt", &b"other"[..]), ("b.txt", b"")]
                    .iter()
                    .all(|it2| it.is_of(it2.0, it2.1) == Some(true))
            };
            assert!(!read.is_ok_and(|it| it.as_ref().is_some_and(holds)), "bit {bit} is of no consequence");
        }
        fs::write(place.path().join(SUMS), bytes).unwrap();
        let checked = std::process::Command::new("sha256sum")
            .args(["--check", "--strict", "--quiet", SUMS])
            .current_dir(place.path())
            .status();
        match checked {
            Ok(status) => assert!(status.success()),
            Err(_) => eprintln!("skipped: sha256sum reads the file; it is not here"),
        }
    }
}
