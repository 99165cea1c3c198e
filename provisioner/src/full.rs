//! The error that says that a volume is full: so that whoever knows what was to be written can say how
//! much is missing.

use std::fmt;

use anyhow::Error;
use rustix::io::Errno;

/// Marks an error that says that a volume is full.
#[derive(Debug)]
pub struct Full {
    said: String,
    /// Not the volume, but what its owner may have of it.
    pub is_quota: bool,
}

impl fmt::Display for Full {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.said)
    }
}

impl std::error::Error for Full {}

/// The error for a failure, marked if it is one of room.
pub fn mark(failure: Error, errno: Errno) -> Error {
    match errno {
        Errno::NOSPC | Errno::DQUOT => {
            Full { said: format!("{failure:#}"), is_quota: errno == Errno::DQUOT }.into()
        }
        _ => failure,
    }
}
