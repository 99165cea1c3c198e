//! Finds a process by its PID file, which servers write when they start.
//!
//! The file may be left over from an earlier start of the container or the pod, and small ids are
//! soon reused. So a file that is older than the process is stale.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Result, anyhow, bail};
use diagnostics::wording::{io_failure, one_line};
use rustix::fs::OFlags;

use super::visibility::{missing, quoted};
use crate::process::{Process, TICKS_PER_SECOND, now};

/// Bytes that are read of the file.
const MAX_FILE: u64 = 64;
/// How much older than the process the file may seem: file systems keep times in units of up to two
/// seconds.
const SLACK: Duration = Duration::from_secs(3);

/// The process whose id is in the file.
///
/// # Errors
/// Fails if the file is missing, is not a regular file, holds no process id, or is stale.
pub fn find(path: &Path) -> Result<Process> {
    let failed = |error: &io::Error| io_failure("read", path, error);
    // A FIFO is opened without waiting for its writer, and refused below.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("there is no {}", quoted(path)),
        Err(error) => return Err(failed(&error)),
    };
    let about = file.metadata().map_err(|error| failed(&error))?;
    if !about.is_file() {
        bail!("{} is not a file", quoted(path));
    }
    let written = about.modified().map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    let pid = parse_id(&bytes).map_err(|what| anyhow!("{} {what}", quoted(path)))?;
    let Some(found) = Process::read(pid)?.filter(Process::is_alive) else {
        return Err(missing(format!("{} is stale: there is no process {pid}", quoted(path))));
    };
    if started(&found) - SLACK > written {
        bail!(
            "{} is stale, unless the clock has been set: process {pid} ({}) is younger than it",
            quoted(path),
            found.excerpt()
        );
    }
    Ok(found)
}

fn parse_id(bytes: &[u8]) -> Result<u32, String> {
    // Some servers write more lines below the id.
    let text = bytes.trim_ascii();
    let text = text.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    let digits = std::str::from_utf8(text).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
    let id = digits.and_then(|digits| digits.parse().ok()).filter(|id| *id > 0);
    id.ok_or_else(|| format!("holds no process id, but `{}`", one_line(text)))
}

/// When a process started, by the current wall clock.
fn started(process: &Process) -> SystemTime {
    let ticks = now().saturating_sub(process.start);
    SystemTime::now() - Duration::from_millis(ticks * (1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_id_is_a_positive_number_on_the_first_line() {
        assert_eq!(parse_id(b" 42\r\n"), Ok(42));
        assert_eq!(parse_id(b"42\n/var/lib/data\n"), Ok(42));
        assert_eq!(parse_id(b" \n"), Err("is empty".to_owned()));
        for bad in ["0", "-1", "+1", "42 43", "4294967296", "0x2a", "nginx\n1"] {
            assert!(
                parse_id(bad.as_bytes()).unwrap_err().starts_with("holds no process id"),
                "{bad}"
            );
        }
    }
}
