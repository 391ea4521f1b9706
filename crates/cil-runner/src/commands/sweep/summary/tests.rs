//! Reports of run folders that are written by hand.

use std::path::Path;

use super::*;
use crate::commands::sweep::expand::{Expanded, expand};
use crate::commands::sweep::file::SweepFile;
use crate::render::page::tests::write;

const SMALL: &str = "set = [\"classes=4\", \"increments=[2, 2]\", \"procedural.config.classes=4\"]\n";

fn meant(folder: &Path) -> Meant {
    let text = format!(
        "seeds = [1, 2, 3]\nbaseline = \"lwf\"\n{SMALL}[[method]]\npreset = \"demo-lwf\"\n\
         [[method]]\npreset = \"demo-fine-tune\"\n"
    );
    let file: SweepFile = toml::from_str(&text).unwrap();
    let expanded: Expanded = expand(&file, Path::new("a.toml"), "portable").unwrap();
    Meant { file, expanded, folder: SweepFolder::new(folder, "a"), kernels: "portable" }
}

/// A run folder of that method and seed, in which that many of ten images of each old class are right in the end.
fn done(meant: &Meant, method: &str, seed: u64, right: u32) -> PathBuf {
    write(meant.folder.path(), &format!("demo-{method}"), seed, right, 10)
}

#[test]
fn methods_have_means_spreads_and_paired_differences_as_in_every_report() {
    let place = tempfile::tempdir().unwrap();
    let meant = meant(place.path());
    for (method, seed, right) in
        [("lwf", 1, 5), ("lwf", 2, 6), ("lwf", 3, 7), ("fine-tune", 1, 7), ("fine-tune", 3, 8)]
    {
        done(&meant, method, seed, right);
    }
    let all = shown(&meant).unwrap();
    let it = summary(&meant, &all).unwrap();
    assert_eq!((it.done, it.folders.len(), it.warnings.len()), ([5, 6], 5, 0));
    let (lwf, other) = (&it.rows[0], &it.rows[1]);
    assert!((lwf.last_accuracy.unwrap().deviation.unwrap() - 0.1).abs() < 1e-9);
    assert!(lwf.last_difference.is_none());
    // Seeds 1 and 3 are done of both: 0.7 - 0.5 and 0.8 - 0.7.
    let difference = other.last_difference.unwrap();
    assert_eq!(difference.count, 2);
    assert!((difference.mean - 0.15).abs() < 1e-9, "{difference:?}");
    let choice = Choice { baseline: Some("lwf".to_owned()), ..Choice::default() };
    let compared = Comparison::new(&all, &choice).unwrap();
    let text = latex::markdown(&compared);
    let row = "| fine-tune | 2 of 3 | **75.0 ± 7.1** | **82.5 ± 3.5** | **75.0 ± 7.1** | **75.0 ± 7.1** | **15.0 ± 7.1** | \
               11.2 ± 0.0 | +15.0 ± 7.1 | +7.5 ± 3.5 |";
    assert!(text.contains(row), "{text}");
    assert!(
        text.contains("| lwf | 3 | 60.0 ± 10.0 |") && text.contains("last accuracy minus lwf, points"),
        "{text}"
    );
    assert!(it.notes().contains("5 of 6 runs are done."));
    // The very same as `report` of the folders says.
    let plain = Summary::load_of(&meant);
    let apart = latex::markdown(&Comparison::new(&plain, &choice).unwrap());
    assert_eq!(apart.replace("| 2 |", "| 2 of 3 |"), text);
}

impl Summary {
    /// The runs as `report` reads them.
    fn load_of(meant: &Meant) -> Shown {
        let folders: Vec<PathBuf> = meant.done().unwrap().into_iter().map(|it| it.1).collect();
        Shown::load(&folders, Orders::Apart).unwrap()
    }
}

#[test]
fn a_sweep_with_nothing_done_has_its_rows() {
    let place = tempfile::tempdir().unwrap();
    let meant = meant(place.path());
    let all = shown(&meant).unwrap();
    let choice = Choice { baseline: meant.file.baseline.clone(), ..Choice::default() };
    let text = latex::markdown(&Comparison::new(&all, &choice).unwrap());
    assert!(text.contains("| lwf | 0 of 3 | – |") && text.contains("| fine-tune | 0 of 3 |"), "{text}");
    assert_eq!(summary(&meant, &all).unwrap().done, [0, 6]);
}

#[test]
fn versions_are_named_and_other_images_are_not_averaged_in_a_sweep_and_in_a_report_alike() {
    let place = tempfile::tempdir().unwrap();
    let meant = meant(place.path());
    let change = |folder: &Path, from: &str, to: &str| {
        let path = folder.join("env.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        std::fs::write(path, text.replace(from, to)).unwrap();
    };
    done(&meant, "lwf", 1, 5);
    change(&done(&meant, "lwf", 2, 7), "\"code_version\":\"1\"", "\"code_version\":\"2\"");
    let warnings = ["these runs were made with several code versions: 1, 2"];
    for all in [shown(&meant).unwrap(), Summary::load_of(&meant)] {
        assert_eq!(all.warnings(), warnings);
        assert_eq!((all.groups.len(), &all.groups[0].counted[..]), (1, &[0, 1][..]));
    }
    for (from, to) in
        [("0123456789abcdef", "fedcba9876543210"), ("\"test_digest\":\"0\"", "\"test_digest\":\"1\"")]
    {
        let third = done(&meant, "lwf", 3, 9);
        change(&third, from, to);
        for all in [shown(&meant).unwrap(), Summary::load_of(&meant)] {
            assert_eq!(all.groups.len(), 2, "{from}");
            assert_ne!(all.groups[0].label, all.groups[1].label);
            assert_eq!(all.groups.iter().map(|it| it.counted.len()).collect::<Vec<_>>(), [2, 1]);
            assert!(
                all.warnings()[1].contains("had different ones; they are not averaged"),
                "{:?}",
                all.warnings()
            );
        }
    }
}
