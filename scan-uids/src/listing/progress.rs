//! How far the scan is, on a terminal.

use std::io::{IsTerminal, stderr, stdout};
use std::time::{Duration, Instant};

use diagnostics::stderr::show;

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
    /// does not go to a terminal as well.
    pub fn new(is_wanted: bool) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let is_wanted = is_wanted && !is_dumb && stderr().is_terminal() && !stdout().is_terminal();
        let start = Instant::now();
        Self { start, next: is_wanted.then(|| start + EVERY), is_shown: false }
    }

    /// Tells how many were found so far, unless that was told just now.
    pub fn show(&mut self, listed: u64) {
        let now = Instant::now();
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        let seconds = (now - self.start).as_secs_f64();
        show(&format!("{CLEAR}{}", line(listed, seconds)));
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

fn line(listed: u64, seconds: f64) -> String {
    let rate = listed as f64 / seconds.max(0.001);
    format!("{listed} listed in {seconds:.0} s, {rate:.0}/s")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_line_tells_number_time_and_rate() {
        assert_eq!(super::line(1_200_000, 8.0), "1200000 listed in 8 s, 150000/s");
        assert_eq!(super::line(0, 0.0), "0 listed in 0 s, 0/s");
    }
}
