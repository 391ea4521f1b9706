//! Writing files.
//!
//! A file of the program's own is written under a temporary name, synced and renamed, so that nothing half-written ever
//! has a final name. A file that the user names is treated with care: a link stays a link, and anything but a regular
//! file (a pipe, a device) is written to directly.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The ending of a file that is being written.
const HALF: &str = "tmp";
/// Links that are followed at most, as systems do.
const LINKS: usize = 40;

/// Writes `content` so that `path` holds all of it or what it held before.
///
/// # Errors
/// Naming the file; what it held it holds.
pub fn write_atomic(path: &Path, content: &[u8]) -> Result<()> {
    let mut name = path.file_name().with_context(|| format!("{} is no file", path.display()))?.to_owned();
    name.push(".");
    name.push(HALF);
    let temporary = path.with_file_name(name);
    let written = File::create(&temporary)
        .and_then(|mut file| {
            if let Ok(old) = fs::metadata(path) {
                file.set_permissions(old.permissions())?;
            }
            file.write_all(content).and_then(|()| file.sync_all())
        })
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_folder(path));
    if written.is_err() {
        // Best effort: the failure to write is what is reported.
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(|| cannot_write(path))
}

/// Writes `content` to a file that a user named: through links, and into a pipe or a device as it is. A regular file
/// holds all of it or what it held before, unless it has several names (hard links), which stay names of one file.
///
/// # Errors
/// Naming the file.
pub fn export(path: &Path, content: &[u8]) -> Result<()> {
    let place = || cannot_write(path);
    let file = followed(path).with_context(place)?;
    match file {
        Target::StandardOutput => {
            let mut out = io::stdout();
            out.write_all(content).and_then(|()| out.flush()).with_context(place)
        }
        Target::Open(path) => {
            let file = OpenOptions::new().append(true).open(path);
            file.and_then(|mut file| file.write_all(content)).with_context(place)
        }
        Target::File(target) => match fs::metadata(&target) {
            Ok(it) if !it.is_file() || names(&it) > 1 => {
                let file = OpenOptions::new().write(true).truncate(it.is_file()).open(&target);
                file.and_then(|mut file| file.write_all(content)).with_context(place)
            }
            _ => write_atomic(&target, content),
        },
    }
}

/// The target of a path that a user typed.
enum Target {
    /// A file in a folder, whether it is there or not.
    File(PathBuf),
    /// A file that this process has open under a number (`/dev/fd/3`): not to be replaced, since others write there
    /// too.
    Open(PathBuf),
    /// `/dev/stdout`: what is printed goes there too, in order.
    StandardOutput,
}

/// Follows links to the file that is to be written, which need not be there.
fn followed(path: &Path) -> io::Result<Target> {
    let mut at = path.to_owned();
    for _ in 0..LINKS {
        if let Some(number) = open_number(&at) {
            return Ok(if number == "1" { Target::StandardOutput } else { Target::Open(at) });
        }
        match fs::read_link(&at) {
            // A link is seen from its folder.
            Ok(to) => at = at.parent().unwrap_or(Path::new("")).join(to),
            Err(_) => return Ok(Target::File(at)),
        }
    }
    Err(io::Error::other("there are too many links"))
}

/// The number of a path that stands for an open file of this process.
fn open_number(path: &Path) -> Option<String> {
    let folder = path.parent()?.canonicalize().ok()?;
    let own = Path::new("/proc/self").canonicalize().ok().map(|it| it.join("fd"));
    let is_it = folder == Path::new("/dev/fd") || own.is_some_and(|own| own == folder);
    let number = path.file_name()?.to_str()?;
    (is_it && number.bytes().all(|it| it.is_ascii_digit())).then(|| number.to_owned())
}

/// Names that a file has.
#[cfg(unix)]
fn names(file: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(file)
}

/// Number of names (hard links) of a file, where the system does not report it.
#[cfg(not(unix))]
fn names(_: &fs::Metadata) -> u64 {
    1
}

/// Removes files that a process was writing when it ended.
///
/// # Errors
/// Naming the file that cannot be removed.
pub(super) fn remove_halves(folder: &Path) -> Result<()> {
    let place = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(place)? {
        let path = entry.with_context(place)?.path();
        if is_half(&path) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Whether a file was being written when its process ended.
pub(super) fn is_half(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == HALF)
}

/// Makes a new name in a folder last through a power cut, where the system lets a folder be synced.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if cfg!(unix) => {
            let here = folder.as_os_str().is_empty();
            File::open(if here { Path::new(".") } else { folder })?.sync_all()
        }
        _ => Ok(()),
    }
}

pub(super) fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

pub(super) fn remove_best_effort(folder: &Path) {
    // Best effort: the failure that led here is what is reported.
    let _ = fs::remove_dir_all(folder);
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn links_stay_links_and_their_targets_are_written() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("folder/old.csv"), "old").unwrap();
        fs::set_permissions(at("folder/old.csv"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("folder/old.csv", at("link.csv")).unwrap();
        symlink("link.csv", at("link of a link.csv")).unwrap();
        symlink("folder/new.csv", at("dangling.csv")).unwrap();
        for (link, target) in [
            ("link.csv", "folder/old.csv"),
            ("link of a link.csv", "folder/old.csv"),
            ("dangling.csv", "folder/new.csv"),
        ] {
            export(&at(link), link.as_bytes()).unwrap();
            assert!(at(link).symlink_metadata().unwrap().is_symlink(), "{link}");
            assert_eq!(fs::read_to_string(at(target)).unwrap(), link);
        }
        assert_eq!(fs::metadata(at("folder/old.csv")).unwrap().permissions().mode() & 0o777, 0o640);
        symlink("round.csv", at("round.csv")).unwrap();
        assert!(export(&at("round.csv"), b"a").is_err());
        // A second name of a file stays one.
        fs::hard_link(at("folder/new.csv"), at("second.csv")).unwrap();
        export(&at("second.csv"), b"both").unwrap();
        assert_eq!(fs::read_to_string(at("folder/new.csv")).unwrap(), "both");
    }

    #[test]
    fn a_pipe_is_written_to_and_stays_a_pipe() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let own = path.clone();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            File::open(own).unwrap().read_to_string(&mut text).unwrap();
            text
        });
        export(&path, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        assert!(!fs::metadata(&path).unwrap().is_file());
        export(Path::new("/dev/null"), b"nothing").unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }
}
