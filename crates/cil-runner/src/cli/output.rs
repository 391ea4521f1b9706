//! The standard output of the program.
//!
//! All results go through one value to standard output, and nothing else of the crate prints results. If the reader
//! went away (`| head`), the rest is dropped, and the exit status is that of the work itself. Progress goes to standard
//! error, see [`crate::render::progress`].

use std::io::{self, Write};

use anyhow::{Context, Result};
use serde::Serialize;

/// Where results go.
pub struct Output<'a> {
    out: &'a mut dyn Write,
    /// Whether results are printed as JSON, and no progress is shown.
    pub json: bool,
    gone: bool,
}

impl<'a> Output<'a> {
    /// Prints to `out`.
    pub fn new(out: &'a mut dyn Write, json: bool) -> Self {
        Self { out, json, gone: false }
    }

    /// Prints text as it is.
    ///
    /// # Errors
    /// If it cannot be printed for another reason than that nobody reads it.
    pub fn text(&mut self, text: &str) -> Result<()> {
        if self.gone {
            return Ok(());
        }
        match self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(())
            }
            printed => printed.context("cannot print"),
        }
    }

    /// Whether the reader went away, so that whatever prints and does nothing else may end.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Prints a value as JSON, over several lines.
    pub fn value(&mut self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        self.text(&format!("{text}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Refusing(io::ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn text_and_json_reach_the_reader_and_a_gone_one_is_no_failure() {
        let mut bytes = Vec::new();
        let mut output = Output::new(&mut bytes, true);
        output.text("a\n").unwrap();
        output.value(&[1, 2]).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "a\n[\n  1,\n  2\n]\n");
        let mut pipe = Refusing(io::ErrorKind::BrokenPipe);
        let mut output = Output::new(&mut pipe, false);
        output.text("a").unwrap();
        assert!(output.is_gone());
        output.value(&[1]).unwrap();
        let mut disk = Refusing(io::ErrorKind::StorageFull);
        assert!(Output::new(&mut disk, false).text("a").unwrap_err().to_string().contains("cannot print"));
    }
}
