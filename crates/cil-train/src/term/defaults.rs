//! Values of keys that may be left out, and whether a key has its own.

use crate::step::Rows;

pub(super) fn all() -> Rows {
    Rows::All
}

pub(super) fn new() -> Rows {
    Rows::New
}

pub(super) fn old() -> Rows {
    Rows::Old
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
pub(super) fn is_all(rows: &Rows) -> bool {
    *rows == all()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
pub(super) fn is_new(rows: &Rows) -> bool {
    *rows == new()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
pub(super) fn is_old(rows: &Rows) -> bool {
    *rows == old()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
pub(super) fn is_zero(value: &f64) -> bool {
    *value == 0.0
}
