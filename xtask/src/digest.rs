//! Digests as lower-case hexadecimal, and writers that are digested on the way.
//!
//! Callers compare strings, never bytes, since every published digest is printed in hexadecimal. It contains no
//! expected digest.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result};
use md5::Md5;
use sha2::{Digest, Sha256};

/// `bytes` as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file's length and both of its digests, computed in one pass.
pub(crate) struct FileDigest {
    pub(crate) bytes: u64,
    pub(crate) md5: String,
    pub(crate) sha256: String,
}

/// Reads the whole of `path` once.
pub(crate) fn digest_file(path: &Path) -> Result<FileDigest> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let (mut md5, mut sha256, mut bytes) = (Md5::new(), Sha256::new(), 0u64);
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                md5.update(&buffer[..read]);
                sha256.update(&buffer[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
    Ok(FileDigest { bytes, md5: hex(&md5.finalize()), sha256: hex(&sha256.finalize()) })
}
