//! `fetch-data` and `verify-data`.
//!
//! Everything unfinished lives in `<data dir>/.fetch`, under a lock, and a data set appears under its own name by one
//! rename after it has been verified.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::Client;
use crate::dataset::verify::SplitReport;
use crate::dataset::{Collection, Manifest, Spec, verify, write};
use crate::digest::digest_file;
use crate::source::{self, HubOptions};

/// Where the official archives lie.
pub const OFFICIAL_URL: &str = "https://www.cs.toronto.edu/~kriz/";

const WORK_FOLDER: &str = ".fetch";

/// Where a data set is taken from.
pub enum Origin {
    /// A folder on disk.
    Folder(PathBuf),
    /// The official archives below `base_url`.
    Official {
        /// The archives' folder on the server.
        base_url: String,
        /// Asks for them.
        client: Client,
    },
    /// The hub's shards.
    Hub {
        /// The hub's address; without one, `HF_ENDPOINT` or the client's own default.
        endpoint: Option<String>,
        /// The hub's cache; without one, `HF_HUB_CACHE`, `HF_HOME/hub`, or a folder of our own.
        cache: Option<PathBuf>,
    },
}

/// The arguments of `fetch-data`.
pub struct Request {
    /// Where data sets live.
    pub data_dir: PathBuf,
    /// Where this one is taken from.
    pub origin: Origin,
    /// Open no connection.
    pub offline: bool,
    /// Replace a data set that is there.
    pub force: bool,
}

/// Fetches `spec` unless it is there.
pub fn run(spec: &Spec, request: &Request, out: &mut dyn Write) -> Result<()> {
    let folder = request.data_dir.join(&spec.name);
    let work = request.data_dir.join(WORK_FOLDER);
    fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
    let _lock = lock(&work, spec)?;
    let (new, old) = (work.join(format!("{}.new", spec.name)), work.join(format!("{}.old", spec.name)));
    recover(&folder, &new, &old)?;

    if folder.symlink_metadata().is_ok() && !request.force {
        let reports = verify::verify(&folder, spec)
            .with_context(|| format!("{} exists but is broken; replace it with --force", folder.display()))?;
        writeln!(out, "{} is already there and intact", folder.display())?;
        return report(&reports, out);
    }
    let collection = read(spec, request, &work, out)?;
    let whole = spec.classes;
    let spec = &spec.part(collection.classes.len());
    if spec.classes < whole {
        writeln!(out, "it holds {} of the {whole} classes of {}; these are taken", spec.classes, spec.name)?;
    }
    let written = write::write(&new, spec, &collection).and_then(|()| verify::verify(&new, spec));
    let reports = match written {
        Ok(reports) => reports,
        Err(error) => {
            // The first error is reported.
            let _ = remove(&new);
            return Err(error);
        }
    };
    publish(&new, &folder, &old)?;
    writeln!(out, "{} is ready", folder.display())?;
    report(&reports, out)
}

/// Verifies `spec` in `data_dir`.
pub fn verify(spec: &Spec, data_dir: &Path, out: &mut dyn Write) -> Result<()> {
    let folder = data_dir.join(&spec.name);
    if folder.symlink_metadata().is_err() {
        bail!("{} is not there, `cargo xtask fetch-data {}` fetches it", folder.display(), spec.name);
    }
    let reports = verify::verify(&folder, spec)?;
    let classes = Manifest::load(&folder)?.classes.len();
    writeln!(out, "{} is intact: {classes} classes", folder.display())?;
    report(&reports, out)
}

