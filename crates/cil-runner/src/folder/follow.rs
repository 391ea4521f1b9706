//! Reading a run's log while another process writes it.
//!
//! Only whole lines are read, so that a line that is being written is read the next time. If the last line read is no
//! longer at its place, the log was cut and has grown again: its run was killed and resumed from a checkpoint.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result};

use crate::folder::log::{EVENTS, Line, event};

/// Reads a log while another process writes it.
#[derive(Debug, Default)]
pub struct Follower {
    /// Bytes that were read, up to the end of a line.
    read: u64,
    /// The last line of these.
    last: Vec<u8>,
    /// Seconds of the last event.
    seconds: f64,
}

impl Follower {
    /// The events that are new in the log of `folder`, each with the seconds since the one before it. A log that is not
    /// there has none; one that is another than before is read from its beginning.
    ///
    /// # Errors
    /// If the log cannot be read, or a whole line of it is no event.
    pub fn read(&mut self, folder: &Path) -> Result<Vec<(Line, f64)>> {
        let path = folder.join(EVENTS);
        let Ok(mut file) = File::open(&path) else { return Ok(Vec::new()) };
        let place = || format!("cannot read {}", path.display());
        if !self.is_the_same(&mut file).with_context(place)? {
            *self = Self::default();
        }
        file.seek(SeekFrom::Start(self.read)).with_context(place)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).with_context(place)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let header = usize::from(self.read == 0);
        self.read += whole as u64;
        if let Some(last) = text[..whole].split_inclusive(|byte| *byte == b'\n').next_back() {
            self.last = last.to_vec();
        }
        let mut events = Vec::new();
        for line in text[..whole].split_inclusive(|byte| *byte == b'\n').skip(header) {
            let line = event(std::str::from_utf8(line).with_context(place)?).with_context(place)?;
            let took = (line.seconds - self.seconds).max(0.0);
            self.seconds = line.seconds;
            events.push((line, took));
        }
        Ok(events)
    }

    /// Whether what was read is still there.
    fn is_the_same(&self, file: &mut File) -> io::Result<bool> {
        if file.metadata()?.len() < self.read {
            return Ok(false);
        }
        let mut there = vec![0; self.last.len()];
        file.seek(SeekFrom::Start(self.read - self.last.len() as u64))?;
        file.read_exact(&mut there)?;
        Ok(there == self.last)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_log_is_followed_while_it_grows() {
        let out = tempfile::tempdir().unwrap();
        let mut follower = Follower::default();
        assert!(follower.read(out.path()).unwrap().is_empty());
        let path = out.path().join(EVENTS);
        let event = |seconds| {
            format!("{{\"seconds\":{seconds}.0,\"peak_memory_bytes\":null,\"event\":\"run-end\"}}\n")
        };
        let log = format!("{{\"format\":1}}\n{}{}", event(1), event(4));
        let cut = log.len() - 5;
        fs::write(&path, &log[..cut]).unwrap();
        let took = |follower: &mut Follower| {
            follower.read(out.path()).unwrap().into_iter().map(|it| it.1).collect::<Vec<_>>()
        };
        assert_eq!(took(&mut follower), [1.0]);
        fs::write(&path, &log).unwrap();
        assert_eq!(took(&mut follower), [3.0]);
        assert!(took(&mut follower).is_empty());
        fs::write(&path, format!("{{\"format\":1}}\n{}", event(2))).unwrap();
        assert_eq!(took(&mut follower), [2.0], "begun anew");
        // Cut to its first line, and longer than before when it is read again.
        fs::write(&path, format!("{{\"format\":1}}\n{}{}{}", event(3), event(4), event(6))).unwrap();
        assert_eq!(took(&mut follower), [3.0, 1.0, 2.0]);
    }
}
