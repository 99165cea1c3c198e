//! `reloader`: makes an application use what is newly published, and proves that it does.

pub mod action;
pub mod decide;
pub mod filesystem;
pub mod scan;
pub mod stop;
pub mod tree;
pub mod watch;
