//! `reloader`: makes an application use what is newly published, and proves that it does.

pub mod action;
pub mod stop;
