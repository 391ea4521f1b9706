//! Backbones, growing heads, snapshots and frozen teachers.
