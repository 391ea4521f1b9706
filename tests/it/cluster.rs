//! Sweeps whose jobs a scheduler starts by number.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Place, SMALL, json};

/// Two methods with a shared base model; the second method's later task lasts for `epochs`.
fn write_sweep(place: &Place, epochs: usize) {
    let changes = SMALL.iter().filter(|change| !change.starts_with("seed"));
    let set: Vec<String> = changes.map(|change| format!("{change:?}")).collect();
    let text = format!(
        "seeds = [3]\nset = [{}]\n[[method]]\npreset = \"demo-fine-tune\"\n[[method]]\npreset = \"demo-lwf\"\n\
         set = [\"recipe.increment.training.epochs={epochs}\"]\n",
        set.join(", ")
    );
    fs::write(place.path().join("s.toml"), text).expect("a file");
}

fn start(place: &Place, arguments: &[&str]) -> Child {
    let mut command = place.program(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program runs")
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(120), "{what} took more than two minutes");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Models and results below a sweep's folder, by path.
fn products(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "safetensors") {
                found.push((
                    path.strip_prefix(folder).expect("below").to_owned(),
                    fs::read(&path).expect("a file"),
                ));
            } else if path.ends_with("result.json") {
                let tasks = json(path.clone())["tasks"].to_string();
                found.push((path.strip_prefix(folder).expect("below").to_owned(), tasks.into_bytes()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn tasks_in_any_order_give_what_the_sweep_gives_and_do_nothing_twice() {
    let place = Place::new();
    write_sweep(&place, 1);
    let plan = place.ok(&["sweep", "plan", "s.toml", "--no-estimate", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
    let mut numbers: Vec<(u64, bool, Option<u64>)> = Vec::new();
    for job in plan["jobs"].as_array().expect("a list") {
        let number = job["index"].as_u64().expect("a number");
        numbers.push((number, job["is_base"] == true, job["base_index"].as_u64()));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, [(0, true, None), (1, false, Some(0)), (2, false, Some(0))]);

    // The last job first: it trains the base model that it needs. Both runs at once train it once.
    let mut both = [start(&place, &["sweep", "task", "s.toml", "--index", "2"]), {
        let mut command = place.program(&["sweep", "task", "s.toml", "--index-from", "MY_NUMBER"]);
        command.env("MY_NUMBER", "1").stdout(Stdio::null()).spawn().expect("the program runs")
    }];
    for child in &mut both {
        assert!(child.wait().expect("an end").success());
    }
    assert_eq!(place.list("runs/s/bases").len(), 1);
    let log = place.list("runs/s/logs").into_iter().filter(|it| !it.contains('-')).collect::<Vec<_>>();
    let text = fs::read_to_string(place.path().join("runs/s/logs").join(&log[0])).expect("a log");
    assert_eq!(text.matches("sweep: begun").count(), 1, "{text}");
    let printed = place.ok(&["sweep", "task", "s.toml", "--index", "0"]);
    assert!(printed.starts_with("job 0, ") && printed.contains("was done already"), "{printed}");

    place.ok(&["sweep", "run", "s.toml", "--out", "straight"]);
    assert_eq!(products(&place.path().join("runs/s")), products(&place.path().join("straight/s")));
    let message = place.message(2, &["sweep", "task", "s.toml", "--index", "3"]);
    assert_eq!(message, "error: --index 3: the sweep has jobs 0 to 2");
}

#[cfg(unix)]
#[test]
fn a_task_that_is_killed_or_asked_to_stop_is_resumed_by_the_next_attempt() {
    let place = Place::new();
    write_sweep(&place, 400);
    let events = || {
        let names =
            place.list("runs/s").into_iter().filter(|it| it.starts_with("lwf") && it.ends_with(".partial"));
        let logs = names.map(|it| place.path().join("runs/s").join(it).join("events.jsonl"));
        logs.filter_map(|it| fs::read_to_string(it).ok()).map(|it| it.lines().count()).max().unwrap_or(0)
    };
    let task = ["sweep", "task", "s.toml", "--index", "2"];
    let mut last = 4;
    for signal in ["-KILL", "-TERM", "-USR1"] {
        let mut child = start(&place, &task);
        until("a few epochs", || events() > last || child.try_wait().expect("a state").is_some());
        assert!(child.try_wait().expect("a state").is_none(), "the run ended before it was stopped");
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success());
        let status = child.wait().expect("an end");
        assert_eq!(status.code(), if signal == "-KILL" { None } else { Some(75) });
        // A killed task's run saves and ends by itself.
        until("the end of a run", || !place.ok(&["sweep", "status", "s.toml"]).contains(" 1 going"));
        last = events();
    }
    place.ok(&task);
    write_sweep(&place, 400);
    place.ok(&["sweep", "run", "s.toml"]);
    place.ok(&["sweep", "run", "s.toml", "--out", "straight"]);
    assert_eq!(products(&place.path().join("runs/s")), products(&place.path().join("straight/s")));
}

/// The script, and a folder of stand-ins for the scheduler's commands that write down how they were called.
#[cfg(unix)]
fn scripted(place: &Place, scheduler: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    write_sweep(place, 1);
    let text =
        place.ok(&["sweep", "script", "s.toml", "--for", scheduler, "--cpus", "1", "--at-a-time", "3"]);
    let bin = place.path().join("bin");
    fs::create_dir_all(&bin).expect("a folder");
    for name in ["sbatch", "scontrol", "hq"] {
        let path = bin.join(name);
        fs::write(&path, format!("#!/bin/sh\necho {name} \"$@\" >>calls\necho 17\n")).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    let script = place.path().join("script.sh");
    fs::write(&script, text).expect("a file");
    script
}

#[cfg(unix)]
fn bash(place: &Place, script: &Path) -> Command {
    let mut command = Command::new("bash");
    let path = std::env::var("PATH").unwrap_or_default();
    command.arg(script).current_dir(place.path());
    command.env("PATH", format!("{}:{path}", place.path().join("bin").display()));
    command
}

#[cfg(unix)]
#[test]
fn the_slurm_script_queues_bases_before_runs_does_a_task_and_requeues_what_was_cut_off() {
    let place = Place::new();
    let script = scripted(&place, "slurm");
    let output = bash(&place, &script).output().expect("bash runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let calls = fs::read_to_string(place.path().join("calls")).expect("calls");
    let path = script.display();
    let expected = format!(
        "sbatch --parsable --array=0-0%3 {path}\nsbatch --parsable --array=1-2%3 --dependency=afterany:17 {path}\n"
    );
    assert_eq!(calls, expected);

    let within = |number: &str| {
        let mut command = bash(&place, &script);
        command.env("SLURM_ARRAY_TASK_ID", number).env("SLURM_ARRAY_JOB_ID", "17");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    assert!(within("1").status().expect("bash runs").success());
    assert_eq!(place.list("runs/s/bases").len(), 1);

    // A time limit: the shell gets the signal, the run is saved and queued again.
    write_sweep(&place, 400);
    let mut child = within("2").spawn().expect("bash runs");
    let begun = || place.list("runs/s").iter().any(|it| it.starts_with("lwf") && it.ends_with(".partial"));
    until("the beginning of a run", begun);
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
    assert_eq!(child.wait().expect("an end").code(), Some(75));
    let calls = fs::read_to_string(place.path().join("calls")).expect("calls");
    assert_eq!(calls.lines().last(), Some("scontrol requeue 17_2"));
}

#[cfg(unix)]
#[test]
fn the_other_schedulers_get_the_same_tasks() {
    let place = Place::new();
    let script = scripted(&place, "hyperqueue");
    assert!(bash(&place, &script).status().expect("bash runs").success());
    let calls = fs::read_to_string(place.path().join("calls")).expect("calls");
    let calls: Vec<&str> = calls.lines().collect();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(
        calls[0].starts_with("hq submit --name s --array 0-0 --cpus 1 --crash-limit 5 --wait -- "),
        "{calls:?}"
    );
    assert!(calls[1].starts_with("hq submit --name s --array 1-2 --cpus 1 --crash-limit 5 -- "), "{calls:?}");
    assert!(calls[1].contains("s.toml --index-from HQ_TASK_ID --out "), "{calls:?}");

    let message = place.message(2, &["sweep", "script", "s.toml", "--for", "kubernetes"]);
    assert!(message.starts_with("error: --for kubernetes needs --image"), "{message}");
    let manifest =
        ["sweep", "script", "s.toml", "--for", "kubernetes", "--image", "me/cil:1", "--claim", "data"];
    let manifest = place.ok(&manifest);
    for line in ["  completions: 3", "  completionMode: Indexed", "          image: \"me/cil:1\""] {
        assert!(manifest.lines().any(|it| it == line), "{manifest}");
    }
    assert!(manifest.contains("--index-from JOB_COMPLETION_INDEX"), "{manifest}");
    let message = place.message(2, &["sweep", "script", "s.toml", "--for", "slurm", "--time", "4;rm"]);
    assert!(message.contains("more information") || message.contains("HH:MM:SS"), "{message}");
}
