//! The proof that an application uses new content: what `/proc` shows of its processes.

pub mod nginx;
pub mod process;
