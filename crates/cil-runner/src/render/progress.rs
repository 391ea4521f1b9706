//! The progress of a run.
//!
//! A terminal shows one bar over the whole run; a file, a pipe or `TERM=dumb` gets plain lines, so that logs stay
//! readable. The time left is weighted by what each kind of work took so far ([`Forecast`]). Progress goes to standard
//! error, results to standard output; a line that cannot be written is dropped, and the work continues. Tasks are
//! counted from 1 here, as people count them; in files they are counted from 0.

mod stages;

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cil_train::event::Event;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::estimate::forecast::Forecast;
use crate::estimate::workload::Item;
use crate::folder::log::Line;

/// The time after which a bar names a slow step.
const BAR_TOLD: Duration = Duration::from_secs(2);
/// The same of lines: an epoch that ends sooner has one line, its own.
const LINES_TOLD: Duration = Duration::from_secs(30);
/// Parts of a bar.
pub(crate) const PARTS: u64 = 1000;

/// Shows the events of one run.
pub struct Progress {
    label: String,
    forecast: Forecast,
    /// Seconds of the last event.
    seconds: f64,
    view: View,
    /// The time after which lines name a slow step.
    patience: Duration,
    /// What is being done, of work that has no events.
    stage: Option<stages::Stage>,
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

    /// A bar if standard error is a terminal that can draw one, lines otherwise.
    pub fn on_standard_error(label: &str) -> Self {
        match bar(label, "{prefix} [{bar:10}] {percent:>3}% {wide_msg}") {
            Some(bar) => Self::new(label, View::Bar(bar)),
            None => Self::lines(label, Box::new(io::stderr())),
        }
    }

    /// Plain lines to `out`.
    pub fn lines(label: &str, out: Box<dyn Write + Send>) -> Self {
        Self::new(label, View::Lines(Mutex::new(out)))
    }

    fn new(label: &str, view: View) -> Self {
        let (label, forecast) = (label.to_owned(), Forecast::default());
        Self { label, forecast, seconds: 0.0, view, patience: LINES_TOLD, stage: None }
    }

    /// Says what there is to do, before the first event.
    pub fn expect(&mut self, items: Vec<Item>) {
        self.forecast = Forecast::new(items);
    }

    /// The next unit of work, in words.
    pub fn next(&self) -> String {
        match self.forecast.next() {
            Some((item, unit)) => {
                format!("{} {} {unit}/{}", self.task(item.task), item.activity.name(), item.units)
            }
            None => "the end".to_owned(),
        }
    }

    /// A task as it is shown: from 1, with how many there are where that is known.
    fn task(&self, task: usize) -> String {
        match self.forecast.tasks() {
            0 => format!("task {}", task.saturating_add(1)),
            all => format!("task {}/{all}", task.saturating_add(1)),
        }
    }

    /// Does `work`, and shows its name if it takes long.
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
        let wait = if let View::Bar(_) = self.view { BAR_TOLD } else { self.patience };
        let start = Instant::now();
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(wait) {
            let text = format!("{what}, {} so far", duration(start.elapsed()));
            match &self.view {
                View::Bar(bar) => bar.set_message(text),
                View::Silent | View::Lines(_) => self.line(&text),
            }
        }
    }

    /// Writes a line where lines are written.
    fn line(&self, text: &str) {
        if let View::Lines(out) = &self.view {
            // The reader may have gone away, or a disk may be full: the run is more important than its progress.
            let _ = writeln!(out.lock().unwrap_or_else(PoisonError::into_inner), "{}: {text}", self.label);
        }
    }

    /// Takes note of an event of an earlier process, and shows nothing.
    pub fn past(&mut self, line: &Line) {
        let took = (line.seconds - self.seconds).max(0.0);
        self.seconds = line.seconds;
        self.forecast.note(&line.event, took);
    }

    /// Says a sentence that matters even where progress is not shown.
    pub fn say(&self, text: &str) {
        match &self.view {
            View::Silent => note(text),
            View::Bar(bar) => bar.println(text),
            View::Lines(_) => self.line(text),
        }
    }

    /// Shows an event.
    pub fn show(&mut self, line: &Line) {
        let took = (line.seconds - self.seconds).max(0.0);
        self.past(line);
        let left = self.forecast.seconds_left().filter(|left| *left > 0.0);
        let eta = left.map(|it| format!(", {} left", duration(Duration::from_secs_f64(it))));
        let eta = eta.unwrap_or_default();
        let Some((what, more)) = self.sentence(line, took) else { return };
        match &self.view {
            View::Silent => {}
            View::Bar(bar) => {
                if let Event::Progress { .. } = line.event {
                    bar.set_message(format!("{what}{eta}{more}"));
                } else {
                    bar.println(format!("{}: {what}", self.label));
                }
                if let Some(left) = left {
                    bar.set_position((PARTS as f64 * line.seconds / (line.seconds + left)) as u64);
                }
            }
            View::Lines(_) => self.line(&format!("{what}{eta}{more}")),
        }
    }

    /// An event in words: what was done, and what is said of it after the time left.
    fn sentence(&self, line: &Line, took: f64) -> Option<(String, String)> {
        Some(match &line.event {
            Event::TaskStart { task, new_classes, classes_seen } => {
                let text = format!("{}: {new_classes} new classes, {classes_seen} in all", self.task(*task));
                (text, String::new())
            }
            Event::Progress { task, done, total, learning_rate, images, losses, .. } => {
                let activity = line.event.activity().map_or("", |(_, activity)| activity.name());
                let mut more = String::new();
                for (name, value) in losses {
                    more.push_str(&format!(", {name} {value:.3}"));
                }
                more.push_str(&format!(", rate {learning_rate:.4}"));
                if took > 0.0 {
                    more.push_str(&format!(", {:.0} images/s", *images as f64 / took));
                }
                if let Some(bytes) = line.peak_memory_bytes {
                    more.push_str(&format!(", {} MiB", bytes >> 20));
                }
                (format!("{} {activity} {done}/{total}", self.task(*task)), more)
            }
            Event::TaskEnd { task, evaluation } => {
                let classes = evaluation.classifier.rows.len();
                let accuracy = cil_train::metrics::accuracy(&evaluation.classifier, 0..classes);
                let percent = 100.0 * accuracy.unwrap_or(0.0);
                let text =
                    format!("{} done: {percent:.1} % accuracy over {classes} classes", self.task(*task));
                (text, String::new())
            }
            Event::TaskLearned { .. } | Event::RunEnd => return None,
        })
    }

    /// Clears the bar, so that what follows is printed on a clean line.
    pub fn finish(&mut self) {
        if let View::Bar(bar) = &self.view {
            bar.finish_and_clear();
        }
    }
}

