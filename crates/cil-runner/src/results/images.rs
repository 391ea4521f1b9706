//! How training images of runs were changed, for a table: accuracies differ by more than most methods do by this alone.

use crate::results::summary::Summary;

/// A sentence for each way in which training images were changed, with the methods if there are several ways.
pub fn sentences(summary: &Summary) -> Vec<String> {
    let mut ways: Vec<(String, Vec<&str>)> = Vec::new();
    for group in &summary.groups {
        let Some(run) = group.runs.first() else { continue };
        let way = summary.runs[*run].checked.config().augmentation.to_string();
        match ways.iter_mut().find(|it| it.0 == way) {
            Some((_, methods)) => methods.push(&group.label),
            None => ways.push((way, vec![&group.label])),
        }
    }
    match &ways[..] {
        [(way, _)] => vec![format!("training images: {way}")],
        ways => ways
            .iter()
            .map(|(way, methods)| format!("training images of {}: {way}", methods.join(", ")))
            .collect(),
    }
}
