//! How far a run is, on a terminal.

use std::io::{IsTerminal, stderr, stdout};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, fstat};

use crate::stderr::print;

/// How often the line changes.
const EVERY: Duration = Duration::from_millis(200);
/// Back to the start of the line, and away with it.
const CLEAR: &str = "\r\x1b[K";

/// A line on stderr that is written over again and again. Clones are the same line.
#[derive(Clone)]
pub struct Progress {
    start: Instant,
    is_enabled: bool,
    line: Arc<Mutex<Line>>,
}

struct Line {
    /// When it changes next.
    next: Instant,
    is_shown: bool,
}

impl Progress {
    /// Shows a line if it is wanted, stderr is a terminal that can clear a line, and the output
    /// goes to neither a terminal nor a pipe, at whose other end one may be.
    pub fn new(is_enabled: bool) -> Self {
        Self::on_terminal(is_enabled && is_stdout_a_file())
    }

    /// As [`new`](Self::new), for who writes nothing to stdout as long as the line is shown: it may
    /// be a terminal too.
    pub fn before_output(is_enabled: bool) -> Self {
        Self::on_terminal(is_enabled && (is_stdout_a_file() || stdout().is_terminal()))
    }

    fn on_terminal(is_enabled: bool) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let is_enabled = is_enabled && !is_dumb && stderr().is_terminal();
        let start = Instant::now();
        let line = Line { next: start + EVERY, is_shown: false };
        Self { start, is_enabled, line: Arc::new(Mutex::new(line)) }
    }

    /// Whether a line is ever shown.
    pub fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// Shows the line that is made of the seconds since the start, unless one was shown just now.
    pub fn show(&mut self, line: impl FnOnce(f64) -> String) {
        if !self.is_enabled {
            return;
        }
        let (now, mut shown) = (Instant::now(), self.line());
        if now < shown.next {
            return;
        }
        let seconds = (now - self.start).as_secs_f64().max(0.001);
        print(&format!("{CLEAR}{}", line(seconds)));
        *shown = Line { next: now + EVERY, is_shown: true };
    }

    /// Takes the line away, for a message: it does not come back at once.
    pub fn clear(&mut self) {
        let mut shown = self.line();
        if shown.is_shown {
            print(CLEAR);
        }
        *shown = Line { next: Instant::now() + EVERY, is_shown: false };
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A file, or a device like `/dev/null`.
fn is_stdout_a_file() -> bool {
    let kind = fstat(stdout()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    let is_device = kind == Ok(FileType::CharacterDevice) && !stdout().is_terminal();
    is_device || kind == Ok(FileType::RegularFile)
}
