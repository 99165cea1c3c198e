//! How far a run is, on a terminal.

use std::io::{IsTerminal, stderr, stdout};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, fstat};

use crate::stderr::show;

/// How often the line changes.
const EVERY: Duration = Duration::from_millis(200);
/// Back to the start of the line, and away with it.
const CLEAR: &str = "\r\x1b[K";

/// A line on stderr that is written over again and again.
pub struct Progress {
    start: Instant,
    /// When the line changes next; never if it is not wanted.
    next: Option<Instant>,
    is_shown: bool,
}

impl Progress {
    /// Shows a line if it is wanted, stderr is a terminal that can clear a line, and the output
    /// goes to neither a terminal nor a pipe, at whose other end one may be.
    pub fn new(is_wanted: bool) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let is_wanted = is_wanted && !is_dumb && stderr().is_terminal() && is_stdout_a_file();
        let start = Instant::now();
        Self { start, next: is_wanted.then(|| start + EVERY), is_shown: false }
    }

    /// Shows the line that is made of the seconds since the start, unless one was shown just now.
    pub fn show(&mut self, line: impl FnOnce(f64) -> String) {
        let now = Instant::now();
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        let seconds = (now - self.start).as_secs_f64().max(0.001);
        show(&format!("{CLEAR}{}", line(seconds)));
        (self.next, self.is_shown) = (Some(now + EVERY), true);
    }

    /// Takes the line away, for a message.
    pub fn hide(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            show(CLEAR);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.hide();
    }
}

/// A file, or a device like `/dev/null`.
fn is_stdout_a_file() -> bool {
    let kind = fstat(stdout()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    let is_device = kind == Ok(FileType::CharacterDevice) && !stdout().is_terminal();
    is_device || kind == Ok(FileType::RegularFile)
}
