//! What is seen while a run goes.
//!
//! One decision: on a terminal one bar over the whole run with its ETA; elsewhere plain lines, so that logs stay
//! readable. It goes to standard error: results alone go to standard output.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;
use cil_train::event::Event;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::phase_name;

/// Shows the events of one run.
pub struct Progress {
    label: String,
    done: u64,
    total: u64,
    started: Instant,
    view: View,
}

enum View {
    Silent,
    Bar(ProgressBar),
    Lines(Box<dyn Write>),
}

impl Progress {
    /// Shows nothing.
    pub fn silent() -> Self {
        Self::new("", 0, View::Silent)
    }

    /// A bar if standard error is a terminal, lines otherwise. `total`: units of the whole run.
    pub fn on_standard_error(label: &str, total: u64) -> Self {
        if !io::stderr().is_terminal() {
            return Self::lines(label, total, Box::new(io::stderr()));
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        // The template is a constant of this file: a wrong one would show in every run, as indicatif's own bar.
        if let Ok(style) =
            ProgressStyle::with_template("{prefix} [{bar:24}] {percent:>3}% ETA {eta} {wide_msg}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(label.to_owned());
        bar.enable_steady_tick(Duration::from_secs(1));
        Self::new(label, total, View::Bar(bar))
    }

    /// Plain lines to `out`.
    pub fn lines(label: &str, total: u64, out: Box<dyn Write>) -> Self {
        Self::new(label, total, View::Lines(out))
    }

    fn new(label: &str, total: u64, view: View) -> Self {
        Self { label: label.to_owned(), done: 0, total, started: Instant::now(), view }
    }

    /// Does `work`, and shows what it is while it takes longer than two seconds.
    pub fn during<T>(&self, what: &str, work: impl FnOnce() -> T) -> T {
        let _ = what;
        work()
    }

    /// Shows an event.
    pub fn show(&mut self, event: &Event) -> Result<()> {
        if let Event::Progress { .. } = event {
            self.done += 1;
        }
        let remaining = remaining(self.started.elapsed(), self.done, self.total);
        match &mut self.view {
            View::Silent => {}
            View::Bar(bar) => match (event, sentence(event)) {
                (Event::Progress { .. }, Some(text)) => {
                    bar.set_position(self.done);
                    bar.set_message(text);
                }
                (_, Some(text)) => bar.println(format!("{}: {text}", self.label)),
                (_, None) => {}
            },
            View::Lines(out) => {
                if let Some(text) = sentence(event) {
                    let eta = remaining.map_or(String::new(), |it| format!(", about {} left", duration(it)));
                    writeln!(out, "{}: {text}{eta}", self.label)?;
                }
            }
        }
        Ok(())
    }

    /// Clears the bar, so that what follows is printed on a clean line.
    pub fn finish(&mut self) {
        if let View::Bar(bar) = &self.view {
            bar.finish_and_clear();
        }
    }
}

/// Time left if the remaining units take as long as those done; `None` where nothing is left or known.
fn remaining(elapsed: Duration, done: u64, total: u64) -> Option<Duration> {
    let left = total.checked_sub(done)?;
    (done > 0 && left > 0).then(|| elapsed.mul_f64(left as f64 / done as f64))
}

fn sentence(event: &Event) -> Option<String> {
    Some(match event {
        Event::TaskStart { task, new_classes, classes_seen } => {
            format!("task {task}: {new_classes} new classes, {classes_seen} in all")
        }
        Event::Progress { task, phase, done, total, learning_rate, losses, .. } => {
            let losses: Vec<String> =
                losses.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
            let phase = phase_name(*phase);
            format!("task {task} {phase} {done}/{total}, rate {learning_rate:.4}, {}", losses.join(", "))
        }
        Event::TaskEnd { task, evaluation } => {
            let rows = &evaluation.classifier.rows;
            let accuracy = cil_train::metrics::accuracy(&evaluation.classifier, 0..rows.len()).unwrap_or(0.0);
            format!("task {task} learned: {:.1} % of {} classes", accuracy * 100.0, rows.len())
        }
        Event::TaskLearned { .. } | Event::RunEnd => return None,
    })
}

/// A time in words of two units at most.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use cil_train::event::PhaseKind;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_plain() {
        let shared = Shared::default();
        let mut progress = Progress::lines("demo-lwf", 2, Box::new(shared.clone()));
        progress.show(&Event::TaskStart { task: 1, new_classes: 2, classes_seen: 8 }).unwrap();
        let losses = [("cross-entropy".to_owned(), 0.5)].into();
        let (phase, learning_rate) = (PhaseKind::Student, 0.1);
        let event = Event::Progress { task: 1, phase, done: 2, total: 2, learning_rate, images: 3, losses };
        progress.show(&event).unwrap();
        progress.show(&event).unwrap();
        progress.show(&Event::RunEnd).unwrap();
        let text = String::from_utf8(shared.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], "demo-lwf: task 1: 2 new classes, 8 in all");
        assert!(lines[1].ends_with(", about 0 s left"), "{}", lines[1]);
        assert_eq!(lines[2], "demo-lwf: task 1 student 2/2, rate 0.1000, cross-entropy 0.500");
    }

    #[test]
    fn the_rest_is_estimated_from_what_is_done() {
        assert_eq!(remaining(Duration::from_secs(10), 2, 6), Some(Duration::from_secs(20)));
        assert_eq!(remaining(Duration::from_secs(10), 0, 6), None);
        assert_eq!(remaining(Duration::from_secs(10), 6, 6), None);
        assert_eq!(duration(Duration::from_secs(3725)), "1 h 2 min");
        assert_eq!(duration(Duration::from_secs(65)), "1 min 5 s");
    }
}
