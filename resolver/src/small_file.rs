//! Files of settings (a password, authorities), which are never large.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Largest file of settings, in bytes.
const MAX_SIZE: u64 = 4 * 1024 * 1024;

/// Reads a file of settings, which is never large: `/dev/zero` must not fill the memory.
///
/// # Errors
/// It cannot be read, or is larger than [`MAX_SIZE`].
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(io::Error::other(format!("larger than {MAX_SIZE} bytes")));
    }
    Ok(bytes)
}
