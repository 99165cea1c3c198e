//! Reads small files (secrets, certificates, request bodies) up to a size limit, so that a wrong path
//! such as `/dev/zero` or a disk image does not fill the memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Largest file of certificates or of a request's body, in bytes. All authorities of a system fit.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Reads a file of at most 4 MiB.
///
/// # Errors
/// Fails if the file cannot be read or is larger.
pub fn read_small(file: &Path) -> io::Result<Vec<u8>> {
    read_at_most(file, MAX_FILE)
}

/// Reads a file of at most `max` bytes.
///
/// # Errors
/// Fails if the file cannot be read or is larger.
pub fn read_at_most(file: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::other(format!("larger than {max} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_exactly_the_limit_is_read_and_a_larger_one_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"12345678").unwrap();
        assert_eq!(read_at_most(file.path(), 8).unwrap(), b"12345678");
        assert_eq!(read_at_most(file.path(), 7).unwrap_err().to_string(), "larger than 7 bytes");
        assert!(read_small(Path::new("/dev/zero")).is_err());
    }
}
