//! Results computed by hand.

use cil_train::event::PhaseKind;

use super::*;

fn facts() -> Facts {
    Facts {
        preset: Some("demo-lwf".into()),
        method: "lwf".into(),
        dataset: "procedural".into(),
        evaluated_on: "test".into(),
        seed: 1,
        class_order: vec![2, 0, 1],
        increments: vec![2, 1],
        exemplars_per_class: Some(0),
    }
}

fn line(seconds: f64, event: Event) -> Line {
    Line { seconds, peak_memory_bytes: Some((seconds * 10.0) as u64), event }
}

fn progress(task: usize, phase: PhaseKind, images: usize) -> Event {
    Event::Progress { task, phase, done: 1, total: 1, learning_rate: 0.1, images, losses: BTreeMap::new() }
}

fn evaluation(rows: Vec<Vec<u32>>, top5: Vec<u32>, task_aware: Vec<u32>) -> Evaluation {
    Evaluation {
        classifier: Confusion { rows },
        top5,
        task_aware,
        trained_head: None,
        nearest_mean: None,
        nearest_mean_source: "no exemplars are kept".into(),
    }
}

fn lines() -> Vec<Line> {
    let base = evaluation(vec![vec![3, 1], vec![0, 4]], vec![4, 4], vec![3, 4]);
    let mut last =
        evaluation(vec![vec![2, 0, 2], vec![1, 1, 2], vec![0, 0, 4]], vec![4, 4, 4], vec![3, 2, 4]);
    last.nearest_mean = Some(Confusion { rows: vec![vec![4, 0, 0], vec![0, 4, 0], vec![0, 3, 1]] });
    last.nearest_mean_source = "exemplars".into();
    vec![
        line(0.5, Event::TaskStart { task: 0, new_classes: 2, classes_seen: 2 }),
        line(2.5, progress(0, PhaseKind::Student, 100)),
        line(3.0, Event::TaskLearned { task: 0, stored_bytes: 7, exemplars: Some(2) }),
        line(3.25, Event::TaskEnd { task: 0, evaluation: base }),
        line(3.25, Event::TaskStart { task: 1, new_classes: 1, classes_seen: 3 }),
        line(4.25, progress(1, PhaseKind::Inversion, 20)),
        line(6.25, progress(1, PhaseKind::Student, 80)),
        line(6.5, Event::TaskLearned { task: 1, stored_bytes: 5, exemplars: Some(3) }),
        line(7.0, Event::TaskEnd { task: 1, evaluation: last }),
        line(7.0, Event::RunEnd),
    ]
}

#[test]
fn a_result_is_computed_from_events() {
    let result = report(facts(), &lines()).unwrap();
    assert_eq!(result.tasks.len(), 2);
    let (base, last) = (&result.tasks[0], &result.tasks[1]);
    assert_eq!((base.accuracy, base.old_accuracy, base.new_accuracy), (7.0 / 8.0, None, 7.0 / 8.0));
    assert_eq!((base.accuracy_nme, base.nme_source.as_str()), (None, "no exemplars are kept"));
    assert_eq!((last.accuracy, last.old_accuracy, last.new_accuracy), (7.0 / 12.0, Some(3.0 / 8.0), 1.0));
    assert_eq!((last.accuracy_nme, last.nme_source.as_str()), (Some(9.0 / 12.0), "exemplars"));
    // Among three classes everyone is one of the five likeliest.
    assert_eq!((last.task_aware_accuracy, last.top5), (9.0 / 12.0, None));
    assert_eq!(result.accuracy_matrix, [vec![7.0 / 8.0], vec![3.0 / 8.0, 1.0]]);
    assert_eq!(result.average_incremental_accuracy, (7.0 / 8.0 + 7.0 / 12.0) / 2.0);
    assert_eq!(result.last_accuracy, 7.0 / 12.0);
    assert_eq!(result.forgetting, Some(0.5));
    assert_eq!((result.stored_bytes, result.exemplars_kept), (7, Some(3)));
    assert_eq!(result.wall_seconds, 7.0);
    assert_eq!(result.peak_memory_bytes, Some(70));
    assert_eq!(result.images_per_second, 200.0 / 5.0);
    let rates = [("inversion", 20.0), ("student", 180.0 / 4.0)];
    assert_eq!(result.phase_images_per_second, rates.map(|(name, rate)| (name.to_owned(), rate)).into());
    let phases =
        [("evaluation", 0.75), ("inversion", 1.0), ("memory", 0.75), ("preparation", 0.5), ("student", 4.0)];
    assert_eq!(result.phase_seconds, phases.map(|(name, seconds)| (name.to_owned(), seconds)).into());
}

