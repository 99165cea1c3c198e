//! Finds changes in the watched directories.
//!
//! 1. [`Watches`] raises an event when something may have changed.
//! 2. An event or a timer starts a scan. [`Scanner`] reads the content and renews the watches.
//!
//! Only scans decide what has changed. So lost events, file systems without events, and replaced
//! directories cannot hide a change.

mod file_system;
mod files;
mod inotify;
mod scan;
mod tree;

pub use files::Files;
pub use inotify::Watches;
pub use scan::{Scan, Scanner};
pub use tree::{Entry, Kind, Limits};
