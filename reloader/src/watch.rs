//! What the watched directories hold now ([`Scanner`]), and events when that may have changed
//! ([`Watches`]).
//!
//! Each scan sets the watches anew and finds the content out; an event only starts a scan. So
//! neither lost events, nor file systems without any, nor replaced directories hide a change.

mod filesystem;
mod inotify;
mod scan;
mod tree;

pub use inotify::Watches;
pub use scan::{Scan, Scanner};
#[cfg(test)]
pub use tree::Kind;
pub use tree::{Entry, Limits};
