//! A loss of one's own: `cargo run -p cil --example own_term`.
//!
//! It keeps the student's features where the old model's are, by their squared distance. A term reads a step: labels,
//! rows by where they come from, and what student and teachers say of them. It returns a tensor that candle
//! differentiates.

#![expect(clippy::print_stdout, reason = "an example shows what it found")]

use cil::parts::candle::{Result, Tensor};
use cil::parts::train::recipe::CustomTerm;
use cil::parts::train::step::Step;
use cil::parts::train::term::Term;
use cil::prelude::*;

/// Mean squared distance between the features of student and old model.
#[derive(Debug)]
struct SameFeatures;

impl Term for SameFeatures {
    fn name(&self) -> &'static str {
        "same-features"
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        // There is no old model in the base task.
        let Some(old) = step.old else { return Ok(None) };
        (&step.student.features - &old.features)?.sqr()?.mean_all().map(Some)
    }
}

fn main() -> cil::Result<()> {
    let data = Dataset::procedural(4).images(150, 30).build()?;
    let (train, test) = data.in_order(ClassOrder::as_labelled()).split()?;
    let method = fine_tune(Sgd::epochs(12).batch(32))
        .later_tasks(Sgd::epochs(12).batch(32).rate(0.02))
        .term(CustomTerm::new(10.0, || Box::new(SameFeatures)));
    let mut learner = Learner::builder(method).network(Resnet::lucir(8).width(8)).tasks([2, 2]).build()?;
    for task in learner.tasks(&train) {
        let learned = task?;
        println!("task {}: {:.1} %", learned.task, 100.0 * learned.evaluate(&test)?.accuracy());
    }
    Ok(())
}
