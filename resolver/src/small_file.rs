//! Reads small files: a password, CA certificates.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Largest file that is read, in bytes.
const MAX_SIZE: u64 = 4 * 1024 * 1024;

/// Reads a whole file, but not more than [`MAX_SIZE`]: `/dev/zero` must not fill the memory.
///
/// # Errors
/// Fails if the file cannot be read or is larger.
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(io::Error::other(format!("larger than {MAX_SIZE} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_file_is_refused() {
        let error = read(Path::new("/dev/zero")).expect_err("endless");
        assert_eq!(error.to_string(), "larger than 4194304 bytes");
        assert_eq!(read(Path::new("/dev/null")).expect("read"), b"");
    }
}
