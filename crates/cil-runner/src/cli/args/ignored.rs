//! Options that a command would ignore.
//!
//! The settings of [`super::Global`] can be typed with every command, before it or behind it; where a command has no
//! use for one, it is not in the command's help and is refused.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

const DATA: &str = "data_dir";
const OUT: &str = "out";
const SEED: &str = "seed";
const COMPUTING: [&str; 4] = ["device", "threads", "kernels", "no_cuda_graphs"];

/// The options that a command ignores, as names of fields of [`super::Global`]; commands by their words.
fn ignored(command: &str) -> Vec<&'static str> {
    let nothing_computed = [[DATA, OUT, SEED].as_slice(), &COMPUTING].concat();
    match command {
        "presets" | "protocols" | "methods" | "show" | "report" | "completions" | "man" => nothing_computed,
        "bench" => vec![DATA, OUT],
        "train" | "extend" | "generate" => vec![DATA],
        "evaluate" | "predict" | "inspect" | "export" => vec![DATA, OUT, SEED],
        "audit" => vec![OUT],
        // The images of the demo are drawn by the program.
        "demo" => vec![DATA],
        "resume" => vec![OUT, SEED],
        "sweep plan" | "sweep run" | "sweep task" | "sweep script" => vec![SEED],
        // The kernels and the device name base models.
        "sweep status" | "sweep report" => vec![DATA, SEED, "threads", "no_cuda_graphs"],
        _ => Vec::new(),
    }
}

/// `command` with what its commands ignore left out of their help.
pub(super) fn hidden(command: Command) -> Command {
    let options: Vec<Arg> = command.get_arguments().cloned().collect();
    hide(command, "", &options)
}

/// An option that a command has of its own takes the place of the one for all.
fn hide(command: Command, words: &str, options: &[Arg]) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|it| it.get_name().to_owned()).collect();
    let of = ignored(words);
    let hidden = options.iter().filter(|it| of.contains(&it.get_id().as_str()));
    let command = hidden.fold(command, |command, it| command.arg(it.clone().global(false).hide(true)));
    names.into_iter().fold(command, |command, name| {
        let inner = format!("{words} {name}").trim().to_owned();
        command.mut_subcommand(&name, |it| hide(it, &inner, options))
    })
}

/// Refuses options that the command would ignore, with command and option in a sentence.
///
/// # Errors
/// The sentence.
pub(super) fn check(matches: &ArgMatches) -> Result<(), String> {
    let (mut levels, mut words) = (vec![matches], Vec::new());
    while let Some((name, inner)) = levels[levels.len() - 1].subcommand() {
        words.push(name);
        levels.push(inner);
    }
    let command = if words.is_empty() { "demo".to_owned() } else { words.join(" ") };
    let typed = |name: &str| {
        // A command that does not know the option at all was not asked about it.
        let at = |it: &&ArgMatches| -> bool {
            it.try_contains_id(name).is_ok() && it.value_source(name) == Some(ValueSource::CommandLine)
        };
        levels.iter().any(at)
    };
    match ignored(&command).into_iter().find(|name| typed(name)) {
        Some(name) => {
            let option = name.replace('_', "-");
            let why = match (command.as_str(), name) {
                ("resume", SEED) => "; a resumed run keeps its seed",
                (it, SEED) if it.starts_with("sweep ") => "; the seeds of a sweep are in its file",
                _ => "",
            };
            Err(format!("`{command}` has no use for --{option}; leave it out{why}"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use crate::cli::args::Cli;

    fn refusal(line: &str) -> Option<String> {
        Cli::read(line.split(' ')).err().map(|it| it.to_string())
    }

    #[test]
    fn what_a_command_ignores_is_refused_before_it_and_behind_it_and_is_not_in_its_help() {
        let refused = [
            ("report", "report runs/a", "--seed 1", "--seed"),
            ("report", "report runs/a", "--device cpu", "--device"),
            ("report", "report runs/a", "--kernels portable", "--kernels"),
            ("presets", "presets", "--out x", "--out"),
            ("presets", "presets", "--no-cuda-graphs", "--no-cuda-graphs"),
            ("bench", "bench", "--data-dir x", "--data-dir"),
            ("audit", "audit demo-lwf --base-model a --other-model b", "--out x", "--out"),
            ("resume", "resume runs/a", "--seed 3", "--seed"),
            ("evaluate", "evaluate a photos", "--seed 3", "--seed"),
            ("predict", "predict a photo.png", "--out x", "--out"),
            ("train", "train photos --out a", "--data-dir x", "--data-dir"),
            ("sweep run", "sweep run a.toml", "--seed 3", "--seed"),
            ("sweep status", "sweep status a.toml", "--threads 3", "--threads"),
            ("demo", "demo", "--data-dir x", "--data-dir"),
        ];
        for (command, line, option, name) in refused {
            for line in [format!("cil-runner {line} {option}"), format!("cil-runner {option} {line}")] {
                let refusal = refusal(&line).unwrap_or_else(|| panic!("{line} is taken"));
                assert!(
                    refusal.contains(&format!("`{command}` has no use for {name}; leave it out")),
                    "{line}: {refusal}"
                );
            }
        }
        assert!(refusal("cil-runner --data-dir x").is_some_and(|it| it.contains("`demo` has no use")));
        for taken in [
            "cil-runner --seed 3",
            "cil-runner run demo-lwf --data-dir x --out y --seed 1",
            "cil-runner bench --seed 2",
        ] {
            assert_eq!(refusal(taken), None, "{taken}");
        }
        let mut all = super::hidden(Cli::command());
        all.build();
        let mut help = |name: &str| all.find_subcommand_mut(name).unwrap().render_long_help().to_string();
        assert!(!help("report").contains("--seed") && !help("presets").contains("--device"));
        assert!(help("run").contains("--seed") && help("bench").contains("--seed"));
        assert!(!help("bench").contains("--out"));
    }
}
