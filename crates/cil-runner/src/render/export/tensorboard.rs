//! Event files of TensorBoard.
//!
//! Scalars only, in the oldest form of them (`simple_value`), which every version of TensorBoard reads. The messages
//! are declared here, as far as they are used; numbers of fields are those of TensorFlow's `event.proto` and
//! `summary.proto`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cil_train::event::Event as Happened;
use prost::Message;

use crate::folder::files::write_atomic;
use crate::folder::log::Line;
use crate::results::recorded::Recorded;
use crate::results::result::RunResult;

/// Name of the first file in each run's folder: TensorBoard looks for `tfevents`. A later one has a number behind it.
pub const FILE: &str = "events.out.tfevents.cil-runner";

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Scalars),
    #[prost(message, tag = "7")]
    Session(Session),
}

/// With the status of a start: whatever was read of the run before, from this event's step on, is no more.
#[derive(Clone, PartialEq, Message)]
struct Session {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The status of a start.
const START: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Scalars {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    // Optional: a plain field that is 0 would not be written, and the scalar would be lost.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// Writes a run's event file into `folder`; `events` makes it for the time at which the file that is there began.
///
/// TensorBoard reads a file once, from where it was when it last looked. So what is new is appended where the file that
/// is there is a beginning of it; else a new file is begun, which says that what was read before is no more. Of the
/// files of before only their first event stays: a reader that is open would never leave one whose name is gone.
///
/// # Errors
/// Naming the file that cannot be read or written.
pub fn write(folder: &Path, events: impl Fn(Option<f64>) -> Result<Vec<u8>>) -> Result<()> {
    let there = files(folder)?;
    let Some((number, path)) = there.last() else { return write_atomic(&folder.join(FILE), &events(None)?) };
    let place = || format!("cannot write {}", path.display());
    let old = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let new = events(began(&old))?;
    let new = if *number > 0 { with_session(&new) } else { new };
    if let Some(rest) = new.strip_prefix(&old[..]) {
        let file = OpenOptions::new().append(true).open(path);
        return file.and_then(|mut file| file.write_all(rest)).with_context(place);
    }
    let new = with_session(&events(None)?);
    write_atomic(&folder.join(format!("{FILE}.{:06}", number + 1)), &new)?;
    there.iter().try_for_each(|(_, path)| emptied(path))
}

/// Cuts a file behind its first event.
fn emptied(path: &Path) -> Result<()> {
    let place = || format!("cannot write {}", path.display());
    let whole = fs::read(path).with_context(place)?;
    let length = first(&whole).map_or(0, |it| 16 + it.len());
    let file = OpenOptions::new().write(true).open(path).with_context(place)?;
    file.set_len(length as u64).with_context(place)
}

/// Event files of ours in a folder by number, the oldest first.
fn files(folder: &Path) -> Result<Vec<(u32, PathBuf)>> {
    let place = || format!("cannot read {}", folder.display());
    let entries = fs::read_dir(folder).with_context(place)?;
    let names =
        entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>().with_context(place)?;
    let number = |name: &str| match name.strip_prefix(FILE)? {
        "" => Some(0),
        rest => rest.strip_prefix('.')?.parse().ok(),
    };
    let found = names.iter().filter_map(|name| Some((number(name.to_str()?)?, folder.join(name))));
    let mut found: Vec<_> = found.collect();
    found.sort();
    Ok(found)
}

/// The content of a file's first event.
fn first(file: &[u8]) -> Option<&[u8]> {
    let length = usize::try_from(u64::from_le_bytes(file.get(..8)?.try_into().ok()?)).ok()?;
    file.get(12..12usize.checked_add(length)?)
}

/// The time of a file's first event.
fn began(file: &[u8]) -> Option<f64> {
    Some(Event::decode(first(file)?).ok()?.wall_time)
}

/// A file that says, behind its version, that what was read before is no more.
fn with_session(file: &[u8]) -> Vec<u8> {
    let version = 16 + first(file).map_or(0, <[u8]>::len);
    let (version, rest) = file.split_at(version.min(file.len()));
    let session = record(began(file).unwrap_or(0.0), What::Session(Session { status: START }));
    [version, &session, rest].concat()
}

fn record(wall_time: f64, what: What) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame(&Event { wall_time, step: 0, what: Some(what) }.encode_to_vec(), &mut bytes);
    bytes
}

/// An event file of a run that began at `start`, in seconds since 1970.
///
/// Losses (`loss/PHASE/TERM`) and learning rates (`learning-rate/PHASE`) count the units of their phase over all tasks,
/// from 1; accuracies (`accuracy/...`, fractions) count tasks, from 1 as people do.
pub fn event_file(run: &Recorded, start: f64) -> Vec<u8> {
    events(&run.lines, run.result.as_ref(), start)
}

/// [`event_file`] of what a run has recorded so far, with the result of the tasks that were evaluated.
pub(super) fn events(lines: &[Line], result: Option<&RunResult>, start: f64) -> Vec<u8> {
    let mut bytes = record(start, What::FileVersion("brain.Event:2".to_owned()));
    let mut units = std::collections::BTreeMap::new();
    for line in lines {
        let (step, scalars) = match &line.event {
            Happened::Progress { phase, learning_rate, losses, .. } => {
                let step: &mut i64 = units.entry(*phase).or_default();
                *step += 1;
                let phase = phase.name();
                let losses = losses.iter().map(|(term, value)| (format!("loss/{phase}/{term}"), *value));
                let rate = (format!("learning-rate/{phase}"), *learning_rate);
                (*step, losses.chain([rate]).collect())
            }
            Happened::TaskEnd { task, .. } => {
                (*task as i64 + 1, result.map_or_else(Vec::new, |result| accuracies(result, *task)))
            }
            Happened::TaskStart { .. } | Happened::TaskLearned { .. } | Happened::RunEnd => continue,
        };
        let scalar = |(tag, value): (String, f64)| Scalar { tag, simple_value: Some(value as f32) };
        let what = What::Summary(Scalars { value: scalars.into_iter().map(scalar).collect() });
        let event = Event { wall_time: start + line.seconds, step, what: Some(what) };
        frame(&event.encode_to_vec(), &mut bytes);
    }
    bytes
}

/// Accuracies after a task, by tag.
fn accuracies(result: &RunResult, task: usize) -> Vec<(String, f64)> {
    let mut tags = Vec::new();
    if let Some(of) = result.tasks.get(task) {
        let named = [
            ("all", Some(of.accuracy)),
            ("old", of.old_accuracy),
            ("new", Some(of.new_accuracy)),
            ("top-5", of.top5),
            ("task-aware", Some(of.task_aware_accuracy)),
            ("nearest-mean", of.accuracy_nme),
            ("trained-head", of.accuracy_trained_head),
        ];
        tags.extend(named.into_iter().filter_map(|(name, value)| Some((format!("accuracy/{name}"), value?))));
    }
    let of_tasks = result.accuracy_matrix.get(task).into_iter().flatten().enumerate();
    tags.extend(of_tasks.map(|(earlier, value)| (format!("accuracy/task-{}", earlier + 1), *value)));
    tags
}

/// Appends a record: its length, the length's checksum, the content, the content's checksum; all little endian.
fn frame(content: &[u8], bytes: &mut Vec<u8>) {
    let length = (content.len() as u64).to_le_bytes();
    bytes.extend(length);
    bytes.extend(masked(&length).to_le_bytes());
    bytes.extend(content);
    bytes.extend(masked(content).to_le_bytes());
}

/// The checksum of TensorFlow's records: CRC-32C, rotated and shifted so that a checksum of checksums is useful.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_framed_as_tensorflow_does() {
        // The first record of a file that TensorBoard 2.21 wrote at time 0: `tests/it/read_events.py --example`.
        let content =
            Event { wall_time: 0.0, step: 0, what: Some(What::FileVersion("brain.Event:2".into())) };
        let mut bytes = Vec::new();
        frame(&content.encode_to_vec(), &mut bytes);
        let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hexadecimal, EXAMPLE);
    }

    /// The events of a file whose records are whole.
    fn read(mut bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let checksum = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let content = &bytes[12..12 + length];
            assert_eq!((checksum(8), checksum(12 + length)), (masked(&bytes[..8]), masked(content)));
            events.push(Event::decode(content).unwrap());
            bytes = &bytes[16 + length..];
        }
        events
    }

    #[test]
    fn losses_and_accuracies_are_read_back_and_a_zero_is_a_value() {
        let place = tempfile::tempdir().unwrap();
        let folder = crate::render::page::tests::write(place.path(), "demo-lwf", 1, 0, 10);
        let run = Recorded::load(&folder).unwrap();
        let mut scalars = Vec::new();
        for event in read(&event_file(&run, 100.0)) {
            let Some(What::Summary(all)) = event.what else { continue };
            let own = |it: Scalar| (it.tag, event.step, event.wall_time, it.simple_value);
            scalars.extend(all.value.into_iter().map(own));
        }
        let of = |tag: &str| {
            scalars.iter().filter(|it| it.0 == tag).map(|it| (it.1, it.2, it.3)).collect::<Vec<_>>()
        };
        assert_eq!(of("accuracy/old"), [(2, 110.0, Some(0.0))]);
        assert_eq!(of("accuracy/all"), [(1, 103.75, Some(0.9)), (2, 110.0, Some(0.0))]);
        assert_eq!(of("loss/student/<b>"), [(1, 101.25, Some(2.0)), (2, 107.5, Some(1.0))]);
        assert_eq!(of("loss/inversion/<b>"), [(1, 106.25, Some(7.0))]);
    }

    #[test]
    fn what_grew_is_appended_and_what_changed_is_a_new_file() {
        let place = tempfile::tempdir().unwrap();
        let folder = crate::render::page::tests::write(place.path(), "demo-lwf", 1, 0, 10);
        let mut run = Recorded::load(&folder).unwrap();
        let out = place.path().join("logs");
        fs::create_dir(&out).unwrap();
        let all = run.lines.clone();
        let write = |run: &Recorded, clock: f64| {
            write(&out, |begun| Ok(event_file(run, begun.unwrap_or(clock)))).unwrap();
            let found = files(&out).unwrap();
            let ((number, path), before) = found.split_last().unwrap();
            assert!(before.iter().all(|it| read(&fs::read(&it.1).unwrap()).len() == 1));
            (*number, fs::read(path).unwrap())
        };
        run.lines.truncate(3);
        let first = write(&run, 100.0);
        run.lines = all;
        // The clock of another second changes nothing of what is there.
        let second = write(&run, 101.5);
        assert_eq!(second, (0, event_file(&run, 100.0)));
        assert!(second.1.len() > first.1.len() && second.1.starts_with(&first.1));
        assert_eq!(write(&run, 7.0), second, "nothing new");
        // Another run under the same name.
        run.lines.remove(1);
        let (number, third) = write(&run, 200.0);
        let events = read(&third);
        assert_eq!(number, 1);
        assert_eq!(events[1].what, Some(What::Session(Session { status: START })));
        assert_eq!(events.len(), read(&event_file(&run, 200.0)).len() + 1);
        // The last event is of the end and has no number; the one before it has.
        run.lines.truncate(run.lines.len() - 2);
        assert_eq!(write(&run, 300.0).0, 2);
        let again = write(&run, 300.0);
        assert_eq!(write(&run, 400.0), again);
    }

    const EXAMPLE: &str = "0f000000000000006d532b091a0d627261696e2e4576656e743a32fc985129";
}
