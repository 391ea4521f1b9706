//! Findings are kept beside their digest, and those of another run are refused.

use super::sample::findings;
use super::*;
use crate::folder::integrity;
use crate::render::page::tests::write;
use crate::results::recorded::Recorded;

#[test]
fn findings_are_kept_beside_their_digest_and_nothing_else_changes() {
    let place = tempfile::tempdir().unwrap();
    let folder = write(place.path(), "demo-lwf", 1, 5, 10);
    let found = || Recorded::load(&folder).unwrap().found;
    assert_eq!(found(), None);
    // A folder without digests keeps none.
    Found::new(findings()).write(&folder).unwrap();
    assert_eq!(found(), Some(findings()));
    assert!(!folder.join(SUMS).exists());
    // One with digests has one more, and one alone after a second audit.
    std::fs::remove_file(folder.join(FINDINGS)).unwrap();
    let mut sums = Sums::default();
    sums.set("env.json", &std::fs::read(folder.join("env.json")).unwrap());
    sums.write(&folder).unwrap();
    let before = std::fs::read_to_string(folder.join(SUMS)).unwrap();
    for _ in 0..2 {
        Found::new(findings()).write(&folder).unwrap();
        let lines = std::fs::read_to_string(folder.join(SUMS)).unwrap();
        assert!(lines.ends_with(&before) && lines.lines().count() == 2, "{lines}");
        assert_eq!(read(&folder, &Increments::new(vec![2, 2], 4).unwrap()).unwrap(), Some(findings()));
    }
    // What was changed, or was not written by an audit, is refused in a sentence.
    std::fs::write(folder.join(FINDINGS), "{}").unwrap();
    let content = std::fs::read(folder.join(FINDINGS)).unwrap();
    let message = integrity::hold_file(&folder.join(FINDINGS), &content).unwrap_err().to_string();
    let expected =
        "is not what the audit wrote: SHA256SUMS beside it has another digest; remove it, and audit";
    assert!(message.contains(expected), "{message}");
    std::fs::write(folder.join(SUMS), before).unwrap();
    let message = read(&folder, &Increments::new(vec![2, 2], 4).unwrap()).unwrap_err().to_string();
    assert!(message.contains("has no digest of") && message.contains("audit the run again"), "{message}");
}

#[test]
fn findings_of_another_run_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let folder = write(place.path(), "demo-lwf", 1, 5, 10);
    let message = |found: &Found| {
        found.write(&folder).unwrap();
        Recorded::load(&folder).unwrap_err().to_string()
    };
    let mut of = findings();
    of.tasks[0].classes = 3;
    let text = message(&Found::new(of));
    assert!(text.contains("is of tasks of [3, 2] classes, the run of [2, 2]; remove it"), "{text}");
    let text = message(&Found { format: 2, findings: findings() });
    assert!(text.contains("has the format 2, this program reads 1"), "{text}");
    let mut of = findings();
    of.all.probe.all = 1.5;
    assert!(message(&Found::new(of)).contains("no share"));
    let mut of = findings();
    of.covariance_drift = Some(-0.5);
    assert!(message(&Found::new(of)).contains("a distance below 0"));
    for text in ["", "{\"format\": 1}", "[1, 2"] {
        std::fs::write(folder.join(FINDINGS), text).unwrap();
        let error = Recorded::load(&folder).unwrap_err();
        let message = crate::cli::failure::sentence(&error);
        assert!(message.contains("audit the run again") && message.contains("audit.json"), "{message}");
    }
}
