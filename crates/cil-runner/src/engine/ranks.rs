//! The processes of one run that an MPI started.
//!
//! Only `run` and `resume` share their work, and only where an MPI says that there are several processes; rank 0 alone
//! writes files and prints. A rank that fails ends the job, so that no other waits for it. Without the feature `mpi`
//! there is one process, and a job of several is refused: they would write the same folder.

#[cfg(feature = "mpi")]
mod with_mpi;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use cil_engine::ranks::{Alone, Ranks, gather, gather_each};

use crate::cli::args::{Cli, Command, Run, Sweep};
use crate::cli::failure::{Kept, bad_input, exit_status, sentence};
use crate::engine::machine;

/// The environment variables by which an MPI tells a process that it is one of several: Open MPI, MPICH and its kin,
/// PMIx (`srun --mpi=pmix`).
pub(crate) const LAUNCHER_VARIABLES: [&str; 4] =
    ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "PMI_RANK"];
/// Those by which it tells a process its number among those of its machine: Open MPI, MPICH and its kin, Slurm.
const NUMBERS_ON_MACHINE: [&str; 3] = ["OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"];
/// How many processes there are; `srun` counts those of its step.
const SIZES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];

/// The processes that work on what the command line says.
pub struct Job {
    ranks: Arc<dyn Ranks>,
    #[cfg(feature = "mpi")]
    world: Option<with_mpi::World>,
}

impl Job {
    /// The job that this process is a part of.
    ///
    /// # Errors
    /// If it is one of several and the command does not share its work, or the MPI fails.
    pub fn join(cli: &Cli) -> Result<Self> {
        let size = size(|name| std::env::var(name).ok());
        match work(cli) {
            Work::OnesOwn => Ok(Self::alone()),
            Work::Shared => Self::shared(size),
            Work::NotShared if size > 1 => Err(bad_input(format!(
                "this is one of {size} processes that an MPI started, and only `run` (without --dry-run) and \
                 `resume` \
                 share their work; start the command without mpirun"
            ))),
            Work::NotShared => Ok(Self::alone()),
        }
    }

    fn alone() -> Self {
        Self {
            ranks: Arc::new(Alone),
            #[cfg(feature = "mpi")]
            world: None,
        }
    }

    #[cfg(feature = "mpi")]
    fn shared(_: usize) -> Result<Self> {
        if !LAUNCHER_VARIABLES.iter().any(|name| std::env::var_os(name).is_some()) {
            return Ok(Self::alone());
        }
        let (world, ranks) = with_mpi::World::join()?;
        Ok(Self { ranks: Arc::new(ranks), world: Some(world) })
    }

    #[cfg(not(feature = "mpi"))]
    fn shared(size: usize) -> Result<Self> {
        if size > 1 {
            return Err(bad_input(format!(
                "this is one of {size} processes that an MPI started, and the program was built without the feature \
                 mpi (docs/scale.md); start it without mpirun, or build it with --features mpi"
            )));
        }
        Ok(Self::alone())
    }

    /// Its processes.
    pub fn ranks(&self) -> &Arc<dyn Ranks> {
        &self.ranks
    }

    /// Whether this process is the one that writes and speaks.
    pub fn writes(&self) -> bool {
        self.ranks.rank() == 0
    }

    /// Ends this process's part: prints an error to `errors`, and ends the whole job where others may wait for this
    /// one.
    pub fn end(self, done: &Result<()>, errors: &mut dyn Write) -> ExitCode {
        let (rank, count) = (self.ranks.rank(), self.ranks.count());
        let Err(error) = done else { return self.left(0) };
        let (message, status) = (sentence(error), exit_status(error));
        // Best effort: where standard error is gone, the exit status still shows it.
        let _ = match rank {
            0 => writeln!(errors, "error: {message}"),
            // All ranks have agreed to stop.
            _ if error.is::<Kept>() => return self.left(0),
            _ => {
                // An error that all ranks found is printed by rank 0, which ends the job.
                std::thread::sleep(std::time::Duration::from_secs(3));
                writeln!(errors, "error: rank {rank} of {count}: {message}")
            }
        };
        if count > 1 && !error.is::<Kept>() {
            self.abort(status);
        }
        self.left(status)
    }

    #[cfg(feature = "mpi")]
    fn left(self, status: u8) -> ExitCode {
        if let Some(world) = self.world {
            world.leave();
        }
        ExitCode::from(status)
    }

    #[cfg(not(feature = "mpi"))]
    #[expect(clippy::unused_self, reason = "the other build leaves the MPI")]
    fn left(self, status: u8) -> ExitCode {
        ExitCode::from(status)
    }

    #[cfg(feature = "mpi")]
    fn abort(&self, status: u8) {
        if let Some(world) = &self.world {
            world.abort(status);
        }
    }

    #[cfg(not(feature = "mpi"))]
    #[expect(clippy::unused_self, reason = "the other build ends the MPI's job")]
    fn abort(&self, _: u8) {}
}

/// How a command behaves if an MPI started several processes.
#[derive(Debug, PartialEq, Eq)]
enum Work {
    /// All of them work on one run.
    Shared,
    /// Each may do it by itself: it reads, or locks what it writes.
    OnesOwn,
    /// It is for one process.
    NotShared,
}

fn work(cli: &Cli) -> Work {
    match &cli.command {
        Some(Command::Run(Run { dry_run: false, .. }) | Command::Resume(_)) => Work::Shared,
        Some(Command::Presets(_) | Command::Completions { .. } | Command::Report(_)) => Work::OnesOwn,
        Some(Command::Sweep(
            Sweep::Task { .. } | Sweep::Script { .. } | Sweep::Status { .. } | Sweep::Report(_),
        )) => Work::OnesOwn,
        _ => Work::NotShared,
    }
}

