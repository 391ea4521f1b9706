//! The command line: every mistake is one sentence on standard error and a status that is not 0.

use std::process::{Command, Output};

use tempfile::TempDir;

fn xtask(folder: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("xtask starts")
}

#[test]
fn mistakes_are_refused_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let mistakes: [(&[&str], &str); 5] = [
        (
            &["verify-data", "cifar100"],
            "datasets/cifar100 is not there, `cargo xtask fetch-data cifar100` fetches it",
        ),
        (&["fetch-data", "cifar10", "--from", "nowhere"], "cannot read the folder nowhere"),
        (&["fetch-data", "cifar10", "--from", "."], ". holds nothing of cifar10: cifar-10-binary.tar.gz, "),
        (&["fetch-data", "cifar10", "--offline"], "--offline opens no connection"),
        (&["tidy"], "is in no cargo workspace"),
    ];
    for (arguments, wanted) in mistakes {
        let output = xtask(&folder, arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.starts_with("error: ") && message.contains(wanted), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn unknown_names_and_contradictions_are_refused_by_the_parser() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        ["fetch-data", "cifar1000", "--force"].as_slice(),
        &["fetch-data", "cifar10", "--from", ".", "--offline"],
        &["verify-data"],
    ] {
        assert_eq!(xtask(&folder, arguments).status.code(), Some(2));
    }
    assert!(!folder.path().join("datasets").exists());
}
