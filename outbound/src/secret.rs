//! Secrets in files. A file is read again at each use, because Kubernetes replaces the content of a
//! mounted Secret. A secret is never shown.

use std::fmt;
use std::path::Path;

use anyhow::{Result, anyhow};
use diagnostics::wording::{io_error, io_failure, one_line};

use crate::small_file::read_at_most;

/// Largest file of a secret, in bytes.
const MAX_SECRET: u64 = 64 * 1024;

/// How many bytes of a secret a text may hold by chance.
const MAX_SHARED: usize = 8;

/// Text that must not be shown; its debug form hides it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Reads the only line of a file, without its line end.
    ///
    /// # Errors
    /// Fails if the file cannot be read, is empty or larger than 64 KiB, or holds more than one
    /// line.
    pub fn read(file: &Path) -> Result<Self> {
        let bytes =
            read_at_most(file, MAX_SECRET).map_err(|error| io_failure("read", file, &error))?;
        let name = one_line(file.as_os_str().as_encoded_bytes());
        let refuse = |why: &str| anyhow!("the secret in `{name}` cannot be sent: {why}");
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

    /// Reads a token: a single word of ASCII characters, with white space around it ignored.
    ///
    /// # Errors
    /// Fails if the file cannot be read, is larger than 64 KiB, or holds no such word.
    pub fn read_token(file: &Path) -> Result<Self> {
        let name = one_line(file.as_os_str().as_encoded_bytes());
        let fail = |why: &str| anyhow!("failed to read a token from `{name}`: {why}");
        let bytes = read_at_most(file, MAX_SECRET).map_err(|error| fail(&io_error(&error)))?;
        let word = bytes.trim_ascii();
        if word.is_empty() || !word.iter().all(u8::is_ascii_graphic) {
            return Err(fail("it is not a single word of ASCII characters"));
        }
        Ok(Self(String::from_utf8_lossy(word).into_owned()))
    }

    /// The text itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Marks what was made from a secret (a header's value, for instance) as one.
impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Replaces every part of a text that shares 8 bytes or more with a secret (or all of a shorter
/// secret) by `(hidden)`. A server may send a request's headers back, cut off anywhere.
pub(crate) fn redact(bytes: &[u8], secrets: &[Secret]) -> Vec<u8> {
    let mut is_hidden = vec![false; bytes.len()];
    for secret in secrets {
        let secret = secret.0.as_bytes();
        let length = secret.len().min(MAX_SHARED);
        for (at, window) in bytes.windows(length.max(1)).enumerate() {
            if secret.windows(length.max(1)).any(|part| part == window) {
                is_hidden[at..at + length].fill(true);
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

    fn with_file<T>(bytes: &[u8], read: impl Fn(&Path) -> Result<T>) -> Result<T> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        read(file.path())
    }

    fn assert_hidden(error: &anyhow::Error) {
        let error = format!("{error:#}");
        assert!(!error.contains("s3cret") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn a_secret_is_one_line_without_its_end() {
        for bytes in [&b"s3cret"[..], b"s3cret\n", b"s3cret\r\n"] {
            assert_eq!(with_file(bytes, Secret::read).unwrap().reveal(), "s3cret");
        }
        assert_eq!(with_file(b" s3 cret ", Secret::read).unwrap().reveal(), " s3 cret ");
        for bytes in [&b""[..], b"\n", b"s3cret\nX-Injected: 1\n", b"s3\rcret", b"s3cret\xff"] {
            assert_hidden(&with_file(bytes, Secret::read).unwrap_err());
        }
        assert!(Secret::read(Path::new("/dev/zero")).is_err());
        assert!(Secret::read(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn a_token_is_one_word_with_white_space_ignored_around_it() {
        for bytes in [&b"s3cret"[..], b"\n s3cret\t\r\n\n"] {
            assert_eq!(with_file(bytes, Secret::read_token).unwrap().reveal(), "s3cret");
        }
        for bytes in
            [&b""[..], b" \n", b"s3cret\ns3cret", b"s3 cret", b"s3cret\xff", "s3cretä".as_bytes()]
        {
            assert_hidden(&with_file(bytes, Secret::read_token).unwrap_err());
        }
        assert!(Secret::read_token(Path::new("/dev/zero")).is_err());
    }

    #[test]
    fn a_secret_is_not_shown_for_debugging() {
        assert_eq!(format!("{:?}", Secret::from("s3cret".to_owned())), "(hidden)");
    }

    #[test]
    fn a_secret_is_hidden_however_it_is_cut() {
        let secrets = ["correct-horse-battery", "pw"].map(|text| Secret::from(text.to_owned()));
        let shown = |text: &str| String::from_utf8(redact(text.as_bytes(), &secrets)).unwrap();
        assert_eq!(shown("bad token correct-horse-battery."), "bad token (hidden).");
        assert_eq!(shown("rse-battery was cut"), "(hidden) was cut");
        assert_eq!(shown("is pw wrong"), "is (hidden) wrong");
        assert_eq!(shown("battery low"), "battery low");
        assert_eq!(shown(""), "");
    }
}
