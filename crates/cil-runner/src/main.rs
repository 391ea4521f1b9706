//! The program: exit statuses and standard output; everything else is in the library.

use std::io::{self, Write};
use std::process::ExitCode;

use cil_engine::memory::{Allocator, keep_freed};
use cil_runner::cli::args::Cli;
use cil_runner::cli::failure::{exit_status, sentence};
use cil_runner::cli::interrupt::Interrupt;
use cil_runner::cli::output::Output;
use cil_runner::engine::ranks::Job;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    keep_freed();
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let mut errors = io::stderr();
    let job = match Job::join(&cli) {
        Ok(job) => job,
        Err(error) => {
            // Best effort: where standard error is gone, the exit status still shows it.
            let _ = writeln!(errors, "error: {}", sentence(&error));
            return ExitCode::from(exit_status(&error));
        }
    };
    let (mut stdout, mut nowhere) = (io::stdout().lock(), io::sink());
    let out: &mut dyn Write = if job.writes() { &mut stdout } else { &mut nowhere };
    let mut output = Output::new(out, cli.global.json);
    let done = Interrupt::listen()
        .and_then(|interrupt| cil_runner::commands::execute(cli, job.ranks(), &interrupt, &mut output));
    job.end(&done, &mut errors)
}
