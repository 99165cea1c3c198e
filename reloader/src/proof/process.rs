//! Processes as `/proc` shows them: who they are, whose, and what they do with signals.
//!
//! Any process may choose its own name and title, so nothing is read past them by searching. What
//! is read of one process is of that one: its directory stays open, and gives nothing more once
//! the process has ended, even if its id has been given to another.

mod parse;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;

use anyhow::Result;
use diagnostics::wording::{io_failure, one_line};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

use self::parse::{Stat, Status};

/// The unit of [`Process::start`]: the kernel's `USER_HZ`, which has been this for all programs on
/// x86-64 and arm64 (proc(5), `sysconf(_SC_CLK_TCK)`).
pub const TICKS_PER_SECOND: u64 = 100;
/// As much as is read of a title, which may be as long as all of a process's arguments.
const LONGEST_TITLE: u64 = 8 << 10;
/// As much as is read of any other file: 65,536 groups may stand in `status`.
const LONGEST: u64 = 1 << 20;
/// How many characters of a title stand in a message.
const EXCERPT: usize = 60;

/// What a process was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// When it started, in ticks since the machine did. It tells processes of one id apart, and
    /// stays the same when the process becomes another program.
    pub start: u64,
    /// When it was looked at, in the same ticks: at this time it was still alive.
    pub seen: u64,
    /// The id of its parent.
    pub parent: u32,
    /// The page faults of those of its children whose end it has taken notice of, which every
    /// process has some of: as long as this number stays the same, it has done so with none.
    pub faults_of_children: u64,
    /// What it does: `S` sleeps, `Z` has ended and waits for its parent; see proc(5).
    pub state: u8,
    /// The name of its program, of at most 15 bytes.
    pub name: Vec<u8>,
    /// Its arguments, joined by spaces, or what it has written there; empty if it has ended.
    pub title: Vec<u8>,
    /// The users that it runs as.
    pub users: Users,
    /// What it does with signals.
    pub signals: Signals,
}

/// The users that a process runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Users {
    /// Who has started it.
    pub real: u32,
    /// Whose rights it has.
    pub effective: u32,
    /// Whose rights it may take.
    pub saved: u32,
}

/// What a process does with signals, one bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// They have been sent to it, and it has not taken them yet.
    pub pending: u64,
    /// It does not take them now.
    pub blocked: u64,
    /// It never takes them.
    pub ignored: u64,
    /// It has a handler for them.
    pub caught: u64,
}

/// The bit of a signal in [`Signals`].
pub fn bit(signal: Signal) -> u64 {
    1 << (signal.as_raw() - 1)
}

/// The present time in ticks, as processes have it that start now.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    // Neither is negative: the clock starts with the machine.
    let (seconds, nanos) = (now.tv_sec.cast_unsigned(), now.tv_nsec.cast_unsigned());
    seconds * TICKS_PER_SECOND + nanos / (1_000_000_000 / TICKS_PER_SECOND)
}

impl Process {
    /// The process of this id, if there is one.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn read(pid: u32) -> Result<Option<Self>> {
        Self::look(pid, |_| true).map_err(|error| unreadable(pid, &error))
    }

    /// All processes that can be seen.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn all() -> Result<Vec<Self>> {
        Self::list(|_| true)
    }

    /// The children of a process.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn children(parent: u32) -> Result<Vec<Self>> {
        Self::list(|stat| stat.parent == parent)
    }

    /// Whether it is the same process, at another time.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.pid, self.start) == (other.pid, other.start)
    }

    /// Whether it runs, or could: it has not ended.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// What it calls itself, on one line and not too long.
    pub fn excerpt(&self) -> String {
        let text = if self.title.is_empty() { &self.name } else { &self.title };
        let line = one_line(text);
        match line.char_indices().nth(EXCERPT) {
            Some((end, _)) => format!("{}...", &line[..end]),
            None => line,
        }
    }

    fn list(is_wanted: impl Fn(&Stat) -> bool) -> Result<Vec<Self>> {
        let failed = |error: io::Error| io_failure("list", "/proc", &error);
        let mut processes = Vec::new();
        for entry in fs::read_dir("/proc").map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            match Self::look(pid, &is_wanted) {
                Ok(process) => processes.extend(process),
                // With `hidepid` those of others may be listed, but must not be read.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
                Err(error) => return Err(unreadable(pid, &error)),
            }
        }
        Ok(processes)
    }

    /// Reads a process, if it exists and is wanted.
    fn look(pid: u32, is_wanted: impl Fn(&Stat) -> bool) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty());
        let Some(dir) = unless_ended(opened)? else { return Ok(None) };
        let seen = now();
        let Some(stat) = file(&dir, "stat", LONGEST)? else { return Ok(None) };
        let stat = Stat::parse(&stat)?;
        if !is_wanted(&stat) {
            return Ok(None);
        }
        let title = file(&dir, "cmdline", LONGEST_TITLE)?;
        let (Some(title), Some(status)) = (title, file(&dir, "status", LONGEST)?) else {
            return Ok(None);
        };
        let Status { leader, users, signals } = Status::parse(&status)?;
        let Stat { start, parent, faults_of_children, state, name } = stat;
        let title = joined(title);
        let process = Self {
            pid,
            start,
            seen,
            parent,
            faults_of_children,
            state,
            name,
            title,
            users,
            signals,
        };
        // A thread can be looked up by its id too, but is not a process.
        Ok((leader == pid).then_some(process))
    }
}

