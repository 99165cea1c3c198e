//! Reads the system calls in a log of `strace -f -o LOG`.
//!
//! strace splits a call into two lines if another thread makes a call before the first one returns:
//!
//! ```text
//! 7 fsync(3 <unfinished ...>
//! 8 close(4) = 0
//! 7 <... fsync resumed>) = 0
//! ```
//!
//! The reader joins these lines, and knows when each call began and returned.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

const UNFINISHED: &str = " <unfinished ...>";

/// A system call of a traced program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The id of the thread that made the call.
    pub thread: u32,
    /// The name of the call: `openat`.
    pub name: String,
    /// The whole call without the thread's id: `openat(3, "a", O_RDONLY) = 4`.
    pub text: String,
    /// The line of the log in which the call began. The first line is 0.
    pub began: usize,
    /// The line of the log in which the call returned; `None` if the thread was killed before.
    pub returned: Option<usize>,
}

impl Call {
    /// Whether this call began after the other one had returned.
    pub fn is_after(&self, other: &Call) -> bool {
        other.returned.is_some_and(|returned| returned < self.began)
    }

    /// Whether the text of the call contains all of these parts.
    pub fn contains(&self, parts: &[&str]) -> bool {
        parts.iter().all(|part| self.text.contains(part))
    }
}

/// Reads the calls in a log, in the order in which they began.
///
/// # Panics
/// Panics if the log cannot be read.
pub fn read(log: &Path) -> Vec<Call> {
    let text = fs::read(log).unwrap_or_else(|error| panic!("`{}`: {error}", log.display()));
    calls(&String::from_utf8_lossy(&text))
}

/// Reads the calls in the text of a log, in the order in which they began.
pub fn calls(log: &str) -> Vec<Call> {
    let mut calls = Vec::<Call>::new();
    // For each thread, the position of its call that has not returned.
    let mut unfinished = HashMap::new();
    for (line, text) in log.lines().enumerate() {
        let Some((thread, text)) = text.split_once(' ') else { continue };
        let (Ok(thread), text) = (thread.parse(), text.trim_start()) else { continue };
        if let Some((_, rest)) = text.strip_prefix("<... ").and_then(|t| t.split_once(" resumed>"))
        {
            if let Some(position) = unfinished.remove(&thread) {
                let call: &mut Call = &mut calls[position];
                call.text.push_str(rest);
                call.returned = Some(line);
            }
        } else if let Some(name) = name(text) {
            let begin = text.strip_suffix(UNFINISHED);
            // A thread that was killed meanwhile has `<unfinished ...>) = ?` instead.
            let is_whole = !text.contains(UNFINISHED);
            if begin.is_some() {
                unfinished.insert(thread, calls.len());
            }
            calls.push(Call {
                thread,
                name: name.to_owned(),
                text: begin.unwrap_or(text).to_owned(),
                began: line,
                returned: is_whole.then_some(line),
            });
        }
    }
    calls
}

/// The name of the call in a line that begins with one. Lines about signals and ends do not.
fn name(text: &str) -> Option<&str> {
    let (name, _) = text.split_once('(')?;
    let is_name = name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
    (is_name && !name.is_empty()).then_some(name)
}

/// Asserts that a call that contains the parts of the first step is followed by one that contains
/// those of the second, and so on. Each call must begin after the one before has returned.
///
/// # Panics
/// Panics if the calls do not contain the steps in this order.
pub fn assert_order(calls: &[Call], steps: &[&[&str]]) {
    let mut before: Option<&Call> = None;
    for step in steps {
        let is_next =
            |call: &&Call| call.contains(step) && before.is_none_or(|before| call.is_after(before));
        let earliest = |call: &&Call| call.returned.unwrap_or(usize::MAX);
        let Some(call) = calls.iter().filter(is_next).min_by_key(earliest) else {
            let texts: Vec<_> = calls.iter().map(|call| &call.text[..]).collect();
            panic!("no call {step:?} after {before:?} in:\n{}", texts.join("\n"));
        };
        before = Some(call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPLIT: &str = "\
7     openat(3, \"new\", O_WRONLY|O_CREAT, 0644) = 4
7     syncfs(4 <unfinished ...>
8     close(5)                          = 0
9     read(6,  <unfinished ...>
8     renameat(3, \"new\", 3, \"live\" <unfinished ...>
7     <... syncfs resumed>)             = 0
9     <... read resumed>\"a\\n\", 10)     = 2
8     <... renameat resumed>)           = 0
9     --- SIGTERM {si_signo=SIGTERM, si_code=SI_USER} ---
8     write(1, \"done\", 4 <unfinished ...>) = ?
9     futex(0x7f, FUTEX_WAIT, 0, NULL <unfinished ...>
9     +++ killed by SIGKILL +++
";

    fn call(name: &str) -> Call {
        let found = calls(SPLIT).into_iter().find(|call| call.name == name);
        found.unwrap_or_else(|| panic!("no call {name}"))
    }

    #[test]
    fn a_call_on_two_lines_is_joined() {
        let syncfs = call("syncfs");
        assert_eq!(syncfs.text, "syncfs(4)             = 0");
        assert_eq!((syncfs.thread, syncfs.began, syncfs.returned), (7, 1, Some(5)));
        assert!(call("read").text.starts_with("read(6, \"a\\n\", 10) "));
        assert!(call("renameat").contains(&["\"new\"", "\"live\")", "= 0"]));
    }

    #[test]
    fn calls_are_in_the_order_in_which_they_began() {
        let names: Vec<_> = calls(SPLIT).into_iter().map(|call| call.name).collect();
        let expected =
            ["openat", "syncfs", "close", "read", "renameat", "write", "futex"].map(String::from);
        assert_eq!(names, expected);
    }

    #[test]
    fn a_call_is_after_another_only_if_that_had_returned() {
        assert!(call("syncfs").is_after(&call("openat")));
        assert!(call("write").is_after(&call("renameat")));
        // It began before `syncfs` returned.
        assert!(!call("renameat").is_after(&call("syncfs")));
    }

    #[test]
    fn a_call_of_a_killed_thread_never_returned() {
        assert_eq!(call("write").returned, None);
        assert_eq!(call("futex").returned, None);
        assert!(!call("write").is_after(&call("futex")));
    }

    #[test]
    fn steps_are_found_in_their_order() {
        assert_order(&calls(SPLIT), &[&["openat(", "\"new\""], &["syncfs("], &["write("]]);
    }

    #[test]
    #[should_panic(expected = "no call [\"renameat(\"] after")]
    fn a_step_that_began_too_early_is_not_in_order() {
        assert_order(&calls(SPLIT), &[&["syncfs("], &["renameat("]]);
    }
}
