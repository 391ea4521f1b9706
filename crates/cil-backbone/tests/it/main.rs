//! Networks, heads, frozen networks and model files, compared with PyTorch's numbers and against damage.

#![expect(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

mod backbones;
mod cells;
mod file;
mod foreign;
mod frozen;
mod heads;
mod own;
mod real_images;
mod support;
