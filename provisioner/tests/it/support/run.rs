//! Runs the program, and looks at the volume afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::programs::{Outcome, command, program, run};
use e2e::strace::Call;
use tempfile::TempDir;

use crate::support::tree::{seen, seen_by_name, without_root};

/// A directory of a test's own, with an empty volume in it.
pub struct Place(TempDir);

impl Place {
    /// A new one, which is removed at the end.
    pub fn new() -> Self {
        Self::of(TempDir::new().expect("a directory"))
    }

    /// One in memory if there is any: for hundreds of runs that need not wait for a disk, since
    /// nothing is asked of it but what system calls answer.
    pub fn in_memory() -> Self {
        TempDir::new_in("/dev/shm").map_or_else(|_| Self::new(), Self::of)
    }

    fn of(dir: TempDir) -> Self {
        fs::create_dir(dir.path().join("volume")).expect("made");
        Self(dir)
    }

    /// What is called so in it.
    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The volume.
    pub fn volume(&self) -> PathBuf {
        self.at("volume")
    }
}

/// The program, to publish `source` to `volume`, where nothing is kept of earlier versions.
pub fn provisioner(source: &Path, volume: &Path, args: &[&str]) -> Command {
    let mut provisioner = command("provisioner");
    provisioner.arg("--source").arg(source).arg("--target").arg(volume);
    provisioner.args(["--keep", "0"]).args(args);
    provisioner
}

/// What a run comes to whose readers need no time.
pub fn publish(source: &Path, volume: &Path) -> Outcome {
    run(&mut provisioner(source, volume, &["--grace", "0"]), b"")
}

/// Publishes, and asserts that it is done and nothing else is left.
pub fn assert_publishes(source: &Path, volume: &Path) {
    let outcome = publish(source, volume);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert_settled(source, volume);
}

/// Asserts that `source` is live on `volume`, and nothing else is left of any run.
pub fn assert_settled(source: &Path, volume: &Path) {
    let expected = seen(source);
    assert_eq!(seen(&volume.join("..data/")), expected);
    assert_eq!(seen_by_name(volume), without_root(expected));
    let (mut kept, links): (BTreeSet<_>, BTreeSet<_>) =
        names(volume).into_iter().partition(|name| name.as_bytes().starts_with(b".."));
    if kept.remove(OsStr::new("..provisioner")) {
        let state = names(&volume.join("..provisioner"));
        assert!(state.is_subset(&BTreeSet::from(["history".into()])), "{state:?}");
    }
    assert_eq!(links, names(source));
    for name in &links {
        let target = fs::read_link(volume.join(name)).expect("a link");
        assert_eq!(target, Path::new("..data").join(name));
    }
    let live = fs::read_link(volume.join("..data")).expect("a link");
    let version = live.parent().expect("the version of the tree").as_os_str();
    assert_eq!(kept, BTreeSet::from(["..data".into(), version.to_owned()]));
    let parts = ["manifest", "tree", "version"].map(OsString::from);
    assert_eq!(names(&volume.join(version)), BTreeSet::from(parts));
}

/// What is in a directory.
pub fn names(dir: &Path) -> BTreeSet<OsString> {
    let entries = fs::read_dir(dir).expect("a directory");
    entries.map(|entry| entry.expect("an entry").file_name()).collect()
}

/// Runs it under strace, which writes the calls to `log`.
pub fn strace(options: &[&str], log: &Path, traced: &Command) -> Outcome {
    run(&mut strace_command(options, log, traced), b"")
}

/// The command for that.
pub fn strace_command(options: &[&str], log: &Path, traced: &Command) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-q", "-o"]).arg(log).args(options).arg("--");
    strace.arg(program("provisioner")).args(traced.get_args());
    for (variable, value) in traced.get_envs() {
        assert!(value.is_none());
        strace.env_remove(variable);
    }
    strace
}

/// Calls that change nothing, but for some of `openat` and `ioctl`.
const HARMLESS: [&str; 46] = [
    "access",
    "arch_prctl",
    "brk",
    "clone3",
    "close",
    "execve",
    "exit",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fcntl",
    "flock",
    "fstat",
    "fstatfs",
    "futex",
    "getdents64",
    "getpid",
    "getrandom",
    "gettid",
    "lseek",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "newfstatat",
    "openat2",
    "poll",
    "pread64",
    "prlimit64",
    "read",
    "readlink",
    "readlinkat",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
    "statfs",
    "statx",
    "clock_nanosleep",
    "prctl",
];

/// Whether a call may change a file. The termination log is not counted.
pub fn may_change(call: &Call) -> bool {
    let contains_one_of = |parts: &[&str]| parts.iter().any(|part| call.text.contains(part));
    match &call.name[..] {
        "openat" => {
            contains_one_of(&["O_CREAT", "O_TRUNC", "O_WRONLY", "O_RDWR"])
                && !call.text.contains("\"/dev/termination-log\"")
        }
        // These requests ask whether the file is a terminal.
        "ioctl" => !contains_one_of(&["TCGETS", "TIOCGWINSZ"]),
        name => !HARMLESS.contains(&name),
    }
}

/// The calls in a log of strace that may change something.
#[derive(Default)]
pub struct Calls {
    /// By their names, how often a thread has made them; of `openat`, which of them create.
    counts: BTreeMap<String, BTreeSet<u32>>,
    /// How many files the program had opened before the volume.
    pub start: u32,
    /// By their names, how many a thread had made when it made a tree live, that one included.
    pub at_switch: BTreeMap<String, u32>,
}

impl Calls {
    /// Reads a log of a run on `volume`.
    pub fn read(log: &Path, volume: &Path) -> Self {
        let (mut calls, mut made) = (Self::default(), BTreeMap::<_, u32>::new());
        for Call { thread, name, text, .. } in e2e::strace::read(log) {
            if HARMLESS.contains(&&name[..]) {
                continue;
            }
            let number = made.entry((thread, name.clone())).or_default();
            *number += 1;
            if name != "openat" || text.contains("O_CREAT") {
                calls.counts.entry(name.clone()).or_default().insert(*number);
            } else if calls.start == 0 && text.contains(volume.to_str().expect("UTF-8")) {
                calls.start = *number;
            }
            if name == "renameat" && text.contains("\"..data\"") {
                let own = made.iter().filter(|((of, _), _)| *of == thread);
                let own = own.map(|((_, name), number)| (name.clone(), *number));
                calls.at_switch = own.collect();
            }
        }
        calls
    }

    /// The names, and for each the numbers of its calls within a thread. Another run may share
    /// the work otherwise: a few more are in it.
    pub fn numbers(&self) -> impl Iterator<Item = (&String, BTreeSet<u32>)> {
        self.counts.iter().map(|(call, numbers)| {
            let more = numbers.last().map_or(0..0, |&last| last + 1..last + 4);
            (call, numbers.iter().copied().chain(more).collect())
        })
    }
}
