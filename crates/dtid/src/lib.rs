//! Dual-teacher information distillation.
//!
//! Losses that pull one student towards two frozen teachers, the old one of the past classes and the
//! new one of the classes of this task: [`kl`] and [`dual`] on logits, [`regression`] on centred logits
//! (DMC), [`vid`] on feature maps.
//!
//! Every function detaches its teachers, so no caller can train one by accident. There is no network, no data, no loop
//! and no file here; the caller chooses the rows and columns of each teacher. Row counts and class counts are those of
//! the tensors; nothing is assumed of a batch's order.

pub mod dual;
pub mod kl;
pub mod regression;
pub mod values;
pub mod vid;
