//! Class-incremental learning without the old images.
//!
//! A learner is taught classes task by task. It never sees the images of an earlier task again: it replays images of a
//! generator that was trained from its own frozen model ([`DfGr`], data-free generative replay), and distils that model
//! and a model of the new classes into one student ([`DtId`], dual-teacher information distillation). This crate puts
//! the workspace's crates behind one builder with defaults; [`parts`] has all of them for what it leaves out.
//!
//! ```
//! use cil::prelude::*;
//!
//! fn main() -> cil::Result<()> {
//!     let data = Dataset::procedural(6).images(8, 4).seed(1).build()?;
//!     let (train, test) = data.in_order(ClassOrder::seeded(1)).split()?;
//!
//!     let method = lucir(Sgd::epochs(1).batch(16))
//!         .with(DfGr::iterations(2).batch(8).channels(8))
//!         .with(DtId::logits());
//!
//!     let mut learner = Learner::builder(method)
//!         .network(Resnet::lucir(8).width(4))
//!         .tasks([2, 2, 2])
//!         .device(Device::best()?)
//!         .seed(1)
//!         .build()?;
//!
//!     for task in learner.tasks(&train) {
//!         let learned = task?;
//!         let answer = learned.evaluate(&test)?;
//!         println!("task {}: {:.1} %", learned.task, 100.0 * answer.accuracy());
//!         # assert!((0.0..=1.0).contains(&answer.accuracy()));
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A loss of your own is a [`Term`](cil_train::term::Term): `examples/own_term.rs` has one of twenty lines, and
//! `docs/new-method.md` explains it. A network of your own is a [`Backbone`] of a graph that a function builds, as in
//! `examples/own_backbone.rs`. A folder of your own images is [`Dataset::folder`], as in `examples/own_images.rs`.

mod data;
mod device;
mod learner;
mod method;

pub use cil_backbone::Backbone;
pub use cil_train::learner::Saved;
pub use data::{ClassOrder, Dataset, Ordered, Procedural};
pub use device::Device;
pub use learner::{Answer, Learned, Learner, LearnerBuilder, Resnet, Tasks};
pub use method::{DfGr, DtId, Method, Modifier, Sgd, fine_tune, joint, lucir, lwf, podnet};

/// The worked example of `docs/new-method.md`, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/new-method.md")]
mod new_method {}

/// A result whose error is a sentence for people, with its causes.
pub type Result<T, E = anyhow::Error> = std::result::Result<T, E>;

/// The names that most programs need.
pub mod prelude {
    pub use crate::{
        Backbone, ClassOrder, Dataset, Device, DfGr, DtId, Learner, Resnet, Sgd, fine_tune, joint, lucir,
        lwf, podnet,
    };
}

/// The crates that this one is made of.
pub mod parts {
    pub use candle_core as candle;
    pub use cil_backbone as backbone;
    pub use cil_data as data;
    pub use cil_engine as engine;
    pub use cil_train as train;
    pub use dfgr;
    pub use dtid;
}
