//! `reloader`: makes an application use newly published data, and proves that it does.
//!
//! [`watch`] notices that something has happened and finds out what the content is, [`decide`]
//! says when to act upon it, [`reload`] does the actions that [`plan`] takes from the command line
//! ([`action`] has each kind, [`proof`] looks at processes). [`run`] joins them; [`serve`] answers
//! metrics and health checks.

pub mod action;
pub mod cli;
pub mod decide;
pub mod plan;
pub mod proof;
pub mod reload;
pub mod report;
pub mod retry;
pub mod run;
pub mod serve;
pub mod stop;
pub mod watch;

pub use run::run;
