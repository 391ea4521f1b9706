//! What the program prints.
//!
//! One decision: all results go through one value to standard output, so that a reader who goes away (`| head`) ends
//! the program quietly, and nothing else of the crate prints results. Progress goes to standard error, see
//! [`crate::progress`].

use std::io::Write;

use anyhow::{Context, Result};
use serde::Serialize;

/// Where results go.
pub struct Output<'a> {
    out: &'a mut dyn Write,
    /// Whether results are printed as JSON, and no progress is shown.
    pub json: bool,
}

impl<'a> Output<'a> {
    /// Prints to `out`.
    pub fn new(out: &'a mut dyn Write, json: bool) -> Self {
        Self { out, json }
    }

    /// Prints text as it is.
    pub fn text(&mut self, text: &str) -> Result<()> {
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).context("cannot print")
    }

    /// Tells what is no result, such as what was written where, on standard error.
    pub fn note(&self, text: &str) {
        // Best effort, as progress is: where standard error is gone, nobody reads it.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    /// Prints a value as JSON, over several lines.
    pub fn value(&mut self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        self.text(&format!("{text}\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::failure::is_broken_pipe;

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn text_and_json_reach_the_reader_and_a_gone_one_is_known() {
        let mut bytes = Vec::new();
        let mut output = Output::new(&mut bytes, true);
        output.text("a\n").unwrap();
        output.value(&[1, 2]).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "a\n[\n  1,\n  2\n]\n");
        assert!(is_broken_pipe(&Output::new(&mut Gone, false).text("a").unwrap_err()));
    }
}
