//! The atomic layout: each version has a directory, and renaming one link makes it live.

pub mod activate;
pub mod hooks;
pub mod links;
pub mod migrate;
pub mod publish;
pub mod undo;
pub mod version;
