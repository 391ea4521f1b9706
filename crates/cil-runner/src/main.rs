//! The program: exit statuses and standard output; everything else is in the library.

use std::io::{self, Write};
use std::process::ExitCode;

use cil_engine::memory::{Allocator, keep_freed};
use cil_runner::cli::args::Cli;
use cil_runner::cli::failure::{exit_status, sentence};
use cil_runner::cli::interrupt::Interrupt;
use cil_runner::cli::output::Output;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    keep_freed();
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let mut stdout = io::stdout().lock();
    let mut output = Output::new(&mut stdout, cli.global.json);
    let done =
        Interrupt::listen().and_then(|interrupt| cil_runner::commands::execute(cli, &interrupt, &mut output));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Best effort: where standard error is gone, the status still tells.
            let _ = writeln!(io::stderr(), "error: {}", sentence(&error));
            ExitCode::from(exit_status(&error))
        }
    }
}
