//! Tells the program its own version: the commit it was built from and the candle it was built with.
//!
//! A fact that cannot be found out is `unknown`, and never fails the build.

use std::path::Path;
use std::process::Command;

fn main() {
    let root = Path::new("../..");
    // In a linked working tree `.git` is a file that says where these are.
    let of_git = ["HEAD", "logs/HEAD"].map(|file| git(root, &["rev-parse", "--git-path", file]));
    let watched = ["crates", "Cargo.lock"].map(|file| Some(file.to_owned()));
    for path in watched.into_iter().chain(of_git).flatten().map(|path| root.join(path)) {
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    println!("cargo::rustc-env=CIL_CODE_VERSION={}", code_version(root).unwrap_or("unknown".to_owned()));
    println!("cargo::rustc-env=CIL_CANDLE_VERSION={}", candle_version(root).unwrap_or("unknown".to_owned()));
}

/// Tag or commit, with `-dirty` if tracked files differ from it.
fn code_version(root: &Path) -> Option<String> {
    git(root, &["describe", "--always", "--tags", "--dirty", "--abbrev=12"])
}

/// The output of git, unless it fails or is empty.
fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(root).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// The locked version.
fn candle_version(root: &Path) -> Option<String> {
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).ok()?;
    let after = lock.split("name = \"candle-core\"").nth(1)?;
    Some(after.split("version = \"").nth(1)?.split('"').next()?.to_owned())
}