fn unreadable(pid: u32, error: &io::Error) -> anyhow::Error {
    io_failure("read", format!("/proc/{pid}"), error)
}

/// The beginning of a file of a process, unless the process has ended.
fn file(process: &OwnedFd, name: &str, longest: u64) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(process, name, flags, Mode::empty());
    let Some(file) = unless_ended(opened)? else { return Ok(None) };
    let mut bytes = Vec::new();
    match File::from(file).take(longest).read_to_end(&mut bytes) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

fn unless_ended(opened: rustix::io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The arguments as a title: NULs between them become spaces, those after the last, which also
/// fill up what a title has been written over, are left out.
fn joined(mut arguments: Vec<u8>) -> Vec<u8> {
    let end = arguments.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    arguments.truncate(end);
    for byte in arguments.iter_mut().filter(|byte| **byte == 0) {
        *byte = b' ';
    }
    arguments
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that waits for the end of its input, under a name of the test's choice.
    fn cat(name: &str) -> Child {
        let mut cat = Command::new("cat");
        cat.arg0(name).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    /// The process, once it is no longer this program.
    fn read(child: &Child, is_it: impl Fn(&Process) -> bool) -> Process {
        let mut found = None;
        e2e::wait_for("the process", || {
            found = Process::read(child.id()).unwrap().filter(&is_it);
            found.is_some()
        });
        found.unwrap()
    }

    #[test]
    fn a_process_is_read_as_it_is() {
        let before = now();
        let mut child = cat("nginx: master\n) Z 1 1");
        // The name is there before the title is.
        let is_there = |process: &Process| process.name == b"cat" && !process.title.is_empty();
        let process = read(&child, is_there);
        assert_eq!((process.pid, process.parent), (child.id(), std::process::id()));
        assert_eq!(process.title, b"nginx: master\n) Z 1 1");
        assert_eq!(process.excerpt(), r"nginx: master\n) Z 1 1");
        assert!((before..=process.seen).contains(&process.start), "{before} {process:?}");
        let own = rustix::process::getuid().as_raw();
        assert_eq!(process.users, Users { real: own, effective: own, saved: own });
        assert!(process.is_alive() && process.signals.caught & bit(Signal::HUP) == 0);
        assert!(Process::children(std::process::id()).unwrap().iter().any(|p| p.is_same(&process)));
        assert!(Process::all().unwrap().iter().any(|p| p.is_same(&process)));

        child.kill().unwrap();
        let ended = read(&child, |process| !process.is_alive());
        assert!(ended.is_same(&process) && ended.title.is_empty(), "{ended:?}");
        let faults = || Process::read(std::process::id()).unwrap().unwrap().faults_of_children;
        let before = faults();
        child.wait().unwrap();
        assert!(faults() > before);
        assert_eq!(Process::read(child.id()).unwrap(), None);
    }

    #[test]
    fn a_thread_is_not_a_process() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(fs::read_link("/proc/thread-self").unwrap()).unwrap();
            let _ = ended.recv();
        });
        let path = told.recv().unwrap();
        let id = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        assert!(fs::exists(format!("/proc/{id}/stat")).unwrap() && id != std::process::id());
        assert_eq!(Process::read(id).unwrap(), None);
        drop(end);
        thread.join().unwrap();
    }

    #[test]
    fn titles_are_cut_and_joined() {
        let process = |title: &[u8]| Process {
            pid: 1,
            start: 0,
            seen: 0,
            parent: 0,
            faults_of_children: 0,
            state: b'S',
            name: b"x".to_vec(),
            title: joined(title.to_vec()),
            users: Users { real: 0, effective: 0, saved: 0 },
            signals: Signals::default(),
        };
        assert_eq!(process(b"nginx: master process\0\0\0").title, b"nginx: master process");
        assert_eq!(process(b"a\0\0b c\0").title, b"a  b c");
        assert_eq!(process(b"\0\0").excerpt(), "x");
        let long = process("\u{fc}".repeat(100).as_bytes()).excerpt();
        assert_eq!(long, format!("{}...", "\u{fc}".repeat(60)));
    }
}
