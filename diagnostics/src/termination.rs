//! Writes the summary of a run as the termination message of a container.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Result;
use rustix::fs::OFlags;

use crate::report::Summary;
use crate::wording::io_failure;

/// The file that the kubelet reads termination messages from, by default.
pub const TERMINATION_LOG: &str = "/dev/termination-log";
/// Kubernetes truncates longer termination messages, in bytes.
const MAX_MESSAGE: usize = 4096;

/// Writes the summary to `file`, if that exists. Outside of a pod it does not, and is not created.
///
/// # Errors
/// Fails if the file exists and cannot be written, or is not a regular file. Writing to a pipe that
/// no process reads would block.
pub fn write(file: &Path, summary: &Summary) -> Result<()> {
    let message = summary.to_json_within(MAX_MESSAGE);
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().write(true).custom_flags(flags).open(file);
    let written = match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened.and_then(|mut log| {
            if !log.metadata()?.is_file() {
                return Err(io::Error::other("not a regular file"));
            }
            log.set_len(0)?;
            log.write_all(message.as_bytes())
        }),
    };
    written.map_err(|error| io_failure("write the summary to", file, &error))
}
