//! Secrets in files: read at each use, since they rotate, and kept out of whatever is told.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Result, anyhow};
use diagnostics::wording::{io_failure, one_line};

/// Largest secret, in bytes.
const MAX_SECRET: u64 = 64 * 1024;

/// Largest other file that is sent or trusted, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// How much of a secret may show in a text by chance, in bytes.
const RUN: usize = 8;

/// Text that must not be shown; its debug form hides it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Makes a secret of what another was turned into.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Reads the only line of a file, without its end.
    ///
    /// # Errors
    /// It cannot be read, is empty, or holds more than one line.
    pub fn read(file: &Path) -> Result<Self> {
        let fail = |error: &io::Error| io_failure("read", file, error);
        let bytes = read_within(file, MAX_SECRET).map_err(|error| fail(&error))?;
        let name = one_line(file.as_os_str().as_encoded_bytes());
        let refuse = |why: &str| anyhow!("`{name}` is not a secret to send: {why}");
        let text = String::from_utf8(bytes).map_err(|_| refuse("it is not UTF-8"))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            return Err(refuse("it is empty"));
        }
        if line.contains(char::is_control) {
            return Err(refuse("it holds more than one line, or control characters"));
        }
        Ok(Self(line.to_owned()))
    }

    /// The text itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Reads a file of settings, which is never large: `/dev/zero` must not fill the memory.
///
/// # Errors
/// It cannot be read, or is too large.
pub fn read_small(file: &Path) -> io::Result<Vec<u8>> {
    read_within(file, MAX_FILE)
}

fn read_within(file: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::other(format!("larger than {max} bytes")));
    }
    Ok(bytes)
}

/// The bytes with everything hidden that shares a run with a secret: what a server sends back of
/// a request may be cut anywhere.
pub fn hide(bytes: &[u8], secrets: &[Secret]) -> Vec<u8> {
    let mut is_hidden = vec![false; bytes.len()];
    for secret in secrets {
        let secret = secret.0.as_bytes();
        let run = secret.len().min(RUN);
        for (at, window) in bytes.windows(run.max(1)).enumerate() {
            if secret.windows(run.max(1)).any(|part| part == window) {
                is_hidden[at..at + run].fill(true);
            }
        }
    }
    let mut shown = Vec::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        if !is_hidden[at] {
            shown.push(*byte);
        } else if at == 0 || !is_hidden[at - 1] {
            shown.extend_from_slice(b"(hidden)");
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret_in(bytes: &[u8]) -> Result<Secret> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Secret::read(file.path())
    }

    #[test]
    fn a_secret_is_one_line_without_its_end() {
        for bytes in [&b"s3cret"[..], b"s3cret\n", b"s3cret\r\n"] {
            assert_eq!(secret_in(bytes).unwrap().reveal(), "s3cret");
        }
        for bytes in [&b""[..], b"\n", b"s3cret\nX-Injected: 1\n", b"s3\rcret", b"s3cret\xff"] {
            let error = format!("{:#}", secret_in(bytes).unwrap_err());
            assert!(!error.contains("s3cret") && !error.contains('\n'), "{error}");
        }
        assert!(Secret::read(Path::new("/dev/zero")).is_err());
        assert!(Secret::read(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn a_secret_is_hidden_however_it_is_cut() {
        let secrets = [Secret::new("correct-horse-battery".to_owned()), Secret::new("pw".into())];
        let shown = |text: &str| String::from_utf8(hide(text.as_bytes(), &secrets)).unwrap();
        assert_eq!(shown("bad token correct-horse-battery."), "bad token (hidden).");
        assert_eq!(shown("rse-battery was cut"), "(hidden) was cut");
        assert_eq!(shown("is pw wrong"), "is (hidden) wrong");
        assert_eq!(shown("battery low"), "battery low");
        assert_eq!(shown(""), "");
    }
}
