//! Proof by `/proc` that an application has reloaded: processes in general, and nginx's workers.

pub mod nginx;
pub mod process;
