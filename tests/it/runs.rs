//! Runs that succeed.

use std::fs;

use crate::{Place, json, small_run};

const BOTH: &str = "demo-lucir-e0-dfgr-dtidkl";

#[test]
fn a_run_leaves_a_whole_folder_and_can_be_repeated_from_its_config() {
    let place = Place::new();
    let text = place.ok(&small_run(BOTH, &[]));
    assert!(text.contains("run folder: runs/demo-lucir-e0-dfgr-dtidkl-s3"), "{text}");
    let folder = format!("runs/{BOTH}-s3");
    let files = [
        "SHA256SUMS",
        "base.safetensors",
        "config.toml",
        "env.json",
        "events.jsonl",
        "generated-1.json",
        "generated-1.png",
        "model.safetensors",
    ];
    assert_eq!(place.list(&folder), [&files[..], &["result.json"]].concat());
    let result = json(place.path().join(&folder).join("result.json"));
    assert_eq!(result["preset"], BOTH);
    assert_eq!(result["increments"], serde_json::json!([2, 2]));
    assert_eq!(result["exemplars_per_class"], 0);
    assert_eq!(result["stored_bytes"], 0);
    // So short an inversion may miss a class; then there is a reason instead of a mean.
    let (means, source) = (&result["tasks"][1]["accuracy_nme"], &result["tasks"][1]["nme_source"]);
    assert_eq!(means.is_null(), source != "synthetic", "{source}");
    assert!(result["tasks"][0]["accuracy_nme"].is_null());
    assert!(result["phase_seconds"]["inversion"].as_f64().expect("seconds") > 0.0);
    let environment = json(place.path().join(&folder).join("env.json"));
    assert_eq!(environment["train_digest"].as_str().map(str::len), Some(64));
    let made = &environment["made"];
    let [started, finished] = ["started", "finished"].map(|key| made[key].as_str().expect("a time"));
    assert!(started <= finished && started.ends_with('Z'), "{made}");
    assert_eq!(made["command"][1], "run");
    assert!(place.ok(&["report", &folder]).contains(&format!("made {started}")));

    let config = format!("{folder}/config.toml");
    place.ok(&["run", &config, "--out", "again"]);
    let model =
        |folder: &str| fs::read(place.path().join(folder).join("model.safetensors")).expect("a model");
    assert_eq!(model(&folder), model(&format!("again/{BOTH}-s3")));
}

#[test]
fn a_second_generator_s_images_are_kept_and_shown() {
    let place = Place::new();
    let preset = "demo-lucir-e0-dfgr-dtid-unshared";
    let changes = [
        "recipe.new-replay.inversion.iterations=20",
        "recipe.new-replay.inversion.batch=16",
        "recipe.new-replay.inversion.generator.channels=8",
        "recipe.new-replay.images-per-class=20",
    ];
    place.ok(&small_run(preset, &changes));
    let folder = format!("runs/{preset}-s3");
    let files = place.list(&folder);
    for file in ["generated-1.png", "generated-new-1.json", "generated-new-1.png"] {
        assert!(files.iter().any(|it| it == file), "{file} is missing");
    }
    let result = json(place.path().join(&folder).join("result.json"));
    assert!(result["phase_seconds"]["new-inversion"].as_f64().expect("seconds") > 0.0);
    place.ok(&["report", &folder, "--html", "page.html"]);
    let page = fs::read_to_string(place.path().join("page.html")).expect("a page");
    assert_eq!(page.matches("alt=\"generated images of ").count(), 4, "two old classes and two new ones");
    assert!(page.contains("for task 2, new classes"));
    let names = &json(place.path().join(&folder).join("env.json"))["class_names"];
    let learned = result["class_order"].as_array().expect("labels");
    for label in learned {
        let name = names[label.as_u64().expect("a label") as usize].as_str().expect("a name");
        assert!(page.contains(&format!("alt=\"generated images of {name}\"")), "{name}");
    }

    let one = small_run(preset, &["increments=[3, 1]"]);
    let message = place.message(2, &one);
    assert!(message.contains("recipe.new-replay is set and task 2 has one class"), "{message}");
}

#[test]
fn threads_do_not_change_a_bit_and_a_base_model_can_be_taken() {
    let place = Place::new();
    let of = |out: &str, more: &[&str]| {
        let mut arguments = small_run(BOTH, &[]);
        arguments.extend(["--out", out]);
        arguments.extend(more);
        place.ok(&arguments);
        let folder = place.path().join(out).join(format!("{BOTH}-s3"));
        (fs::read(folder.join("model.safetensors")).expect("a model"), folder)
    };
    let (one, folder) = of("one", &["--threads", "1"]);
    assert_eq!(one, of("three", &["--threads", "3"]).0);
    let base = folder.join("base.safetensors");
    let (from_base, folder) = of("from-base", &["--base-model", base.to_str().expect("text")]);
    assert_eq!(one, from_base);
    let record = &json(folder.join("env.json"))["base_model"];
    assert_eq!(record["sha256"].as_str().map(str::len), Some(64));
}

