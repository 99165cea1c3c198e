//! What is in the watched directories now, and notice of changes there.
//!
//! Events only say that something happened; a scan says what the content is.

mod filesystem;
mod inotify;
mod scan;
mod tree;

pub use inotify::Watches;
pub use scan::{Scanner, Seen};
pub use tree::{Entry, Limits};