/// Says a sentence on standard error, where somebody reads it.
pub(crate) fn note(text: &str) {
    // As progress is dropped where nobody reads it.
    let _ = writeln!(io::stderr(), "{text}");
}

/// A bar of a thousand parts on standard error, with that prefix and template; `None` where no bar can be drawn.
pub(crate) fn bar(prefix: &str, template: &str) -> Option<ProgressBar> {
    let target = ProgressDrawTarget::stderr();
    // No terminal, or one without the means: `TERM=dumb`, `NO_COLOR`. A bar would show nothing at all there.
    if target.is_hidden() {
        return None;
    }
    let bar = ProgressBar::with_draw_target(Some(PARTS), target);
    // Templates are constants: a wrong one would show in every run, as indicatif's own bar.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(prefix.to_owned());
    bar.enable_steady_tick(Duration::from_secs(1));
    Some(bar)
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
    pub(super) struct Shared(Arc<Mutex<Vec<u8>>>);

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
        pub(super) fn text(&self) -> String {
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
        assert_eq!(progress.next(), "task 2/2 student 1/2");
        let start = Event::TaskStart { task: 1, new_classes: 2, classes_seen: 8 };
        progress.show(&line(1.0, start));
        let losses: std::collections::BTreeMap<_, _> = [("cross-entropy".to_owned(), 0.5)].into();
        let (phase, learning_rate) = (PhaseKind::Student, 0.1);
        for (seconds, done) in [(5.0, 1), (9.0, 2)] {
            let losses = losses.clone();
            let event = Event::Progress { task: 1, phase, done, total: 2, learning_rate, images: 8, losses };
            progress.show(&line(seconds, event));
        }
        progress.show(&line(9.0, Event::RunEnd));
        assert_eq!(
            shared.text(),
            "demo-lwf: task 2/2: 2 new classes, 8 in all\n\
             demo-lwf: task 2/2 student 1/2, 6 s left, cross-entropy 0.500, rate 0.1000, 2 images/s, 5 MiB\n\
             demo-lwf: task 2/2 student 2/2, 2 s left, cross-entropy 0.500, rate 0.1000, 2 images/s, 5 MiB\n"
        );
    }

    #[test]
    fn progress_of_long_work_is_printed_while_it_runs() {
        let shared = Shared::default();
        let mut progress = Progress::lines("a", Box::new(shared.clone()));
        progress.patience = Duration::from_secs(2);
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
    fn lines_that_nobody_takes_are_dropped_and_the_work_goes_on() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut progress = Progress::lines("a", Box::new(Gone));
        progress.patience = Duration::from_millis(1);
        progress.show(&line(1.0, Event::TaskStart { task: 0, new_classes: 2, classes_seen: 2 }));
        progress.say("a sentence");
        assert_eq!(progress.during("reading", || thread::sleep(Duration::from_millis(20))), ());
    }

    #[test]
    fn times_are_of_two_units_at_most() {
        assert_eq!(duration(Duration::from_secs(3725)), "1 h 2 min");
        assert_eq!(duration(Duration::from_secs(65)), "1 min 5 s");
    }
}
