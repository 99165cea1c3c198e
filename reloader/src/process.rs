//! Reads processes from `/proc`: parent, title, users, and handled signals. [`nginx`] proves with them
//! that nginx has reloaded.
//!
//! A process chooses its own name and title, so the fields after them are found from the end. All
//! files of a process are read through its open directory `/proc/PID`. Once the process has ended,
//! these reads fail, even if another process has got its id.

pub mod nginx;
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

/// The unit of [`Process::start`]: the kernel's `USER_HZ`, which is 100 for all programs on x86-64
/// and arm64 (proc(5), `sysconf(_SC_CLK_TCK)`).
pub const TICKS_PER_SECOND: u64 = 100;
/// Bytes that are read of a title, which may be as long as all arguments of a process.
const MAX_TITLE: u64 = 8 << 10;
/// Bytes that are read of any other file: `status` may list 65,536 groups.
const MAX_FILE: u64 = 1 << 20;
/// Characters of a title in a message.
const MAX_EXCERPT: usize = 60;

/// A process at the time when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// When it started, in ticks since boot. It tells processes with the same id apart, and stays the
    /// same when the process executes another program.
    pub start: u64,
    /// When it was read, in ticks since boot: it was alive at this time.
    pub seen: u64,
    /// The id of the parent.
    pub parent: u32,
    /// Page faults of the children that it has waited for. Every process has some, so while this
    /// number stays the same, it has waited for no other child.
    pub faults_of_children: u64,
    /// The state by its letter in proc(5): `S` for sleeping, `Z` for a zombie.
    pub state: u8,
    /// The name of the program, at most 15 bytes.
    pub name: Vec<u8>,
    /// The arguments joined by spaces, or the title that replaced them; empty if it has ended.
    pub title: Vec<u8>,
    /// The user ids.
    pub users: Users,
    /// The dispositions of signals.
    pub signals: Signals,
}

/// The user ids of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Users {
    /// The real user id.
    pub real: u32,
    /// The effective user id.
    pub effective: u32,
    /// The saved set-user-id.
    pub saved: u32,
}

/// Sets of signals of a process, one bit for each signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Sent, but not delivered yet.
    pub pending: u64,
    /// Blocked for now.
    pub blocked: u64,
    /// Ignored.
    pub ignored: u64,
    /// Caught by a handler.
    pub caught: u64,
}

/// The bit of a signal in [`Signals`].
pub fn bit(signal: Signal) -> u64 {
    1 << (signal.as_raw() - 1)
}

/// The current time in ticks since boot, in the unit of [`Process::start`].
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    // Neither is negative: the clock starts at boot.
    let (seconds, nanos) = (now.tv_sec.cast_unsigned(), now.tv_nsec.cast_unsigned());
    seconds * TICKS_PER_SECOND + nanos / (1_000_000_000 / TICKS_PER_SECOND)
}

impl Process {
    /// Reads the process with this id; `None` if there is none.
    ///
    /// # Errors
    /// Fails if it exists and cannot be read.
    pub fn read(pid: u32) -> Result<Option<Self>> {
        Self::read_if(pid, |_| true).map_err(|error| unreadable(pid, &error))
    }

    /// Reads all visible processes.
    ///
    /// # Errors
    /// Fails if `/proc` cannot be read.
    pub fn all() -> Result<Vec<Self>> {
        Self::list(|_| true)
    }

    /// Reads the children of a process.
    ///
    /// # Errors
    /// Fails if `/proc` cannot be read.
    pub fn children(parent: u32) -> Result<Vec<Self>> {
        Self::list(|stat| stat.parent == parent)
    }

    /// Whether this is the same process at another time.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.pid, self.start) == (other.pid, other.start)
    }

    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// The title, or else the name, on one line and shortened.
    pub fn excerpt(&self) -> String {
        let text = if self.title.is_empty() { &self.name } else { &self.title };
        let line = one_line(text);
        match line.char_indices().nth(MAX_EXCERPT) {
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
            match Self::read_if(pid, &is_wanted) {
                Ok(process) => processes.extend(process),
                // With `hidepid`, processes of other users may be listed but not readable.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
                Err(error) => return Err(unreadable(pid, &error)),
            }
        }
        Ok(processes)
    }

    /// Reads a process if it exists and `is_wanted`.
    fn read_if(pid: u32, is_wanted: impl Fn(&Stat) -> bool) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty());
        let Some(dir) = unless_ended(opened)? else { return Ok(None) };
        let seen = now();
        let Some(stat) = file(&dir, "stat", MAX_FILE)? else { return Ok(None) };
        let stat = Stat::parse(&stat)?;
        if !is_wanted(&stat) {
            return Ok(None);
        }
        let title = file(&dir, "cmdline", MAX_TITLE)?;
        let (Some(title), Some(status)) = (title, file(&dir, "status", MAX_FILE)?) else {
            return Ok(None);
        };
        let Status { leader, users, signals } = Status::parse(&status)?;
        let Stat { start, parent, faults_of_children, state, name } = stat;
        let title = title_of(title);
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
        // `/proc` also has an entry for the id of each thread.
        Ok((leader == pid).then_some(process))
    }
}

fn unreadable(pid: u32, error: &io::Error) -> anyhow::Error {
    io_failure("read", format!("/proc/{pid}"), error)
}

/// The first `max` bytes of a file of a process; `None` if the process has ended.
fn file(process: &OwnedFd, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(process, name, flags, Mode::empty());
    let Some(file) = unless_ended(opened)? else { return Ok(None) };
    let mut bytes = Vec::new();
    match File::from(file).take(max).read_to_end(&mut bytes) {
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

/// The arguments as a title: NULs between them become spaces. NULs at the end are dropped, with
/// which a program that sets its title fills the rest.
fn title_of(mut arguments: Vec<u8>) -> Vec<u8> {
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

    /// A process that waits for the end of its input, with `name` as its first argument.
    fn cat(name: &str) -> Child {
        let mut cat = Command::new("cat");
        cat.arg0(name).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    /// The process, once `is_ready`.
    fn read(child: &Child, is_ready: impl Fn(&Process) -> bool) -> Process {
        let mut found = None;
        e2e::wait_for("the process to be ready", || {
            found = Process::read(child.id()).unwrap().filter(&is_ready);
            found.is_some()
        });
        found.unwrap()
    }

    #[test]
    fn parent_title_users_state_and_faults_are_read() {
        let before = now();
        let mut child = cat("nginx: master\n) Z 1 1");
        // The name is set before the title.
        let is_started = |process: &Process| process.name == b"cat" && !process.title.is_empty();
        let process = read(&child, is_started);
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
        let (sender, receiver) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            sender.send(fs::read_link("/proc/thread-self").unwrap()).unwrap();
            let _ = ended.recv();
        });
        let path = receiver.recv().unwrap();
        let id = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        assert!(fs::exists(format!("/proc/{id}/stat")).unwrap() && id != std::process::id());
        assert_eq!(Process::read(id).unwrap(), None);
        drop(end);
        thread.join().unwrap();
    }

    #[test]
    fn titles_are_joined_and_shortened() {
        let process = |title: &[u8]| Process {
            pid: 1,
            start: 0,
            seen: 0,
            parent: 0,
            faults_of_children: 0,
            state: b'S',
            name: b"x".to_vec(),
            title: title_of(title.to_vec()),
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
