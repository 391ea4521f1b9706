//! LUCIR with both schemes and a discriminant of kept statistics, on synthetic images of six classes, half a minute:
//! `cargo run -p cil --example quickstart`.

#![expect(clippy::print_stdout, reason = "an example shows what it found")]

use cil::prelude::*;

fn main() -> cil::Result<()> {
    let data = Dataset::procedural(6).images(150, 30).seed(1).build()?;
    let (train, test) = data.in_order(ClassOrder::seeded(1)).split()?;

    let method = lucir(Sgd::epochs(12).batch(32))
        .later_tasks(Sgd::epochs(12).batch(32).rate(0.02))
        .with(DfGr::iterations(200).batch(32).channels(32))
        .with(DtId::logits())
        .discriminant(0.01);

    let mut learner = Learner::builder(method)
        .network(Resnet::lucir(8).width(8))
        .tasks([2, 2, 2])
        .device(Device::best()?)
        .seed(1)
        .build()?;

    for task in learner.tasks(&train) {
        let learned = task?;
        let answer = learned.evaluate(&test)?;
        println!("task {}: {:.1} %", learned.task, 100.0 * answer.accuracy());
    }
    Ok(())
}
