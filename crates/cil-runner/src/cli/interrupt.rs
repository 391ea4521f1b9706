//! Ctrl-C, termination, and a terminal that goes away.
//!
//! The first signal asks the run to stop after the unit it is in; a second one ends the process at once, as it would
//! without this module.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;

/// The signal that a scheduler may send before a time limit, beside those that end a process.
#[cfg(unix)]
const BEFORE_A_LIMIT: &[i32] = &[signal_hook::consts::SIGUSR1];
#[cfg(not(unix))]
const BEFORE_A_LIMIT: &[i32] = &[];

/// Whether the run was asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    by_signal: Arc<AtomicBool>,
    /// Apart from the signals' own flag, which decides what a next signal does.
    by_other: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens for the signals that ask a process to end.
    pub fn listen() -> Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in TERM_SIGNALS.iter().chain(BEFORE_A_LIMIT).chain(hangup()) {
            // In this order: the first signal finds the flag down and only raises it.
            flag::register_conditional_default(*signal, Arc::clone(&asked))
                .and_then(|_| flag::register(*signal, Arc::clone(&asked)))
                .context("cannot listen for signals")?;
        }
        Ok(Self { by_signal: asked, by_other: Arc::default() })
    }

    /// Whether the run is asked to stop, by a signal or by [`Interrupt::ask`].
    pub fn is_asked(&self) -> bool {
        self.by_signal.load(Ordering::Relaxed) || self.by_other.load(Ordering::Relaxed)
    }

    /// Asks for the stop, as a first signal does.
    pub fn ask(&self) {
        self.by_other.store(true, Ordering::Relaxed);
    }

    /// Asks for the stop when `input` ends, from a thread of its own.
    pub fn ask_at_end_of(&self, mut input: impl Read + Send + 'static) {
        let interrupt = self.clone();
        std::thread::spawn(move || {
            // An input that cannot be read has ended, too.
            let _ = std::io::copy(&mut input, &mut std::io::sink());
            interrupt.ask();
        });
    }
}

/// The signal of a terminal that goes away, unless it is ignored: who started this with `nohup` wants it to continue.
#[cfg(unix)]
fn hangup() -> Option<&'static i32> {
    (!is_ignored(signal_hook::consts::SIGHUP)).then_some(&signal_hook::consts::SIGHUP)
}

#[cfg(not(unix))]
fn hangup() -> Option<&'static i32> {
    None
}

/// Whether the process was started with a signal ignored, as `nohup` does; where the system does not report it, it may
/// have been.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_remembered() {
        let interrupt = Interrupt::listen().unwrap();
        assert!(!interrupt.is_asked());
        signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
        assert!(interrupt.is_asked());
        let other = Interrupt::default();
        other.ask();
        assert!(other.is_asked());
        let (reader, writer) = std::io::pipe().unwrap();
        let tied = Interrupt::default();
        tied.ask_at_end_of(reader);
        assert!(!tied.is_asked());
        drop(writer);
        while !tied.is_asked() {
            std::thread::yield_now();
        }
    }
}
