//! Finds the process to signal: by its id, by its title or name, or by a PID file.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs, process};

use anyhow::{Result, anyhow, bail};
use diagnostics::wording::{io_failure, one_line};

use super::pid_file;
use super::visibility::{isolated, missing, quoted};
use crate::process::Process;
use crate::process::nginx::is_master;
use crate::wait::Wait;

/// How long several matches may be a process and its new children, which have not set their own
/// titles yet.
const SETTLING: Duration = Duration::from_secs(1);
/// How many processes an error lists.
const LISTED: usize = 5;
/// Programs whose only purpose is to be process 1.
const INITS: [&[u8]; 16] = [
    b"pause",
    b"catatonit",
    b"tini",
    b"tini-static",
    b"docker-init",
    b"dumb-init",
    b"podman-init",
    b"init",
    b"systemd",
    b"s6-svscan",
    b"s6-linux-init",
    b"runit",
    b"runit-init",
    b"runsvdir",
    b"openrc-init",
    b"busybox",
];

/// The process to signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The process with this id.
    Pid(u32),
    /// The only process whose title begins with this text, or whose program has this name. Children
    /// of a match do not count, since workers often have the title of their master, unless they are
    /// nginx masters.
    Process(String),
    /// The process whose id is in this file.
    PidFile(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pid(pid) => write!(f, "process {pid}"),
            Self::Process(text) => write!(f, "the process `{}`", one_line(text.as_bytes())),
            Self::PidFile(path) => write!(f, "the process of {}", quoted(path)),
        }
    }
}

impl Target {
    /// Finds the process.
    ///
    /// # Errors
    /// Fails if there is none or more than one, if it is this program or an init, or on a stop.
    pub fn find(&self, wait: &Wait<'_>) -> Result<Process> {
        check_proc()?;
        let found = match self {
            Self::Pid(pid) => {
                let found = Process::read(*pid)?.filter(Process::is_alive);
                found.ok_or_else(|| missing(format!("there is no process {pid}")))?
            }
            Self::Process(text) => find_by_text(text, wait)?,
            Self::PidFile(path) => pid_file::find(path)?,
        };
        if found.pid == process::id() {
            return Err(if found.pid == 1 {
                isolated("process 1 is reloader itself")
            } else {
                anyhow!("process {} is reloader itself", found.pid)
            });
        }
        if found.pid == 1 && is_init(&found) {
            bail!(
                "process 1 is {}, which would not pass the signal on: name the process that is \
                 meant, as in --process 'nginx: master'",
                found.excerpt()
            );
        }
        Ok(found)
    }

    /// Whether the process, read again, still matches.
    pub fn is_still(&self, process: &Process) -> bool {
        match self {
            Self::Process(text) => matches(process, text),
            Self::Pid(_) | Self::PidFile(_) => true,
        }
    }
}

/// Makes sure that ids in `/proc` are those that system calls take.
fn check_proc() -> Result<()> {
    let own = fs::read_link("/proc/self").map_err(|e| io_failure("read", "/proc/self", &e))?;
    if own != Path::new(&process::id().to_string()) {
        bail!("`/proc` is of another PID namespace: mount the container's own");
    }
    Ok(())
}

fn find_by_text(text: &str, wait: &Wait<'_>) -> Result<Process> {
    let mut several = Vec::new();
    let settled = wait.at_most(SETTLING).until(|| {
        let mut matching = matching(Process::all()?, text, process::id());
        Ok(match matching.len() {
            0 | 1 => Some(matching.pop()),
            _ => {
                several = matching;
                None
            }
        })
    })?;
    let text = one_line(text.as_bytes());
    match settled {
        Some(Some(found)) => Ok(found),
        Some(None) => Err(missing(format!("there is no process `{text}`"))),
        None => bail!("{} processes are `{text}`: {}", several.len(), list(&several)),
    }
}