#[test]
fn exemplars_are_reported_as_they_were_kept_and_not_as_they_were_asked_for() {
    let kept_of = |asked: Option<usize>, kept: Option<u64>| {
        let mut lines = lines();
        for line in &mut lines {
            if let Event::TaskLearned { exemplars, .. } = &mut line.event {
                *exemplars = kept;
            }
        }
        let result = report(Facts { exemplars_per_class: asked, ..facts() }, &lines).unwrap();
        (result.facts.exemplars_per_class, result.exemplars_kept)
    };
    assert_eq!(kept_of(Some(600), Some(1500)), (Some(500), Some(1500)));
    assert_eq!(kept_of(Some(20), Some(60)), (Some(20), Some(60)));
    assert_eq!(kept_of(None, Some(2000)), (None, Some(2000)));
    assert_eq!(kept_of(Some(600), None), (Some(600), None), "an old log does not tell");
}

#[test]
fn top_5_is_reported_for_more_than_five_classes() {
    let rows: Vec<Vec<u32>> = (0..6).map(|at| (0..6).map(|to| u32::from(at == to)).collect()).collect();
    let top5_of = |classes: usize, top5: u32| {
        let rows = rows[..classes].iter().map(|row| row[..classes].to_vec()).collect();
        let evaluation = evaluation(rows, vec![top5; classes], vec![1; classes]);
        task_result(0, &evaluation, &[classes]).unwrap().top5
    };
    assert_eq!((top5_of(5, 1), top5_of(6, 1), top5_of(6, 0)), (None, Some(1.0), Some(0.0)));
}

#[test]
fn all_promised_keys_are_written() {
    let json = serde_json::to_value(report(facts(), &lines()).unwrap()).unwrap();
    let keys = "format preset method dataset seed class_order increments exemplars_per_class tasks accuracy_matrix \
                average_incremental_accuracy last_accuracy forgetting stored_bytes wall_seconds phase_seconds \
                peak_memory_bytes images_per_second forgetting_forms evaluated_on exemplars_kept \
                phase_images_per_second";
    for key in keys.split_whitespace() {
        assert!(json.get(key).is_some(), "{key} is missing");
    }
    let task = "task classes_seen accuracy accuracy_nme nme_source task_aware_accuracy top5 old_accuracy new_accuracy";
    for key in task.split_whitespace() {
        assert!(json["tasks"][0].get(key).is_some(), "{key} is missing in tasks");
    }
    assert!(json["tasks"][0]["old_accuracy"].is_null());
    let back: RunResult = serde_json::from_value(json).unwrap();
    assert_eq!(back, report(facts(), &lines()).unwrap());
}

#[test]
fn a_run_that_still_goes_has_the_result_of_its_tasks_so_far() {
    assert_eq!(so_far(facts(), &lines()[..3]).unwrap(), None);
    let half = so_far(facts(), &lines()[..7]).unwrap().unwrap();
    assert_eq!((half.tasks.len(), half.last_accuracy, half.forgetting), (1, 7.0 / 8.0, None));
    assert_eq!((half.wall_seconds, half.phase_seconds["student"]), (6.25, 4.0));
    assert_eq!(so_far(facts(), &lines()).unwrap().unwrap(), report(facts(), &lines()).unwrap());
    let mut fewer = facts();
    fewer.increments = vec![2];
    let error = so_far(fewer, &lines()).unwrap_err().to_string();
    assert_eq!(error, "2 tasks were evaluated, the run has 1");
}

#[test]
fn an_incomplete_log_gives_no_result() {
    let message = |lines: &[Line]| report(facts(), lines).unwrap_err().to_string();
    assert_eq!(message(&lines()[..9]), "the run did not end: 2 of 2 tasks were evaluated");
    let mut skipped = lines();
    skipped.remove(3);
    assert_eq!(message(&skipped), "task 2 was evaluated where task 1 was due");
    let mut short = lines();
    short.remove(8);
    assert_eq!(message(&short), "1 tasks were evaluated, the run has 2");
    let mut other = facts();
    other.increments = vec![3, 1];
    let error = report(other, &lines()).unwrap_err();
    assert_eq!(format!("{error:#}"), "in task 1: the confusion matrix is not 3 by 3");
}
