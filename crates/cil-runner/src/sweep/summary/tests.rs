//! Reports of results that are written by hand.

use std::path::Path;

use super::*;
use crate::sweep::expand::{Expanded, expand};
use crate::sweep::file::SweepFile;

fn meant(folder: &Path) -> Meant {
    let text = "seeds = [1, 2, 3]\nbaseline = \"lwf\"\n[[method]]\npreset = \"demo-lwf\"\n\
                [[method]]\npreset = \"demo-joint\"\n";
    let file: SweepFile = toml::from_str(text).unwrap();
    let expanded: Expanded = expand(&file, Path::new("a.toml"), "portable").unwrap();
    Meant { file, expanded, folder: SweepFolder::new(folder, "a"), kernels: "portable" }
}

/// A run folder with the numbers that a report reads.
fn write(meant: &Meant, at: usize, last: f64, code_version: &str) {
    let run = &meant.expanded.runs[at];
    let folder = meant.folder.path().join(&run.name);
    std::fs::create_dir_all(&folder).unwrap();
    let task = |task: usize, accuracy: f64, old: Option<f64>| {
        serde_json::json!({
            "task": task, "classes_seen": 6, "accuracy": accuracy, "accuracy_nme": null, "nme_source": "none",
            "task_aware_accuracy": 1.0, "top5": 1.0, "old_accuracy": old, "new_accuracy": 0.5,
        })
    };
    let result = serde_json::json!({
        "format": 1, "preset": null, "method": run.method, "dataset": "procedural", "evaluated_on": "test",
        "seed": run.checked.config().seed, "class_order": [0], "increments": [6, 2, 2],
        "exemplars_per_class": 0, "tasks": [task(0, 0.9, None), task(1, last, Some(last))],
        "accuracy_matrix": [], "average_incremental_accuracy": (0.9 + last) / 2.0, "last_accuracy": last,
        "forgetting": 0.1, "forgetting_forms": null, "stored_bytes": 0, "wall_seconds": 12.0,
        "phase_seconds": {}, "peak_memory_bytes": null, "images_per_second": 1.0,
    });
    let environment = serde_json::json!({
        "code_version": code_version, "candle_version": "0", "kernels": "portable", "threads": 1,
        "processor": null, "train_digest": "0", "test_digest": "0", "base_model": null,
    });
    std::fs::write(folder.join("config.toml"), run.checked.text()).unwrap();
    std::fs::write(folder.join("result.json"), result.to_string()).unwrap();
    std::fs::write(folder.join("env.json"), environment.to_string()).unwrap();
}

#[test]
fn methods_have_means_spreads_and_paired_differences() {
    let place = tempfile::tempdir().unwrap();
    let meant = meant(place.path());
    for (at, last) in [(0, 0.5), (1, 0.6), (2, 0.7), (3, 0.75), (5, 0.85)] {
        write(&meant, at, last, "1");
    }
    let it = summary(&meant).unwrap();
    assert_eq!((it.done, it.folders.len(), it.warnings.len()), ([5, 6], 5, 0));
    let (lwf, joint) = (&it.rows[0], &it.rows[1]);
    assert!((lwf.last_accuracy.unwrap().deviation.unwrap() - 0.1).abs() < 1e-9);
    assert!(lwf.last_difference.is_none());
    // Seeds 1 and 3 are done of both.
    let difference = joint.last_difference.unwrap();
    assert_eq!(difference.count, 2);
    assert!((difference.mean - 0.2).abs() < 1e-9, "{difference:?}");
    let text = it.markdown();
    let row = "| joint | 2 of 3 | 85.0 ± 3.5 | 80.0 ± 7.1 | 80.0 ± 7.1 | 50.0 ± 0.0 | 10.0 ± 0.0 | 12 |";
    assert!(text.contains(row), "{text}");
    assert!(text.contains("| lwf | 3 |") && text.contains("5 of 6 runs are done."), "{text}");
    assert!(text.contains("last minus lwf"), "{text}");
}

#[test]
fn runs_of_several_code_versions_are_told() {
    let place = tempfile::tempdir().unwrap();
    let meant = meant(place.path());
    write(&meant, 0, 0.5, "1");
    write(&meant, 1, 0.5, "2");
    let it = summary(&meant).unwrap();
    assert_eq!(it.warnings, ["these runs were made with several code versions: 1, 2"]);
}
