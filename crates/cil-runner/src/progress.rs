//! What is seen while a run goes.
//!
//! One decision: on a terminal one bar over the whole run; elsewhere plain lines, so that logs stay readable. The time
//! left is weighed by what each kind of work took so far ([`Forecast`]). It goes to standard error: results alone go to
//! standard output.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use cil_train::event::Event;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::estimate::forecast::Forecast;
use crate::estimate::workload::Item;
use crate::record::Line;
use crate::report::phase_name;

/// After which time something that shows nothing of its own is told, and after which again.
const TOLD: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];
/// Parts of a bar.
pub(crate) const PARTS: u64 = 1000;

/// Shows the events of one run.
pub struct Progress {
    label: String,
    forecast: Forecast,
    /// Seconds of the last event.
    seconds: f64,
    view: View,
}

enum View {
    Silent,
    Bar(ProgressBar),
    Lines(Mutex<Box<dyn Write + Send>>),
}

impl Progress {
    /// Shows nothing.
    pub fn silent() -> Self {
        Self::new("", View::Silent)
    }

    /// A bar if standard error is a terminal, lines otherwise.
    pub fn on_standard_error(label: &str) -> Self {
        if !io::stderr().is_terminal() {
            return Self::lines(label, Box::new(io::stderr()));
        }
        Self::new(label, View::Bar(bar(label, "{prefix} [{bar:24}] {percent:>3}% {elapsed} {wide_msg}")))
    }

    /// Plain lines to `out`.
    pub fn lines(label: &str, out: Box<dyn Write + Send>) -> Self {
        Self::new(label, View::Lines(Mutex::new(out)))
    }

    fn new(label: &str, view: View) -> Self {
        Self { label: label.to_owned(), forecast: Forecast::default(), seconds: 0.0, view }
    }

    /// Says what there is to do, before the first event.
    pub fn expect(&mut self, items: Vec<Item>) {
        self.forecast = Forecast::new(items);
    }

    /// What is done next, in words.
    pub fn next(&self) -> String {
        match self.forecast.next() {
            Some((item, unit)) => {
                format!("task {} {} {unit}/{}", item.task, item.activity.name(), item.units)
            }
            None => "the end".to_owned(),
        }
    }

