//! The atomic layout (the default): each version has a directory, and renaming one link makes it live.
//!
//! [`publish`] is a whole publication. [`version`] creates a version, [`activate`] makes it live,
//! [`links`] are its names at the top of the volume, [`migrate`] replaces plain files by such links, and
//! [`undo`] reverts a failure.

pub mod activate;
pub mod hooks;
pub mod links;
pub mod migrate;
pub mod publish;
pub mod undo;
pub mod version;
