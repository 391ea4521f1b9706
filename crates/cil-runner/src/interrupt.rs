//! Ctrl-C and termination.
//!
//! One decision: the first signal asks the run to stop after the unit it is in; a second one ends the process at once,
//! as it would without this module.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;

/// Whether the run was asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for the signals that ask a process to end.
    pub fn listen() -> Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in TERM_SIGNALS {
            // In this order: the first signal finds the flag down and only raises it.
            flag::register_conditional_default(*signal, Arc::clone(&asked))
                .and_then(|_| flag::register(*signal, Arc::clone(&asked)))
                .context("cannot listen for signals")?;
        }
        Ok(Self(asked))
    }

    /// Whether a signal came.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Asks for the stop, as a signal does.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
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
    }
}
