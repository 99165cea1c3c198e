//! Helpers that several modules of these tests use.

pub mod places;
pub mod run;
pub mod tree;
