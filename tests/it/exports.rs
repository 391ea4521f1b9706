//! Where reports are written to: through links, into pipes and devices, and into folders that are only read.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::{Place, small_run};

const RUN: &str = "runs/demo-fine-tune-s3";

#[test]
fn exports_go_through_links_and_into_pipes() {
    let place = Place::new();
    place.ok(&small_run("demo-fine-tune", &[]));
    let at = |name: &str| place.path().join(name);
    fs::create_dir(at("there")).expect("a folder");
    for name in ["page.html", "numbers.csv"] {
        fs::write(at("there").join(name), "old").expect("a file");
        symlink(at("there").join(name), at(name)).expect("a link");
    }
    symlink("there", at("logs")).expect("a link");
    let flags = ["--html", "page.html", "--csv", "numbers.csv", "--tensorboard", "logs"];
    place.ok(&[&["report", RUN][..], &flags].concat());
    for name in ["page.html", "numbers.csv", "logs"] {
        assert!(at(name).symlink_metadata().expect("a link").is_symlink(), "{name}");
    }
    let table = fs::read_to_string(at("there/numbers.csv")).expect("a table");
    assert!(table.starts_with("run,method,"), "{table}");
    assert!(fs::read_to_string(at("there/page.html")).expect("a page").contains("demo-fine-tune-s3"));
    assert!(place.list("there").contains(&"demo-fine-tune-s3".to_owned()), "event files");

    // Standard output is a pipe here, and has the table and what is printed, one after the other.
    let both = place.ok(&["report", RUN, "--csv", "/dev/stdout"]);
    assert!(both.starts_with(&table) && both.contains("average incremental"), "{both}");
    let line =
        format!("{} report {RUN} --csv >(cat > piped) > printed; sleep 1", env!("CARGO_BIN_EXE_cil-runner"));
    let ended =
        Command::new("bash").current_dir(place.path()).args(["-c", &line]).status().expect("bash runs");
    assert!(ended.success());
    assert_eq!(fs::read_to_string(at("piped")).expect("a file"), table);
    // A file that standard output goes to is not replaced either.
    let line = format!("{} report {RUN} --csv /dev/stdout > printed", env!("CARGO_BIN_EXE_cil-runner"));
    let ended =
        Command::new("bash").current_dir(place.path()).args(["-c", &line]).status().expect("bash runs");
    assert!(ended.success());
    assert_eq!(fs::read_to_string(at("printed")).expect("a file"), both);
    place.ok(&["report", RUN, "--csv", "/dev/null"]);
}

#[test]
fn a_run_that_may_not_be_written_to_is_shown() {
    let place = Place::new();
    place.ok(&small_run("demo-fine-tune", &[]));
    let folder = place.path().join(RUN);
    let written = || fs::metadata(folder.join("result.json")).expect("a file").modified().expect("a time");
    let before = written();
    let shown = place.ok(&["report", RUN]);
    assert_eq!(written(), before, "what is there is what would be written");
    fs::remove_file(folder.join("result.json")).expect("a result");
    // Stands for a folder that is only read, which is none for an administrator.
    fs::create_dir(folder.join("result.json.tmp")).expect("a folder");
    let output = place.output(&["report", RUN]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), shown);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        message.contains("result.json") && message.contains("the result is shown and not kept"),
        "{message}"
    );
}
