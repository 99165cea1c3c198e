//! Runs the two stages and waits for both, passing signals on.
//!
//! One thread does everything: it starts the stages and then sleeps until a signal comes, be it
//! one to pass on or `SIGCHLD`. A process is therefore never signalled after it was reaped, when
//! its id may belong to another.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use diagnostics::exit::misconfigured;
use diagnostics::report::Summary;
use diagnostics::wording::io_error;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_default;
use signal_hook::iterator::Signals;

use crate::invocation::Invocation;

/// How a stage ended.
#[derive(Debug)]
pub struct Ended {
    /// The name of its program.
    pub stage: &'static str,
    /// Its exit status.
    pub status: ExitStatus,
    /// What it reported; `None` when it did not come to that.
    pub summary: Option<Summary>,
    /// It was told to stop because the other stage had ended.
    pub was_stopped: bool,
}

/// Runs both stages and returns how they ended, the first to end first.
///
/// `output` is where the result goes; stdout when there is none.
///
/// # Errors
/// A stage could not be started, which is an error of configuration.
pub fn run(invocation: &Invocation, output: Option<File>) -> Result<Vec<Ended>> {
    let is_over = Arc::new(AtomicBool::new(false));
    let mut signals = take_signals(&is_over).context("failed to take signals")?;
    let mut scan = Stage::prepare("scan-uids", &invocation.scan)?;
    scan.command.stdout(Stdio::piped());
    // Only the lookup needs the password, and it reads one format alone.
    for variable in ["LDAP_BIND_PASS", "SCAN_UIDS_FORMAT"] {
        scan.command.env_remove(variable);
    }
    let mut scan = scan.start()?;
    let mut resolve = Stage::prepare("resolver", &invocation.resolve)?;
    resolve.command.stdin(scan.child.stdout.take().context("the pipe is missing")?);
    if let Some(file) = output {
        resolve.command.stdout(file);
    }
    let resolve = match resolve.start() {
        Ok(resolve) => resolve,
        Err(error) => {
            scan.signal(Signal::SIGTERM);
            let _ = scan.child.wait();
            return Err(error);
        }
    };
    let ended = wait(&mut signals, vec![scan, resolve]);
    is_over.store(true, Ordering::Relaxed);
    ended
}

/// Takes the signals to pass on, until `is_over`; from then on they end the program as usual.
///
/// Not SIGHUP, and not SIGINT if it is ignored: taking them would undo `nohup` and `&`. The mask
/// of whoever started us may block some, and is inherited.
fn take_signals(is_over: &Arc<AtomicBool>) -> io::Result<Signals> {
    let mut taken = vec![SIGCHLD, SIGTERM];
    if !is_ignored(SIGINT) {
        taken.push(SIGINT);
    }
    let mut mask = SigSet::empty();
    for &signal in &taken {
        mask.add(Signal::try_from(signal)?);
        if signal != SIGCHLD {
            register_conditional_default(signal, is_over.clone())?;
        }
    }
    mask.thread_unblock()?;
    Signals::new(taken)
}

/// Whether we were started with a signal ignored (proc(5), `SigIgn`).
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

fn wait(signals: &mut Signals, mut running: Vec<Running>) -> Result<Vec<Ended>> {
    let mut ended = Vec::new();
    loop {
        let mut left = Vec::new();
        for mut stage in running {
            match stage.child.try_wait().context("failed to wait for a stage")? {
                Some(status) => ended.push(stage.end(status)),
                None => left.push(stage),
            }
        }
        running = left;
        if running.is_empty() {
            return Ok(ended);
        }
        if ended.iter().any(|ended| ended.stage == "resolver") {
            // Nobody reads what scan-uids still finds.
            running.iter_mut().for_each(Running::stop);
        }
        for signal in signals.wait() {
            if let Ok(signal) = Signal::try_from(signal)
                && signal != Signal::SIGCHLD
            {
                running.iter().for_each(|stage| stage.signal(signal));
            }
        }
    }
}

/// A stage that is about to start.
struct Stage {
    name: &'static str,
    command: Command,
    summary: File,
}

impl Stage {
    fn prepare(name: &'static str, arguments: &[OsString]) -> Result<Self> {
        // A file in memory, since a pod's root may be read-only. The stages inherit it.
        let summary = memfd_create(SUMMARY_NAME, MFdFlags::empty());
        let summary = File::from(summary.context("failed to make a file in memory")?);
        let mut command = Command::new(program(name));
        command.arg(format!("--summary=/proc/self/fd/{}", summary.as_raw_fd())).args(arguments);
        Ok(Self { name, command, summary })
    }

    fn start(mut self) -> Result<Running> {
        let child = self.command.spawn().map_err(|error| {
            misconfigured(format_args!("failed to start {}: {}", self.name, io_error(&error)))
        })?;
        Ok(Running { name: self.name, child, summary: self.summary, was_stopped: false })
    }
}

const SUMMARY_NAME: &CStr = c"summary";

/// The program of a stage: beside our own if it is there, so that both are of one build, else
/// wherever PATH finds it.
fn program(name: &str) -> OsString {
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.parent().map(|directory| directory.join(name));
    beside.filter(|path| path.is_file()).map_or(OsStr::new(name).into(), OsString::from)
}

struct Running {
    name: &'static str,
    child: Child,
    summary: File,
    was_stopped: bool,
}

impl Running {
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        // It is not reaped yet; if it has ended all the same, the signal goes nowhere.
        let _ = kill(pid, signal);
    }

    fn stop(&mut self) {
        if !self.was_stopped {
            self.was_stopped = true;
            self.signal(Signal::SIGTERM);
        }
    }

    fn end(mut self, status: ExitStatus) -> Ended {
        let mut json = String::new();
        let read = self.summary.rewind().and_then(|()| self.summary.read_to_string(&mut json));
        let summary = read.ok().and_then(|_| serde_json::from_str(&json).ok());
        Ended { stage: self.name, status, summary, was_stopped: self.was_stopped }
    }
}
