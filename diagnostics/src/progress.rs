//! A line on the terminal that shows how far a run is.

use std::io::{IsTerminal, stderr, stdout};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, fstat};

use crate::stderr::print;

/// How often the line changes at most.
const INTERVAL: Duration = Duration::from_millis(200);
/// Moves to the start of the line and clears it.
const CLEAR: &str = "\r\x1b[K";

/// A line on stderr that is overwritten again and again. Clones share the line.
#[derive(Clone)]
pub struct Progress {
    start: Instant,
    is_enabled: bool,
    line: Arc<Mutex<Line>>,
}

struct Line {
    /// When the line may change next.
    next: Instant,
    is_shown: bool,
}

impl Progress {
    /// A line that is shown if `is_enabled`, if stderr is a terminal that can clear a line, and if
    /// stdout is a file. A pipe may end at a terminal, where the line would mix with the output.
    pub fn new(is_enabled: bool) -> Self {
        Self::on_terminal(is_enabled && is_stdout_a_file())
    }

    /// Like [`new`](Self::new), but also shown if stdout is a terminal. For programs that write nothing
    /// to stdout while the line is shown.
    pub fn before_output(is_enabled: bool) -> Self {
        Self::on_terminal(is_enabled && (is_stdout_a_file() || stdout().is_terminal()))
    }

    fn on_terminal(is_enabled: bool) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let is_enabled = is_enabled && !is_dumb && stderr().is_terminal();
        let start = Instant::now();
        let line = Line { next: start + INTERVAL, is_shown: false };
        Self { start, is_enabled, line: Arc::new(Mutex::new(line)) }
    }

    /// Whether [`show`](Self::show) can show a line.
    pub fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// Shows the line that `line` makes of the seconds since the start. Does nothing if the line
    /// changed less than 0.2 seconds ago.
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
        *shown = Line { next: now + INTERVAL, is_shown: true };
    }

    /// Clears the line, for example before a message. It is not shown again for 0.2 seconds.
    pub fn clear(&mut self) {
        let mut shown = self.line();
        if shown.is_shown {
            print(CLEAR);
        }
        *shown = Line { next: Instant::now() + INTERVAL, is_shown: false };
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

/// Whether stdout is a regular file, or a device like `/dev/null`.
fn is_stdout_a_file() -> bool {
    let kind = fstat(stdout()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    let is_device = kind == Ok(FileType::CharacterDevice) && !stdout().is_terminal();
    is_device || kind == Ok(FileType::RegularFile)
}
