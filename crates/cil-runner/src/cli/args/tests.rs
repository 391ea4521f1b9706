//! Parsing of the command line.

use clap::CommandFactory;

use super::*;

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn devices_are_read_as_they_are_written() {
    for name in ["cpu", "cuda", "cuda:3", "auto"] {
        assert_eq!(name.parse::<DeviceName>().map(|it| it.to_string()), Ok(name.to_owned()));
    }
    for name in ["gpu", "cuda:", "cuda:-1", "cuda1", ""] {
        assert!(
            name.parse::<DeviceName>().is_err_and(|error| error.contains("use cpu, cuda, cuda:N or auto"))
        );
    }
}

#[test]
fn no_command_means_the_demo_and_flags_go_anywhere() {
    let cli = Cli::try_parse_from(["cil-runner", "--seed", "3"]).unwrap();
    assert!(cli.command.is_none());
    assert_eq!(cli.global.seed, Some(3));
    let line = ["cil-runner", "run", "demo-lwf", "--set", "a.b=1", "--set", "c=2", "--out", "x", "--json"];
    let cli = Cli::try_parse_from(line).unwrap();
    let Some(Command::Run(run)) = cli.command else { panic!("not a run") };
    assert_eq!(run.set, ["a.b=1", "c=2"]);
    assert_eq!(cli.global.out, PathBuf::from("x"));
    assert!(cli.global.json);
    assert!(Cli::try_parse_from(["cil-runner", "--threads", "0"]).is_err());
}
