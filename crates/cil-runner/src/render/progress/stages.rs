//! Progress of work that has no events: stages, each of so many parts.

use std::time::{Duration, Instant};

use super::{PARTS, Progress, View, duration};

/// Time between two lines of a stage.
const BETWEEN: Duration = Duration::from_secs(10);

/// A stage of the work.
pub(super) struct Stage {
    name: String,
    began: Instant,
    /// When its last line was printed.
    printed: Option<Instant>,
}

impl Progress {
    /// Shows that `done` of at most `most` parts of the stage `name` are done; `so_far` says so in words. The first
    /// call of a stage comes when its first part has ended, so the time left is computed from the other parts.
    pub fn stage(&mut self, name: &str, (done, most): (usize, usize), so_far: &str) {
        let now = Instant::now();
        if self.stage.as_ref().is_none_or(|it| it.name != name) {
            self.stage = Some(Stage { name: name.to_owned(), began: now, printed: None });
        }
        let Some(stage) = &mut self.stage else { return };
        let left = left(stage.began.elapsed(), done, most);
        let eta = left.map(|left| format!(", {} left", duration(left))).unwrap_or_default();
        let text = format!("{name}, {so_far}{eta}");
        match &self.view {
            View::Silent => {}
            View::Bar(bar) => {
                bar.set_message(text);
                bar.set_position(PARTS * done as u64 / most.max(1) as u64);
            }
            View::Lines(_) => {
                if done == most || stage.printed.is_none_or(|printed| printed.elapsed() >= BETWEEN) {
                    stage.printed = Some(now);
                    self.line(&text);
                }
            }
        }
    }
}

/// The most time that is left of a stage, where it is known.
fn left(since_the_first: Duration, done: usize, most: usize) -> Option<Duration> {
    let timed = u32::try_from(done.checked_sub(1).filter(|it| *it > 0)?).ok()?;
    let ahead = u32::try_from(most.checked_sub(done).filter(|it| *it > 0)?).ok()?;
    Some(since_the_first / timed * ahead)
}

#[cfg(test)]
mod tests {
    use super::super::tests::Shared;
    use super::*;

    #[test]
    fn the_time_left_is_that_of_the_parts_so_far() {
        let seconds = Duration::from_secs;
        assert_eq!(left(seconds(0), 1, 10), None, "the first part's beginning is not known");
        assert_eq!(left(seconds(6), 4, 10), Some(seconds(12)));
        assert_eq!(left(seconds(6), 10, 10), None);
        assert_eq!(left(seconds(6), 0, 10), None);
        assert_eq!(left(seconds(6), 7, 5), None);
    }

    #[test]
    fn a_stage_has_a_line_at_its_first_and_its_last_part_and_now_and_then() {
        let shared = Shared::default();
        let mut progress = Progress::lines("audit", Box::new(shared.clone()));
        for done in 1..=100 {
            progress.stage("images", (done, 100), &format!("class {done} of 100"));
        }
        progress.stage("probe", (1, 20), "step 1");
        let text = shared.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.first(), Some(&"audit: images, class 1 of 100"));
        assert!(lines.contains(&"audit: images, class 100 of 100"), "{text}");
        assert_eq!(lines.last(), Some(&"audit: probe, step 1"));
        assert!(lines.len() < 10, "{text}");
        Progress::silent().stage("images", (1, 2), "nothing");
    }
}
