//! Output of results: tables, pages, figures, pictures, exports and progress. Nothing is computed here that
//! [`crate::results`] does not say.

pub mod export;
pub mod figures;
pub mod latex;
pub mod page;
pub mod pictures;
pub mod progress;
pub mod table;
