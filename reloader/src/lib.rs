//! `reloader`: makes an application use what is newly published, and proves that it does.
//!
//! [`watch`] tells that something has happened, [`scan`] and [`tree`] what is there now,
//! [`decide`] when to act upon it; [`attend`] brings them together with [`reload`], which does the
//! actions. [`serve`] answers to those who ask how it goes.

pub mod action;
pub mod attend;
pub mod changes;
pub mod cli;
pub mod decide;
pub mod figures;
pub mod filesystem;
pub mod nginx;
pub mod order;
pub mod patience;
pub mod process;
pub mod reload;
pub mod scan;
pub mod serve;
pub mod stop;
pub mod tell;
pub mod tree;
pub mod watch;
