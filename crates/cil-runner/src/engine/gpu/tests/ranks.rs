//! A whole run by ranks that share every batch, each with a GPU, as threads of one process.

use cil_engine::ranks::on_threads;
use clap::Parser;

use super::super::*;
use super::runs::{assert_near, engine, left_by};
use super::{bits, turn};
use crate::cli::args::Cli;
use crate::cli::failure::exit_status;
use crate::engine::Engine;

const LINE: [&str; 4] = ["--device", "cuda", "--kernels", "exact"];

fn by_ranks(count: usize) -> Vec<Result<Engine>> {
    on_threads(count, |ranks| {
        let line = ["cil-runner"].into_iter().chain(LINE);
        Engine::of_ranks(&Cli::try_parse_from(line).unwrap().global, &ranks)
    })
}

#[test]
fn a_run_by_two_ranks_is_that_of_one() {
    let Some(_turn) = turn("a whole run by two ranks") else { return };
    if count() < 2 {
        eprintln!("SKIPPED a whole run by two ranks: there are fewer than two GPUs");
        return;
    }
    let expected = left_by(&engine(&LINE), &[]);
    let found = on_threads(2, |ranks| {
        let line = ["cil-runner"].into_iter().chain(LINE);
        let engine = Engine::of_ranks(&Cli::try_parse_from(line).unwrap().global, &ranks).unwrap();
        let left = left_by(&engine, &[]);
        // Threads count none of theirs.
        assert!(engine.ranks.spent().operations > 0, "nothing went by NCCL");
        left
    });
    assert_eq!(found[0].losses, found[1].losses);
    for (name, value) in found[0].last.iter() {
        assert_eq!(bits(value), bits(found[1].last.get(name).unwrap()), "{name}");
    }
    assert_near(&found[0], &expected);
}

#[test]
fn more_ranks_than_gpus_are_refused() {
    let Some(_turn) = turn("more ranks than GPUs") else { return };
    let gpus = count();
    for engine in by_ranks(gpus + 1) {
        let error = engine.map(|_| ()).unwrap_err();
        let expected =
            format!("ranks 0 and {gpus} have one GPU, and each needs its own; start at most as many");
        assert!(error.to_string().starts_with(&expected), "{error:#}");
        assert_eq!(exit_status(&error), 2);
    }
}
