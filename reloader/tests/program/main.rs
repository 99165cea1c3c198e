//! The program as a whole, with real processes and file systems.

mod bundle;
mod changes;
mod client;
mod directories;
mod lifecycle;
mod nginx;
mod run;