    /// Does `work`, and tells what it is if it takes longer than two seconds.
    pub fn during<T>(&self, what: &str, work: impl FnOnce() -> T) -> T {
        if let View::Silent = self.view {
            return work();
        }
        let (end, ended) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || self.tell_until(what, &ended));
            let result = work();
            drop(end);
            result
        })
    }

    fn tell_until(&self, what: &str, ended: &Receiver<()>) {
        let (start, mut wait) = (Instant::now(), TOLD[0]);
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(wait) {
            let text = format!("{what}, {} so far", duration(start.elapsed()));
            match &self.view {
                View::Silent => {}
                View::Bar(bar) => {
                    bar.set_message(text);
                    wait = TOLD[0];
                    continue;
                }
                View::Lines(out) => {
                    // Best effort: the next event tells if standard error is gone.
                    let _ = writeln!(
                        out.lock().unwrap_or_else(PoisonError::into_inner),
                        "{}: {text}",
                        self.label
                    );
                }
            }
            wait = TOLD[1];
        }
    }

    /// Takes note of an event of an earlier process, and shows nothing.
    pub fn past(&mut self, line: &Line) {
        let took = (line.seconds - self.seconds).max(0.0);
        self.seconds = line.seconds;
        self.forecast.note(&line.event, took);
    }

    /// Says a sentence that matters even where progress is not shown.
    ///
    /// # Errors
    /// If standard error is gone.
    pub fn say(&self, text: &str) -> Result<()> {
        match &self.view {
            View::Silent => Ok(writeln!(io::stderr(), "{text}")?),
            View::Bar(bar) => {
                bar.println(text);
                Ok(())
            }
            View::Lines(out) => {
                Ok(writeln!(out.lock().unwrap_or_else(PoisonError::into_inner), "{}: {text}", self.label)?)
            }
        }
    }

    /// Shows an event.
    pub fn show(&mut self, line: &Line) -> Result<()> {
        let took = (line.seconds - self.seconds).max(0.0);
        self.seconds = line.seconds;
        self.forecast.note(&line.event, took);
        let left = self.forecast.seconds_left().filter(|left| *left > 0.0);
        let eta =
            left.map_or(String::new(), |it| format!("about {} left", duration(Duration::from_secs_f64(it))));
        let Some(mut text) = sentence(&line.event) else { return Ok(()) };
        if let Event::Progress { images, .. } = line.event {
            if took > 0.0 {
                text.push_str(&format!(", {:.0} images/s", images as f64 / took));
            }
            if let Some(bytes) = line.peak_memory_bytes {
                text.push_str(&format!(", {} MiB", bytes >> 20));
            }
        }
        match &self.view {
            View::Silent => {}
            View::Bar(bar) => {
                if let Event::Progress { .. } = line.event {
                    bar.set_message(format!("{eta}; {text}"));
                } else {
                    bar.println(format!("{}: {text}", self.label));
                }
                if let Some(left) = left {
                    bar.set_position((PARTS as f64 * line.seconds / (line.seconds + left)) as u64);
                }
            }
            View::Lines(out) => {
                let eta = if eta.is_empty() { eta } else { format!(", {eta}") };
                let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
                writeln!(out, "{}: {text}{eta}", self.label)?;
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

/// A bar of a thousand parts on standard error, with that prefix and template.
pub(crate) fn bar(prefix: &str, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(PARTS), ProgressDrawTarget::stderr());
    // Templates are constants: a wrong one would show in every run, as indicatif's own bar.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(prefix.to_owned());
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
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
    use std::sync::Arc;

    use cil_train::event::PhaseKind;

    use super::*;
    use crate::estimate::workload::Activity;

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

    impl Shared {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn line(seconds: f64, event: Event) -> Line {
        Line { seconds, peak_memory_bytes: Some(5 << 20), event }
    }

    #[test]
    fn lines_are_plain_and_tell_what_is_left() {
        let shared = Shared::default();
        let mut progress = Progress::lines("demo-lwf", Box::new(shared.clone()));
        let item = |activity, units, work| Item { task: 1, activity, units, work };
        progress.expect(vec![item(Activity::Student, 2, 10.0), item(Activity::Evaluation, 1, 5.0)]);
        assert_eq!(progress.next(), "task 1 student 1/2");
        let start = Event::TaskStart { task: 1, new_classes: 2, classes_seen: 8 };
        progress.show(&line(1.0, start)).unwrap();
        let losses: std::collections::BTreeMap<_, _> = [("cross-entropy".to_owned(), 0.5)].into();
        let (phase, learning_rate) = (PhaseKind::Student, 0.1);
        for (seconds, done) in [(5.0, 1), (9.0, 2)] {
            let losses = losses.clone();
            let event = Event::Progress { task: 1, phase, done, total: 2, learning_rate, images: 8, losses };
            progress.show(&line(seconds, event)).unwrap();
        }
        progress.show(&line(9.0, Event::RunEnd)).unwrap();
        assert_eq!(
            shared.text(),
            "demo-lwf: task 1: 2 new classes, 8 in all\n\
             demo-lwf: task 1 student 1/2, rate 0.1000, cross-entropy 0.500, 2 images/s, 5 MiB, about 6 s left\n\
             demo-lwf: task 1 student 2/2, rate 0.1000, cross-entropy 0.500, 2 images/s, 5 MiB, about 2 s left\n"
        );
    }

    #[test]
    fn what_takes_long_is_told_while_it_goes() {
        let shared = Shared::default();
        let progress = Progress::lines("a", Box::new(shared.clone()));
        assert_eq!(progress.during("reading", || 7), 7);
        assert_eq!(shared.text(), "");
        let start = Instant::now();
        progress.during("reading", || {
            while shared.text().is_empty() && start.elapsed() < Duration::from_secs(20) {
                thread::sleep(Duration::from_millis(20));
            }
        });
        assert_eq!(shared.text(), "a: reading, 2 s so far\n");
    }

    #[test]
    fn times_are_of_two_units_at_most() {
        assert_eq!(duration(Duration::from_secs(3725)), "1 h 2 min");
        assert_eq!(duration(Duration::from_secs(65)), "1 min 5 s");
    }
}
