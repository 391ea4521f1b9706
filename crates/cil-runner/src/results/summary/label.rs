//! Labels of groups: a method's name, and what distinguishes the group from others in the same table.

use std::collections::BTreeSet;

use super::{Group, IMAGES, TASK, differing};

/// Keys that distinguish tasks where they differ in many.
const CHIEF: [&str; 2] = ["dataset", "increments"];
/// Most keys that a label names.
const NAMED: usize = 2;

/// Distinguishes groups of one method, and groups that learn different tasks, by the one or two keys in which they
/// differ; groups of one method that differ in more keys are numbered.
pub(super) fn label(groups: &mut [Group]) {
    let tasks = of_tasks(groups);
    let methods: BTreeSet<String> = groups.iter().map(|group| group.label.clone()).collect();
    for method in methods {
        let same: Vec<usize> = (0..groups.len()).filter(|at| groups[*at].label == method).collect();
        let keys = differing(same.iter().map(|at| &groups[*at].settings));
        let mut keys: Vec<String> = keys.into_iter().map(str::to_owned).collect();
        // Other settings make other images; the images are named where nothing else distinguishes the groups.
        if keys.iter().any(|key| !IMAGES.contains(&key.as_str())) {
            keys.retain(|key| !IMAGES.contains(&key.as_str()));
        }
        // What the table's tasks differ in is said of every row, unless a number stands for it.
        if keys.len() <= NAMED {
            let missing: Vec<String> = tasks.iter().filter(|key| !keys.contains(key)).cloned().collect();
            keys.extend(missing);
        }
        if keys.is_empty() {
            continue;
        }
        for (number, at) in same.iter().enumerate() {
            let value = |key: &String| {
                format!("{key} = {}", groups[*at].settings.get(key).map_or("unset", String::as_str))
            };
            let difference = match keys.len() {
                count if count <= NAMED || same.len() == 1 => {
                    keys.iter().map(value).collect::<Vec<_>>().join(", ")
                }
                _ => format!("settings {}", number + 1),
            };
            groups[*at].label = format!("{method} ({difference})");
        }
    }
}

/// Keys of the task in which the groups differ; the chief ones where there are many.
fn of_tasks(groups: &[Group]) -> Vec<String> {
    let mut keys = differing(groups.iter().map(|group| &group.settings));
    keys.retain(|key| !IMAGES.contains(key) && TASK.contains(&key.split('.').next().unwrap_or_default()));
    if keys.len() > NAMED {
        keys.retain(|key| CHIEF.contains(key));
    }
    keys.into_iter().map(str::to_owned).collect()
}
