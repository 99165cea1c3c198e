//! Marks errors that mean "disk full" or "quota exceeded" ([`DiskFull`]), so that a caller that knows the
//! size of the tree can add how much space is missing.

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
