//! Commands and HTTP requests by which a program tells others of a change, and what such connections
//! need: secrets from files and the authorities that TLS trusts.
//!
//! Every wait in this crate has a deadline and ends early when the caller's `is_stopped` returns
//! true. No error, log line or argument holds a secret; callers add the words around an error,
//! because each program names its own flags.

pub mod command;
pub mod file;
pub mod request;
pub mod roots;
pub mod secret;
