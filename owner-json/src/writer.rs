//! Writes one JSON object with a member a line. The closing brace comes last, so a result that was cut
//! off is not valid JSON.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;

use anyhow::anyhow;
use diagnostics::wording::io_error;

/// How many bytes are buffered before they are written.
const CHUNK: usize = 64 * 1024;

/// The separator of two members. The first member is preceded by the separator without its comma.
pub const SEPARATOR: &[u8] = b",\n  ";

/// The reader of the output has closed it (`EPIPE`). A run should end then without a message.
#[derive(Debug)]
pub struct OutputClosed;

impl fmt::Display for OutputClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reader of the output is gone")
    }
}

impl std::error::Error for OutputClosed {}

/// Standard output without the line buffer of [`io::stdout`], which would cut every chunk in two.
///
/// # Errors
/// Fails if the process has no free descriptor.
pub fn unbuffered_stdout() -> anyhow::Result<File> {
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    stdout.map(File::from).map_err(|error| anyhow!("failed to open stdout: {}", io_error(&error)))
}

/// Writes a JSON object: one member a line, with an indent of two spaces. Only
/// [`finish`](Self::finish) closes the object.
///
/// The opening brace is written with the first member. A run that fails before leaves its output
/// empty.
pub struct ObjectWriter<W> {
    out: W,
    buffer: Vec<u8>,
    members: u64,
}

impl<W: Write> ObjectWriter<W> {
    /// Starts an object on `out`, which should have no buffer.
    pub fn new(out: W) -> Self {
        Self { out, buffer: Vec::with_capacity(2 * CHUNK), members: 0 }
    }

    /// Starts the next member. The caller appends exactly `"key": value` to the returned buffer.
    ///
    /// # Errors
    /// Fails with [`OutputClosed`] or an I/O error if earlier members cannot be written.
    pub fn member(&mut self) -> anyhow::Result<&mut Vec<u8>> {
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        if self.members == 0 {
            self.buffer.push(b'{');
        }
        self.buffer.extend_from_slice(&SEPARATOR[usize::from(self.members == 0)..]);
        self.members += 1;
        Ok(&mut self.buffer)
    }

    /// Writes complete members at once. Each is preceded by [`SEPARATOR`].
    ///
    /// # Errors
    /// Fails with [`OutputClosed`] or an I/O error.
    pub fn write_members(&mut self, members: &[u8], count: u64) -> anyhow::Result<()> {
        self.flush()?;
        let skip = if self.members == 0 && count > 0 { 1 } else { 0 };
        if skip == 1 {
            self.write(b"{")?;
        }
        self.members += count;
        self.write(&members[skip..])
    }

    /// Writes the buffered members.
    ///
    /// # Errors
    /// Fails with [`OutputClosed`] or an I/O error.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        let written = self.write(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
        written
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let written = self.out.write_all(bytes).and_then(|()| self.out.flush());
        written.map_err(|error| write_error(&error))
    }

    /// Closes the object and writes the rest. Only then is the output valid JSON.
    ///
    /// # Errors
    /// Fails with [`OutputClosed`] or an I/O error.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.buffer.extend_from_slice(if self.members == 0 { b"{}\n" } else { b"\n}\n" });
        self.flush()
    }
}

/// The error for a failed write of the output: [`OutputClosed`] for `EPIPE`, otherwise one with the
/// message of the system.
pub fn write_error(error: &io::Error) -> anyhow::Error {
    if error.kind() == ErrorKind::BrokenPipe {
        return OutputClosed.into();
    }
    anyhow!("failed to write the output: {}", io_error(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(members: &[&str]) -> String {
        let mut out = Vec::new();
        let mut object = ObjectWriter::new(&mut out);
        for member in members {
            object.member().unwrap().extend_from_slice(member.as_bytes());
        }
        object.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn members_stand_one_a_line_with_two_spaces() {
        assert_eq!(written(&["\"a\": 1", "\"b\": 2"]), "{\n  \"a\": 1,\n  \"b\": 2\n}\n");
        assert_eq!(written(&[]), "{}\n");
    }

    #[test]
    fn complete_members_can_be_written_between_others() {
        let mut out = Vec::new();
        let mut object = ObjectWriter::new(&mut out);
        object.write_members(b"", 0).unwrap();
        object.write_members(b",\n  \"a\": 1,\n  \"b\": 2", 2).unwrap();
        object.member().unwrap().extend_from_slice(b"\"c\": 3");
        object.write_members(b",\n  \"d\": 4", 1).unwrap();
        object.finish().unwrap();
        let expected = "{\n  \"a\": 1,\n  \"b\": 2,\n  \"c\": 3,\n  \"d\": 4\n}\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn an_unfinished_object_is_not_valid_json() {
        let mut out = Vec::new();
        let mut object = ObjectWriter::new(&mut out);
        object.member().unwrap().extend_from_slice(b"\"a\": 1");
        object.flush().unwrap();
        drop(object);
        assert_eq!(out, b"{\n  \"a\": 1");
        assert!(serde_json::from_slice::<serde_json::Value>(&out).is_err());
    }

    #[test]
    fn nothing_is_written_before_the_first_member() {
        let mut out = Vec::new();
        let mut object = ObjectWriter::new(&mut out);
        object.flush().unwrap();
        drop(object);
        assert!(out.is_empty());
    }

    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_an_error_of_a_type_of_its_own() {
        let error = ObjectWriter::new(Closed).finish().unwrap_err();
        assert!(error.is::<OutputClosed>());
    }
}
