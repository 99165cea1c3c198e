//! Finds changes in the watched directories.
//!
//! 1. [`Watches`] raises an event when something may have changed.
//! 2. An event or a timer starts a scan. [`Scanner`] reads the content and renews the watches.
//!
//! Only scans decide what has changed. So lost events, file systems without events, and replaced
//! directories cannot hide a change.

mod file_system;
mod inotify;
mod scan;
mod tree;

pub use inotify::Watches;
pub use scan::{Scan, Scanner};
#[cfg(test)]
pub use tree::Kind;
pub use tree::{Entry, Limits};
