//! The event log.
//!
//! A line of JSON for each event, and at the end of each line a check of it and of the line before it. So a line that
//! was changed, lost or moved is reported with its number; an incomplete last line, left by a killed process, is
//! ignored. Older logs without checks are read as they are.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{Read as _, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use cil_train::event::Event;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::files::cannot_write;
use crate::folder::environment::hexadecimal;

/// Version of the event log.
pub const FORMAT: u32 = 1;
/// The event log's name within a run folder.
pub const EVENTS: &str = "events.jsonl";
/// Stands before a line's check.
const KEY: &str = ",\"check\":\"";
/// Stands behind it.
const END: &str = "\"}";
/// Hexadecimal digits of a check.
const DIGITS: usize = 16;

/// The first line of an event log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
}

/// One recorded event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Seconds that the run has worked: without those between two processes, or of a stopped one.
    pub seconds: f64,
    /// Most memory the process held so far, where the system reports it.
    pub peak_memory_bytes: Option<u64>,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// A log that was read.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Its events.
    pub lines: Vec<Line>,
    /// The check of its last line; `None` where its lines have none.
    pub(super) last: Option<String>,
}

impl Log {
    /// Whether each line was compared with its check.
    pub fn is_checked(&self) -> bool {
        self.last.is_some()
    }
}

/// Appends to a log.
#[derive(Debug)]
pub(super) struct Writer<W = File> {
    pub(super) file: W,
    last: Option<String>,
}

impl Writer {
    /// Begins a log.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create_new(path).with_context(|| cannot_write(path))?;
        Self::begin(file).with_context(|| cannot_write(path))
    }

    /// Goes on with a log whose last line has that check.
    pub(super) fn go_on(file: File, last: Option<String>) -> Self {
        Self { file, last }
    }
}

impl<W: Write> Writer<W> {
    fn begin(file: W) -> Result<Self> {
        let mut writer = Self { file, last: Some(String::new()) };
        writer.write(&Header { format: FORMAT })?;
        Ok(writer)
    }

    pub(super) fn write(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_string(value)?;
        if let Some(before) = &mut self.last {
            let own = check(before, &line);
            line.truncate(line.len() - 1);
            line.push_str(&format!("{KEY}{own}{END}"));
            *before = own;
        }
        line.push('\n');
        self.file.write_all(line.as_bytes())?;
        self.file.flush()?;
        Ok(())
    }
}

/// A log of these events, as a file holds it.
///
/// # Errors
/// If an event cannot be written as JSON.
pub fn text(lines: &[Line]) -> Result<Vec<u8>> {
    let mut writer = Writer::begin(Vec::new())?;
    lines.iter().try_for_each(|line| writer.write(line))?;
    Ok(writer.file)
}

/// The check of a line without one, behind a line with the check `before`.
fn check(before: &str, line: &str) -> String {
    let digest = Sha256::new().chain_update(before).chain_update(line).finalize();
    hexadecimal(&digest[..DIGITS / 2])
}

/// A line without its check, and the check, if it has one.
fn split(line: &str) -> (Cow<'_, str>, Option<&str>) {
    let parts = || {
        let rest = line.strip_suffix(END)?;
        let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        digits.bytes().all(is_digit).then_some((rest.strip_suffix(KEY)?, digits))
    };
    match parts() {
        Some((rest, digits)) => (format!("{rest}}}").into(), Some(digits)),
        None => (line.into(), None),
    }
}

/// An event of a line that is just being followed.
///
/// # Errors
/// If it is none.
pub fn event(line: &str) -> serde_json::Result<Line> {
    serde_json::from_str(&split(line.trim_end()).0)
}

/// Reads an event log; a last line that was cut off when its process ended is left out.
///
/// # Errors
/// Naming the log, and the line that is no event or not what the run wrote.
pub fn load_events(folder: &Path) -> Result<Log> {
    let path = folder.join(EVENTS);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let text = std::str::from_utf8(&bytes[..whole]);
    let log = parse(text.with_context(|| format!("{} is no text", path.display()))?, &path)?;
    if log.is_checked() && goes_on_behind_its_end(&bytes[whole..]) {
        bail!("the last line of {} is not what the run wrote: it has no end", path.display());
    }
    Ok(log)
}

/// The first `events_bytes` of the log in the folder `partial`.
///
/// # Errors
/// If it cannot be read, is shorter, or holds something else.
pub fn beginning(partial: &Path, events_bytes: u64) -> Result<Log> {
    let path = partial.join(EVENTS);
    let place = || format!("cannot go on with {}", path.display());
    let file = File::open(&path).with_context(place)?;
    let mut text = String::new();
    file.take(events_bytes).read_to_string(&mut text).with_context(place)?;
    if text.len() as u64 != events_bytes || !text.ends_with('\n') {
        bail!("{} is shorter than its checkpoint says", path.display());
    }
    parse(&text, &path)
}

/// Whether a line without an end has something behind its check: such a one was not cut off.
fn goes_on_behind_its_end(rest: &[u8]) -> bool {
    let at = rest.windows(KEY.len()).position(|it| it == KEY.as_bytes());
    at.is_some_and(|at| rest.len() > at + KEY.len() + DIGITS + END.len())
}

