//! Dual-teacher information distillation.
