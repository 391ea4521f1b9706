//! Downloading one file whose digest is published.
//!
//! Bytes are kept in `<name>.part` until the digest is right, so a broken transfer is taken up where it ended and the
//! final name only ever holds the whole file. This module decides nothing about what is downloaded.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use crate::dataset::write::sync_folder;
use crate::digest::digest_file;
use crate::progress::Progress;

/// No file of a data set is longer; more is taken for a mistake.
const MAX_BYTES: u64 = 1 << 30;

/// An HTTP client with patience.
pub struct Client {
    agent: Agent,
    attempts: u32,
    pause: Duration,
}

/// Why an attempt gave no whole file.
enum Failure {
    /// The server has no such file.
    Absent,
    /// Trying again may help.
    Transient(anyhow::Error),
    /// Trying again is of no use.
    Final(anyhow::Error),
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// A client for real servers; proxies are taken from the environment.
    pub fn new() -> Self {
        Self::build(Agent::config_builder(), 5, Duration::from_secs(1), Duration::from_secs(60))
    }

    /// A client that goes straight to its server and waits no longer than `pause` steps.
    pub fn direct(attempts: u32, pause: Duration, silence: Duration) -> Self {
        Self::build(Agent::config_builder().proxy(None), attempts, pause, silence)
    }

    fn build(
        config: ureq::config::ConfigBuilder<ureq::typestate::AgentScope>,
        attempts: u32,
        pause: Duration,
        silence: Duration,
    ) -> Self {
        let agent = config
            .http_status_as_error(false)
            .timeout_connect(Some(silence))
            .timeout_recv_response(Some(silence))
            .timeout_per_read(Some(silence))
            .build()
            .new_agent();
        Self { agent, attempts, pause }
    }

    /// Downloads `url` to `path`; false if the server has no such file.
    ///
    /// `attempts` failures in a row without a single byte are the end.
    pub(crate) fn fetch(&self, url: &str, path: &Path, md5: &str) -> Result<bool> {
        let part = part_of(path);
        let (mut failures, mut resumed, mut restarted) = (0, length(&part) > 0, false);
        loop {
            let before = length(&part);
            match self.attempt(url, &part) {
                Ok(()) => {}
                Err(Failure::Absent) => return Ok(false),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Transient(error)) => {
                    let after = length(&part);
                    failures = if after > before { 1 } else { failures + 1 };
                    resumed |= after > 0;
                    if failures >= self.attempts {
                        return Err(error.context(format!("{url} failed {failures} times in a row")));
                    }
                    thread::sleep(self.pause * 2u32.saturating_pow(failures - 1));
                    continue;
                }
            }
            let digest = digest_file(&part)?;
            if digest.md5 == md5 {
                return finish(&part, path).map(|()| true);
            }
            remove(&part)?;
            // The beginning may have been left by another version of the file: once, all of it is asked for.
            if resumed && !restarted {
                (resumed, restarted) = (false, true);
                continue;
            }
            bail!("{url} ({} bytes) has the MD5 {}, the published one is {md5}", digest.bytes, digest.md5);
        }
    }

    /// Asks once for what is not yet in `part`.
    fn attempt(&self, url: &str, part: &Path) -> Result<(), Failure> {
        let start = length(part);
        let mut request = self.agent.get(url).header("Accept-Encoding", "identity");
        if start > 0 {
            request = request.header("Range", format!("bytes={start}-"));
        }
        let response = request.call().map_err(|error| connection_failure(url, error))?;
        match response.status() {
            StatusCode::OK => receive(url, response, part, 0),
            StatusCode::PARTIAL_CONTENT => match content_range(&response) {
                Some((first, _)) if first == start => receive(url, response, part, start),
                _ => {
                    remove(part).map_err(Failure::Final)?;
                    Err(Failure::Transient(anyhow!("{url} answered with another range than {start}-")))
                }
            },
            StatusCode::RANGE_NOT_SATISFIABLE if start > 0 => {
                // `bytes */total`: all of it may be here already.
                let total =
                    header(&response, "content-range").and_then(|range| range.strip_prefix("bytes */"));
                if total.and_then(|total| total.parse().ok()) == Some(start) {
                    return Ok(());
                }
                remove(part).map_err(Failure::Final)?;
                Err(Failure::Transient(anyhow!("{url} has fewer than the {start} bytes that are here")))
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(Failure::Absent),
            status
                if status.is_server_error()
                    || status == StatusCode::TOO_MANY_REQUESTS
                    || status == StatusCode::REQUEST_TIMEOUT =>
            {
                Err(Failure::Transient(anyhow!("{url} answered {status}")))
            }
            status => Err(Failure::Final(anyhow!("{url} answered {status}"))),
        }
    }
}

/// Appends a response's body to `part`, which keeps its first `start` bytes.
fn receive(url: &str, mut response: Response<Body>, part: &Path, start: u64) -> Result<(), Failure> {
    let announced = header(&response, "content-length").and_then(|length| length.parse::<u64>().ok());
    let total = announced.map(|length| length.saturating_add(start));
    if total.is_some_and(|total| total > MAX_BYTES) {
        return Err(Failure::Final(anyhow!(
            "{url} announces {} bytes, {MAX_BYTES} is the most that is taken",
            total.unwrap_or_default()
        )));
    }
    let place = || format!("cannot write {}", part.display());
    let mut file = open_at(part, start).with_context(place).map_err(Failure::Final)?;
    let name = url.rsplit('/').next().unwrap_or(url);
    let mut progress = Progress::new(name, start, total);
    let mut body = response.body_mut().as_reader();
    let (mut at, mut buffer) = (start, vec![0u8; 1 << 16]);
    loop {
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => {
                let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
                return Err(Failure::Transient(
                    anyhow!(error).context(format!("{url} broke off after {at}{of} bytes")),
                ));
            }
        };
        at += read as u64;
        if at > MAX_BYTES {
            return Err(Failure::Final(anyhow!("{url} is longer than {MAX_BYTES} bytes")));
        }
        file.write_all(&buffer[..read]).with_context(place).map_err(Failure::Final)?;
        progress.advance(read as u64);
    }
    if let Some(total) = total.filter(|total| *total != at) {
        return Err(Failure::Transient(anyhow!("{url} broke off after {at} of {total} bytes")));
    }
    file.sync_all().with_context(place).map_err(Failure::Final)
}

fn connection_failure(url: &str, error: ureq::Error) -> Failure {
    let last = matches!(error, ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl);
    let error = anyhow!(error).context(format!("cannot reach {url}"));
    if last { Failure::Final(error) } else { Failure::Transient(error) }
}

/// `bytes first-last/total` as (first, last).
fn content_range(response: &Response<Body>) -> Option<(u64, u64)> {
    let range = header(response, "content-range")?.strip_prefix("bytes ")?;
    let (first, last) = range.split_once('/')?.0.split_once('-')?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

fn open_at(part: &Path, start: u64) -> std::io::Result<File> {
    let mut file = OpenOptions::new().create(true).append(true).open(part)?;
    file.set_len(start)?;
    file.flush()?;
    Ok(file)
}

/// Moves the whole file to its final name.
fn finish(part: &Path, path: &Path) -> Result<()> {
    fs::rename(part, path)
        .with_context(|| format!("cannot rename {} to {}", part.display(), path.display()))?;
    path.parent().map_or(Ok(()), sync_folder)
}

fn remove(part: &Path) -> Result<()> {
    fs::remove_file(part).with_context(|| format!("cannot remove {}", part.display()))
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map(|metadata| metadata.len()).unwrap_or(0)
}
