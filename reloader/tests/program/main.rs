//! The program as a whole, with real processes and file systems.

mod changes;
mod directories;
mod lifecycle;
mod nginx;
mod run;