fn read(spec: &Spec, request: &Request, work: &Path, out: &mut dyn Write) -> Result<Collection> {
    match &request.origin {
        Origin::Folder(path) if spec.archives.is_empty() => source::read_tiny(spec, path),
        Origin::Folder(folder) => source::read(spec, folder),
        _ if spec.archives.is_empty() => bail!(
            "{0} is not downloaded here; get {1} from {2} and name it: `cargo xtask fetch-data {0} --from {1}`",
            spec.name,
            source::TINY_ARCHIVE,
            source::TINY_URL
        ),
        Origin::Official { base_url, client } => {
            read_official(spec, base_url, (!request.offline).then_some(client), work, out)
        }
        Origin::Hub { endpoint, cache } => {
            let options = hub_options(endpoint.as_deref(), cache.as_deref(), request.offline, work);
            source::read_hub(spec, &options)
        }
    }
}

/// Uses an archive that was downloaded before, or else the first that the server has.
fn read_official(
    spec: &Spec,
    base_url: &str,
    client: Option<&Client>,
    work: &Path,
    out: &mut dyn Write,
) -> Result<Collection> {
    for archive in &spec.archives {
        let path = work.join(&archive.file);
        if path.is_file() && digest_file(&path)?.md5 == archive.md5 {
            writeln!(out, "using {}", path.display())?;
            return source::read_archive(spec, archive, &path);
        }
    }
    let names: Vec<&str> = spec.archives.iter().map(|archive| archive.file.as_str()).collect();
    let names = names.join(" nor ");
    let Some(client) = client else {
        bail!("{} holds neither {names}, and --offline opens no connection", work.display());
    };
    for archive in &spec.archives {
        let path = work.join(&archive.file);
        let url = format!("{}/{}", base_url.trim_end_matches('/'), archive.file);
        if client.fetch(&url, &path, &archive.md5)? {
            return source::read_archive(spec, archive, &path);
        }
    }
    bail!("{base_url} has neither {names}")
}

/// The options, completed from the hub's own environment variables.
fn hub_options(endpoint: Option<&str>, cache: Option<&Path>, offline: bool, work: &Path) -> HubOptions {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let is_true = |value: String| ["1", "on", "true", "yes"].contains(&value.to_lowercase().as_str());
    HubOptions {
        endpoint: endpoint.map(str::to_owned).or_else(|| variable("HF_ENDPOINT")),
        token: variable("HF_TOKEN"),
        cache: cache
            .map(Path::to_owned)
            .or_else(|| variable("HF_HUB_CACHE").map(PathBuf::from))
            .or_else(|| variable("HF_HOME").map(|home| Path::new(&home).join("hub")))
            .unwrap_or_else(|| work.join("hub")),
        offline: offline || variable("HF_HUB_OFFLINE").is_some_and(is_true),
    }
}

fn lock(work: &Path, spec: &Spec) -> Result<File> {
    let path = work.join(format!("{}.lock", spec.name));
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("{} is held: another fetch of {} runs", path.display(), spec.name)
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Clears what a killed fetch left; a data set that it had moved aside comes back.
fn recover(folder: &Path, new: &Path, old: &Path) -> Result<()> {
    remove(new)?;
    if old.exists() && folder.symlink_metadata().is_err() {
        return rename(old, folder);
    }
    remove(old)
}

/// Moves `new` to `folder`, and what was there out of the way.
fn publish(new: &Path, folder: &Path, old: &Path) -> Result<()> {
    if folder.symlink_metadata().is_ok() {
        rename(folder, old)?;
    }
    rename(new, folder)?;
    folder.parent().map_or(Ok(()), write::sync_folder)?;
    remove(old)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))
}

fn remove(path: &Path) -> Result<()> {
    let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
    if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
        .with_context(|| format!("cannot remove {}", path.display()))
}

fn report(reports: &[SplitReport], out: &mut dyn Write) -> Result<()> {
    for report in reports {
        let row = |values: [f64; 3]| values.map(|value| format!("{value:.4}")).join(" ");
        writeln!(
            out,
            "{:<5} {} images, mean {}, deviation {}, content sha256 {}",
            report.split.name(),
            report.count,
            row(report.mean),
            row(report.deviation),
            report.content_sha256
        )?;
    }
    Ok(())
}