/// How many processes an MPI started, from its environment variables; 1 where there are none.
fn size(variable: impl Fn(&str) -> Option<String>) -> usize {
    if !LAUNCHER_VARIABLES.iter().any(|name| variable(name).is_some()) {
        return 1;
    }
    SIZES.iter().find_map(|name| variable(name)?.parse().ok()).unwrap_or(1)
}

/// Refuses a job whose ranks do not have the same `what`.
///
/// # Errors
/// Naming the first rank that has another one than rank 0, both, and `right`, which says what to do.
pub fn same(ranks: &dyn Ranks, what: &str, own: &str, right: &str) -> Result<()> {
    if ranks.count() == 1 {
        return Ok(());
    }
    let all = text_of_all(ranks, own)?;
    match all.iter().position(|text| *text != all[0]) {
        Some(rank) => Err(bad_input(format!(
            "rank {rank} has {what} {}, and rank 0 has {}; {right}",
            all[rank], all[0]
        ))),
        None => Ok(()),
    }
}

/// A text of each rank, by rank.
///
/// # Errors
/// If the transport fails.
pub fn text_of_all(ranks: &dyn Ranks, own: &str) -> Result<Vec<String>> {
    let lengths: Vec<usize> =
        gather_each(ranks, &[own.len() as u64])?.into_iter().map(|it| it[0] as usize).collect();
    let all = gather(ranks, own.as_bytes(), &lengths)?;
    let mut rest = all.as_slice();
    let text = |length: usize| {
        let (value, behind) = rest.split_at(length);
        rest = behind;
        String::from_utf8_lossy(value).into_owned()
    };
    Ok(lengths.into_iter().map(text).collect())
}

/// This process's number among those of its machine: what the MPI says, or how many ranks before it are on a machine of
/// that name.
///
/// # Errors
/// If the transport fails.
pub fn number_on_machine(ranks: &dyn Ranks) -> Result<usize> {
    let hosts = text_of_all(ranks, &machine::host().unwrap_or_default())?;
    Ok(number_among(&hosts, ranks.rank(), |name| std::env::var(name).ok()))
}

fn number_among(hosts: &[String], rank: usize, variable: impl Fn(&str) -> Option<String>) -> usize {
    let by_name = hosts[..rank].iter().filter(|host| **host == hosts[rank]).count();
    NUMBERS_ON_MACHINE.iter().find_map(|name| variable(name)?.parse().ok()).unwrap_or(by_name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cil_engine::ranks::on_threads;
    use clap::Parser;

    use super::*;

    #[test]
    fn an_mpi_job_is_recognised_by_its_environment() {
        let of = |variables: &[(&str, &str)]| {
            let variables: BTreeMap<_, _> =
                variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            size(|name| variables.get(name).cloned())
        };
        assert_eq!(of(&[]), 1);
        assert_eq!(of(&[("OMPI_COMM_WORLD_SIZE", "4"), ("PMIX_RANK", "0")]), 4);
        assert_eq!(of(&[("PMI_RANK", "1"), ("PMI_SIZE", "3")]), 3);
        assert_eq!(of(&[("PMIX_RANK", "1"), ("SLURM_STEP_NUM_TASKS", "2")]), 2);
        // A step of Slurm without an MPI: tasks that know nothing of each other.
        assert_eq!(of(&[("SLURM_STEP_NUM_TASKS", "2")]), 1);
    }

    #[test]
    fn ranks_of_a_machine_are_counted() {
        let hosts = ["a", "a", "b", "a", "b"].map(str::to_owned);
        let numbers: Vec<usize> = (0..5).map(|rank| number_among(&hosts, rank, |_| None)).collect();
        assert_eq!(numbers, [0, 1, 0, 2, 1]);
        let variable = |name: &str| (name == "SLURM_LOCALID").then(|| "3".to_owned());
        assert_eq!(number_among(&hosts, 4, variable), 3, "the MPI knows better than names");
    }

    #[test]
    fn commands_share_or_do_not() {
        let of = |line: &[&str]| {
            work(&Cli::try_parse_from(["cil-runner"].iter().chain(line)).expect("a command line"))
        };
        assert_eq!(of(&["run", "demo-lwf"]), Work::Shared);
        assert_eq!(of(&["resume", "runs/a"]), Work::Shared);
        assert_eq!(of(&["run", "demo-lwf", "--dry-run"]), Work::NotShared);
        assert_eq!(of(&[]), Work::NotShared);
        assert_eq!(of(&["bench"]), Work::NotShared);
        assert_eq!(of(&["sweep", "run", "a.toml"]), Work::NotShared);
        assert_eq!(of(&["sweep", "task", "a.toml", "--index", "0"]), Work::OnesOwn);
        assert_eq!(of(&["presets"]), Work::OnesOwn);
    }

    #[test]
    fn what_ranks_must_have_in_common_is_held_against_rank_0() {
        let of = |kernels: &'static [&'static str]| {
            on_threads(kernels.len(), |ranks| {
                let own = kernels[ranks.rank()];
                same(&*ranks, "the kernels", own, "use --kernels avx2").map_err(|it| it.to_string())
            })
        };
        assert!(of(&["avx2", "avx2", "avx2"]).iter().all(Result::is_ok));
        let found = of(&["avx2", "avx2", "avx512"]);
        let expected = "rank 2 has the kernels avx512, and rank 0 has avx2; use --kernels avx2";
        assert!(found.iter().all(|it| it.as_ref().is_err_and(|it| it == expected)), "{found:?}");
    }
}
