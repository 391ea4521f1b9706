//! Time that a run has worked.
//!
//! A stopped process (SIGSTOP, a frozen container) does no work, so its pause is no time of the run. A beat every
//! second distinguishes a pause from a long unit of work: while the process runs, no two beats are far apart.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Time between two beats.
const BEAT: Duration = Duration::from_secs(1);
/// Two beats that are further apart had a pause between them; a busy machine delays one by less.
const PAUSE: Duration = Duration::from_secs(10);

/// Tells how long this process has worked since it was started.
#[derive(Debug)]
pub struct Stopwatch {
    beats: Arc<Mutex<Beats>>,
    /// The thread that beats ends when this is dropped.
    _end: Sender<()>,
}

#[derive(Debug)]
struct Beats {
    started: Instant,
    last: Instant,
    paused: Duration,
}

impl Stopwatch {
    /// Begins at nothing.
    pub fn start() -> Self {
        let now = Instant::now();
        let beats = Arc::new(Mutex::new(Beats { started: now, last: now, paused: Duration::ZERO }));
        let (end, ended) = mpsc::channel();
        let own = Arc::clone(&beats);
        thread::spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(BEAT) {
                own.lock().unwrap_or_else(PoisonError::into_inner).beat(Instant::now());
            }
        });
        Self { beats, _end: end }
    }

    /// Time that was worked so far.
    pub fn worked(&self) -> Duration {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner).beat(Instant::now())
    }
}

impl Beats {
    /// Takes note of the time, and says how much of it was worked.
    fn beat(&mut self, now: Instant) -> Duration {
        let apart = now.saturating_duration_since(self.last);
        if apart > PAUSE {
            self.paused += apart - BEAT;
        }
        self.last = self.last.max(now);
        self.last.saturating_duration_since(self.started).saturating_sub(self.paused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_no_work_and_a_long_unit_is() {
        let watch = Stopwatch::start();
        let start = Instant::now();
        let mut beats = Beats { started: start, last: start, paused: Duration::ZERO };
        let at = |seconds| start + Duration::from_secs(seconds);
        // Two minutes of work with beats, twenty minutes of pause, a minute of work.
        let worked = (1..=120).chain(1321..=1380).map(|second| beats.beat(at(second))).last();
        assert_eq!(worked, Some(Duration::from_secs(120 + 60)));
        assert!(watch.worked() < Duration::from_secs(60));
    }
}
