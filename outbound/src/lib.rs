//! Runs commands and sends HTTP requests, by which a program notifies other programs of a change.
//!
//! [`command`] runs a command with a time limit. [`request`] sends one HTTP request. [`secret`] and
//! [`ca_roots`] load the secrets and CA certificates that requests and LDAP connections need.
//!
//! Every wait in this crate has a deadline and ends early when the caller's `is_stopped` returns
//! true. No error, log line or argument holds a secret; callers add the words around an error,
//! because each program names its own flags.

pub mod ca_roots;
pub mod command;
pub mod request;
pub mod secret;
pub mod small_file;