/// The processes that match, without children of other matches.
fn matching(processes: Vec<Process>, text: &str, own: u32) -> Vec<Process> {
    let wanted = |process: &Process| process.pid != own && matches(process, text);
    let matching: Vec<_> = processes.into_iter().filter(wanted).collect();
    let is_child = |process: &Process| matching.iter().any(|other| other.pid == process.parent);
    // During an upgrade of nginx's binary, the new master is a child of the old one.
    let counts = |process: &&Process| !is_child(process) || is_master(process);
    matching.iter().filter(counts).cloned().collect()
}

fn matches(process: &Process, text: &str) -> bool {
    let is_called = process.title.starts_with(text.as_bytes()) || process.name == text.as_bytes();
    // An empty text would match everything.
    !text.is_empty() && process.is_alive() && is_called
}

fn list(processes: &[Process]) -> String {
    let name = |p: &Process| format!("{} of user {} ({})", p.pid, p.users.effective, p.excerpt());
    let mut names: Vec<_> = processes.iter().take(LISTED).map(name).collect();
    if processes.len() > LISTED {
        names.push("...".to_owned());
    }
    names.join(", ")
}

fn is_init(process: &Process) -> bool {
    let program = process.title.split(|&byte| byte == b' ').next().unwrap_or_default();
    let program = program.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    INITS.iter().any(|init| *init == process.name || *init == program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Signals, Users};

    fn process(pid: u32, parent: u32, name: &str, title: &str) -> Process {
        Process {
            pid,
            start: 0,
            seen: 0,
            parent,
            faults_of_children: 0,
            state: b'S',
            name: name.into(),
            title: title.into(),
            users: Users { real: 101, effective: 101, saved: 101 },
            signals: Signals::default(),
        }
    }

    fn pids(processes: &[Process], text: &str) -> Vec<u32> {
        matching(processes.to_vec(), text, 9).iter().map(|process| process.pid).collect()
    }

    #[test]
    fn workers_do_not_count_but_a_second_master_does() {
        let mut all = vec![
            process(1, 0, "pause", "/pause"),
            process(7, 0, "nginx", "nginx: master process nginx"),
            process(8, 7, "nginx", "nginx: worker process"),
            process(9, 0, "reloader", "nginx: master process reloader"),
            process(10, 0, "sh", "sh -c nginx: master"),
        ];
        for text in ["nginx: master", "nginx", "nginx: ", "nginx: master process nginx"] {
            assert_eq!(pids(&all, text), [7], "{text}");
        }
        for text in ["", "ngin", "master", "nginx: master process nginx "] {
            assert_eq!(pids(&all, text), if text == "ngin" { vec![7] } else { vec![] }, "{text}");
        }
        all.push(process(11, 7, "nginx", "nginx: master process /new/nginx"));
        all.push(process(12, 11, "nginx", "nginx: worker process"));
        for text in ["nginx: master", "nginx"] {
            assert_eq!(pids(&all, text), [7, 11], "{text}");
        }
        all[1].state = b'Z';
        assert_eq!(pids(&all, "nginx: master"), [11]);
    }

    #[test]
    fn an_error_lists_the_matches_on_one_line() {
        let hostile = process(7, 1, "x", &format!("nginx: master\n{}", "y".repeat(90)));
        let said = list(&[hostile.clone(), process(8, 1, "nginx", "")]);
        let cut = format!(r"nginx: master\n{}...", "y".repeat(45));
        assert_eq!(said, format!("7 of user 101 ({cut}), 8 of user 101 (nginx)"));
        assert!(list(&vec![hostile; 6]).ends_with("...), ..."));
    }

    #[test]
    fn inits_are_recognized_by_name_or_path() {
        for (name, title) in [
            ("pause", "/pause"),
            ("catatonit", "/catatonit -P"),
            ("tini", "/sbin/tini -- nginx"),
            ("exe", "/usr/bin/dumb-init x"),
            ("systemd", "/sbin/init"),
        ] {
            assert!(is_init(&process(1, 0, name, title)), "{title}");
        }
        assert!(!is_init(&process(1, 0, "nginx", "nginx: master process /sbin/init")));
    }
}
