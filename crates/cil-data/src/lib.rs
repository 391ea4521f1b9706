//! Data sets, class orders, tasks, batches, augmentation and exemplars.
//!
//! Images to train on and images to evaluate on are different types ([`store::TrainSet`], [`store::TestSet`]), so no
//! training code can receive the latter. A batch is a function of (seed, purpose, task, epoch, sample), never of the
//! number of threads. This crate downloads nothing and sees no model.

pub mod augment;
pub mod batches;
pub mod dataset;
pub mod device_images;
pub mod exemplars;
pub mod fit;
pub mod folder;
pub mod known;
mod manifest;
pub mod normalise;
pub mod order;
mod packed;
pub mod picture;
pub mod procedural;
pub mod resized_crop;
pub mod split;
pub mod store;