/// The events of a log's text at `path`.
pub(super) fn parse(text: &str, path: &Path) -> Result<Log> {
    let place = path.display();
    let mut lines = text.split_terminator('\n');
    let first = lines.next().with_context(|| format!("{place} is empty"))?;
    let (first, mut last) = (split(first).0, own_check("", first, 1, path)?);
    let header: Header =
        serde_json::from_str(&first).with_context(|| format!("{place} does not begin with its format"))?;
    if header.format != FORMAT {
        bail!("{place} has format {}, this program reads format {FORMAT}", header.format);
    }
    let mut events = Vec::new();
    for (index, line) in lines.enumerate() {
        let number = index + 2;
        let before = last.clone();
        let own = own_check(before.as_deref().unwrap_or_default(), line, number, path)?;
        if own.is_some() != before.is_some() {
            bail!("line {number} of {place} is not what the run wrote: only some lines have a check");
        }
        last = own;
        let event = serde_json::from_str(&split(line).0);
        events.push(event.with_context(|| format!("line {number} of {place} is not an event"))?);
    }
    Ok(Log { lines: events, last })
}

/// The check of a line, if it has one, compared with the line.
fn own_check(before: &str, line: &str, number: usize, path: &Path) -> Result<Option<String>> {
    let (content, own) = split(line);
    let Some(own) = own else { return Ok(None) };
    if check(before, &content) != own {
        bail!("line {number} of {} is not what the run wrote: its check is another", path.display());
    }
    Ok(Some(own.to_owned()))
}

#[cfg(test)]
mod tests {
    use cil_random::Draw;
    use cil_train::event::PhaseKind;

    use super::*;

    fn written(place: &Path) -> Vec<u8> {
        let path = place.join(EVENTS);
        let mut writer = Writer::create(&path).unwrap();
        for event in [Event::TaskStart { task: 0, new_classes: 6, classes_seen: 6 }, Event::RunEnd] {
            writer.write(&Line { seconds: 1.5, peak_memory_bytes: None, event }).unwrap();
        }
        fs::read(path).unwrap()
    }

    #[test]
    fn a_number_is_read_back_to_the_same_bits() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(EVENTS);
        let mut writer = Writer::create(&path).unwrap();
        // All exponents and any digits; what is not finite ends a run.
        let draw = Draw { task: 0, ..Draw::new(1, "numbers of a log") };
        let mut stream = draw.stream("bits");
        let any = std::iter::repeat_with(|| f64::from_bits(stream.number())).filter(|it| it.is_finite());
        let numbers: Vec<f64> = any.take(2000).chain([f64::MAX, f64::MIN_POSITIVE, 5e-324, -0.0]).collect();
        for number in &numbers {
            let losses = [("all".to_owned(), *number)].into_iter().collect();
            let event = Event::Progress {
                task: 0,
                phase: PhaseKind::Student,
                done: 1,
                total: 1,
                learning_rate: *number,
                images: 1,
                losses,
            };
            writer.write(&Line { seconds: *number, peak_memory_bytes: None, event }).unwrap();
        }
        let read = load_events(place.path()).unwrap().lines;
        let bits = |it: f64| it.to_bits();
        for (line, number) in read.iter().zip(&numbers) {
            let Event::Progress { learning_rate, losses, .. } = &line.event else { panic!("another event") };
            let all = [line.seconds, *learning_rate, losses["all"]].map(bits);
            assert_eq!(all, [bits(*number); 3], "{number:e}");
        }
        assert_eq!(read.len(), numbers.len());
        // Values computed from them and written as a result, too.
        let value = serde_json::to_value(&numbers).unwrap();
        let again: Vec<f64> = serde_json::from_str(&serde_json::to_string_pretty(&value).unwrap()).unwrap();
        assert_eq!(
            again.into_iter().map(bits).collect::<Vec<_>>(),
            numbers.iter().copied().map(bits).collect::<Vec<_>>()
        );
    }

    #[test]
    fn every_bit_of_a_log_counts() {
        let place = tempfile::tempdir().unwrap();
        let bytes = written(place.path());
        let read = load_events(place.path()).unwrap();
        assert!(read.is_checked() && read.lines.len() == 2);
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(place.path().join(EVENTS), flipped).unwrap();
            assert!(load_events(place.path()).is_err(), "bit {bit} is of no consequence");
        }
    }

    #[test]
    fn a_line_that_is_lost_or_moved_is_found() {
        let place = tempfile::tempdir().unwrap();
        let text = String::from_utf8(written(place.path())).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for order in [[0, 2].as_slice(), &[0, 2, 1], &[0, 1, 1, 2]] {
            let text: String = order.iter().map(|at| format!("{}\n", lines[*at])).collect();
            fs::write(place.path().join(EVENTS), text).unwrap();
            let message = load_events(place.path()).unwrap_err().to_string();
            assert!(message.contains("is not what the run wrote"), "{order:?}: {message}");
        }
        // Cut off anywhere, the log is what it was before the line.
        for end in text.len() - lines[2].len()..text.len() {
            fs::write(place.path().join(EVENTS), &text[..end]).unwrap();
            assert_eq!(load_events(place.path()).unwrap().lines.len(), 1, "cut at {end}");
        }
    }

    #[test]
    fn an_older_log_without_checksums_is_read_and_a_broken_line_is_named() {
        let out = tempfile::tempdir().unwrap();
        let line = "{\"seconds\":1.0,\"peak_memory_bytes\":null,\"event\":\"run-end\"}\n";
        let write = |text: String| fs::write(out.path().join(EVENTS), text).unwrap();
        write(format!("{{\"format\":1}}\n{line}{{\"sec"));
        let log = load_events(out.path()).unwrap();
        assert!(log.lines.len() == 1 && !log.is_checked());
        let message = |text: String| {
            write(text);
            load_events(out.path()).unwrap_err().to_string()
        };
        let text = message(format!("{{\"format\":1}}\n{line}{{\"sec\n"));
        assert!(text.starts_with("line 3 of"), "{text}");
        assert!(message("{\"format\":9}\n".to_owned()).contains("format 9"));
        assert!(message("{\"format\"".to_owned()).contains("is empty"));
        assert_eq!(event(line).unwrap(), log.lines[0]);
    }
}
