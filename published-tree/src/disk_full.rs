//! Marks errors that mean "disk full", so that a caller who knows how much was to be written can say
//! how much is missing.

use std::fmt;

use anyhow::Error;
use rustix::io::Errno;

/// An error that means that the disk or the quota is full.
#[derive(Debug)]
pub struct DiskFull {
    message: String,
    /// Whether the user's quota is exhausted, not the disk.
    pub is_quota: bool,
}

impl fmt::Display for DiskFull {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for DiskFull {}

/// Returns `error`, marked as [`DiskFull`] if `errno` says so.
pub(crate) fn mark(error: Error, errno: Errno) -> Error {
    match errno {
        Errno::NOSPC | Errno::DQUOT => {
            DiskFull { message: format!("{error:#}"), is_quota: errno == Errno::DQUOT }.into()
        }
        _ => error,
    }
}
