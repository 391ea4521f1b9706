//! How far a download is.
//!
//! A bar on a terminal that can draw one, plain lines elsewhere, both on standard error; nothing parses them.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const LINE_EVERY: Duration = Duration::from_secs(10);
const BAR: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}";

/// One download's progress.
pub(crate) struct Progress {
    name: String,
    done: u64,
    total: Option<u64>,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Progress {
    /// `done` bytes of `total` are there already.
    pub(crate) fn new(name: &str, done: u64, total: Option<u64>) -> Self {
        // Hidden without a terminal, and on one without the means (`TERM=dumb`).
        let bar = (!ProgressDrawTarget::stderr().is_hidden()).then(|| {
            let bar = match total {
                Some(total) => ProgressBar::new(total),
                None => ProgressBar::no_length(),
            };
            if let Ok(style) = ProgressStyle::with_template(BAR) {
                bar.set_style(style);
            }
            bar.set_message(name.to_owned());
            bar.set_position(done);
            bar.reset_eta();
            bar
        });
        let progress = Self { name: name.to_owned(), done, total, bar, last_line: Instant::now() };
        progress.line();
        progress
    }

    /// `bytes` more have come.
    pub(crate) fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.line();
            self.last_line = Instant::now();
        }
    }

    fn line(&self) {
        if self.bar.is_none() {
            let total = self.total.map(|total| format!(" of {total}")).unwrap_or_default();
            // Progress is worth no error.
            let _ = writeln!(io::stderr(), "{}: {}{total} bytes", self.name, self.done);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        match &self.bar {
            Some(bar) => bar.finish_and_clear(),
            None => self.line(),
        }
    }
}