#[test]
fn a_result_is_computed_again_from_events_alone() {
    let place = Place::new();
    place.ok(&small_run("demo-lwf", &[]));
    let path = place.path().join("runs/demo-lwf-s3/result.json");
    let before = json(path.clone());
    fs::remove_file(&path).expect("a result");
    let shown = place.ok(&["report", "runs/demo-lwf-s3", "--json"]);
    assert_eq!(json(path), before);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), before);
}

#[test]
fn every_key_of_the_two_teachers_can_be_set() {
    let form = "recipe.increment.terms.2.config.form={ joint = { weight = 0.25, match-scale = true } }";
    let text = Place::new().ok(&["run", BOTH, "--dry-run", "--no-estimate", "--set", form]);
    let set = |key: &str| text.lines().any(|line| line.starts_with(key));
    assert!(set("weight = 0.25 ") && set("match-scale = true "), "{text}");
}

#[test]
fn a_dry_run_estimates_and_is_still_a_configuration() {
    let place = Place::new();
    let mut arguments = small_run(BOTH, &[]);
    arguments.push("--dry-run");
    let text = place.ok(&arguments);
    assert!(text.contains("\n# about ") && text.contains("\n# at most "), "{text}");
    fs::write(place.path().join("own.toml"), text).expect("a file");
    let json = place.ok(&["run", "own.toml", "--dry-run", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(value["config"]["seed"], 3);
    assert!(value["estimate"]["seconds"].as_f64().expect("seconds") > 0.0);
    assert_eq!(place.list("."), ["own.toml"], "a dry run writes nothing");
    // Images that are not there are no reason to refuse the configuration.
    let text = place.ok(&["run", "cifar100-10c-lwf", "--dry-run", "--data-dir", "none"]);
    assert!(text.contains("# no estimate: none/cifar100/manifest.json is missing"), "{text}");
}

#[test]
fn presets_are_listed_with_their_sources() {
    let place = Place::new();
    let text = place.ok(&["presets"]);
    assert!(text.lines().any(|line| line.starts_with("cifar100-b50-t5 ")), "{text}");
    let text = place.ok(&["presets", "cifar100-b50-t5"]);
    assert!(text.contains("cifar100-b50-t5-lucir"), "{text}");
    let text = place.ok(&["protocols"]);
    assert!(text.lines().any(|line| line.starts_with("imagenet1000-b500-t10 ")), "{text}");
    let text = place.ok(&["methods"]);
    assert!(text.lines().any(|line| line.starts_with("podnet ")) && text.contains("dtidkl"), "{text}");
    let listed: serde_json::Value = serde_json::from_str(&place.ok(&["presets", "--json"])).expect("JSON");
    let listed = listed.as_array().expect("a list");
    assert!(listed.len() > 100, "{} presets", listed.len());
    assert!(listed.iter().all(|preset| !preset["source"].as_str().expect("a source").is_empty()));
}

#[test]
fn manual_pages_are_of_the_program_and_of_a_command() {
    let place = Place::new();
    let text = place.ok(&["man"]);
    assert!(text.contains(".TH cil-runner 1") && text.contains("cifar100\\-10c lucir+dfgr"), "{text}");
    let text = place.ok(&["man", "run"]);
    assert!(text.contains("exemplars") && text.contains("cil\\-runner run"), "{text}");
    let output = place.output(&["man", "sweeep"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean sweep?"));
}

#[test]
fn a_protocol_and_a_method_are_a_preset() {
    let place = Place::new();
    let show = |words: &[&str]| place.ok(&[words, &["--dry-run", "--no-estimate"]].concat());
    let typed =
        show(&["run", "cifar100-b50-t5", "lucir+dfgr+dtid", "--exemplars", "20", "--head", "statistics"]);
    assert_eq!(typed, show(&["run", "cifar100-b50-t5-lucir-dfgr-dtid-discriminant"]));
    assert!(typed.contains("preset = \"cifar100-b50-t5-lucir-dfgr-dtid-discriminant\""), "{typed}");
    let numbers = place.ok(&["show", "cifar100-b50-t5", "lucir"]);
    assert!(numbers.contains("63.42") && numbers.contains("63.6") && numbers.contains("54.8"), "{numbers}");
    assert_eq!(numbers, place.ok(&["show", "cifar100-b50-t5-lucir"]));
    for (words, message) in [
        (&["run", "cifar100-b50-t5", "wa"][..], "has no settings for wa; use one of "),
        (&["run", "demo", "wa+dfgr"], "not to wa; leave them out"),
        (&["run", "demo", "lucier"], "did you mean \"lucir\"?"),
        (&["run", "demo"], "demo is a protocol; name a method too"),
        (&["run", "my.toml", "lwf"], "a file has its method already"),
        (&["run", "demo", "lwf", "--exemplars", "20"], "lwf keeps no exemplars"),
    ] {
        let output = place.output(words);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(message), "{words:?}: {error}");
    }
}

#[test]
fn every_method_of_the_demo_runs_and_exemplars_are_counted() {
    let place = Place::new();
    for method in ["fine-tune", "joint", "lucir-e20", "frozen-discriminant"] {
        place.ok(&small_run(&format!("demo-{method}"), &[]));
    }
    let result = json(place.path().join("runs/demo-lucir-e20-s3/result.json"));
    assert_eq!(result["stored_bytes"], 4 * 20 * 3072);
    assert_eq!(result["tasks"][1]["nme_source"], "exemplars");
    assert_eq!(result["accuracy_matrix"].as_array().map(Vec::len), Some(2));
    // Four means of 16 features and their covariance; what the trained head says stands beside.
    let result = json(place.path().join("runs/demo-frozen-discriminant-s3/result.json"));
    assert_eq!(result["stored_bytes"], (4 + 16) * 16 * 8);
    assert!(result["tasks"][1]["accuracy_trained_head"].is_number());
    let table = place.ok(&["report", "runs/demo-frozen-discriminant-s3"]);
    assert!(table.contains("trained head"), "{table}");
}

/// Each file of a folder by its name.
fn contents(place: &Place, folder: &str) -> std::collections::BTreeMap<String, Vec<u8>> {
    let read = |name: String| {
        let content = std::fs::read(place.path().join(folder).join(&name)).expect("a file");
        (name, content)
    };
    place.list(folder).into_iter().map(read).collect()
}

/// What a run answered, by real images of all its classes: nothing is missing where the backbone stayed and the rule is
/// the same, and a run that is not over, or is changed by an option, is refused.
#[test]
fn a_finished_run_is_held_beside_true_statistics() {
    let place = Place::new();
    for (method, drifts) in
        [("demo-frozen-stages", false), ("demo-lucir-e0-stages", true), ("demo-lwf", true)]
    {
        place.ok(&small_run(method, &[]));
        let folder = format!("runs/{method}-s3");
        let before = contents(&place, &folder);
        assert_eq!(
            before.contains_key("statistics.safetensors"),
            method != "demo-lwf",
            "{:?}",
            before.keys()
        );
        let text = place.ok(&["audit", "--oracle", &folder, "--json"]);
        let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let result = json(place.path().join(&folder).join("result.json"));
        assert_eq!(found["all"]["run"]["all"], result["last_accuracy"], "{method}");
        assert_eq!(found["tasks"].as_array().expect("tasks").len(), 2);
        if method == "demo-lwf" {
            assert!(found["all"]["mean_drift"].is_null() && found["covariance_drift"].is_null());
        } else {
            let drift = found["tasks"][0]["mean_drift"].as_f64().expect("a number");
            assert_eq!(drift > 1e-3, drifts, "{method}: {drift}");
            assert!(found["tasks"][1]["mean_drift"].as_f64().expect("a number") < 1e-5);
        }
        if !drifts {
            for name in ["true_means", "true_covariance", "true_statistics"] {
                assert_eq!(found["all"][name], found["all"]["run"], "{name}");
            }
        }
        // What was found joins the folder, its digest the list of them, and nothing else changes.
        let mut after = contents(&place, &folder);
        let kept = after.remove("audit.json").expect("findings");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&kept).expect("JSON"), found);
        let (sums, old_sums) = (after.remove("SHA256SUMS").expect("sums"), &before["SHA256SUMS"]);
        let lines = |text: &[u8]| String::from_utf8(text.to_vec()).expect("text");
        let left =
            lines(&sums).lines().filter(|it| !it.ends_with("  audit.json")).collect::<Vec<_>>().join("\n");
        assert_eq!(left + "\n", lines(old_sums));
        assert!(
            after.iter().all(|(name, content)| content == &before[name]) && after.len() + 1 == before.len()
        );
        assert!(place.ok(&["audit", "--oracle", &folder]).contains("\nall "));
        assert_eq!(contents(&place, &folder)["audit.json"], kept, "a second audit finds the same");
        assert!(place.ok(&["report", &folder, "--verify"]).contains("intact"));
        place.ok(&["report", &folder, "--html", "page.html"]);
        let page = std::fs::read_to_string(place.path().join("page.html")).expect("a page");
        assert!(page.contains("Where points are missing") && page.contains("data-at=\"/all/probe/all\""));
    }
    // A changed file is refused in a sentence, and one that was removed is audited again.
    let audit = place.path().join("runs/demo-lwf-s3/audit.json");
    std::fs::write(&audit, "{}").expect("written");
    let message = place.message(1, &["report", "runs/demo-lwf-s3"]);
    assert!(
        message.contains("audit.json is not what the audit wrote") && message.contains("remove it"),
        "{message}"
    );
    std::fs::remove_file(&audit).expect("removed");
    place.ok(&["report", "runs/demo-lwf-s3"]);
    let message = place.message(1, &["report", "runs/demo-lwf-s3", "--verify"]);
    assert!(message.contains("1 of 1"), "{message}");
    place.ok(&["audit", "--oracle", "runs/demo-lwf-s3"]);
    assert!(place.ok(&["report", "runs/demo-lwf-s3", "--verify"]).contains("intact"));
    let message = place.message(2, &["audit", "--oracle", "runs/demo-lwf-s3", "--seed", "4"]);
    assert!(message.contains("leave --seed out"), "{message}");
    let message = place.message(2, &["audit", "--oracle", "runs/none"]);
    assert!(message.contains("is not a run folder"), "{message}");
}
