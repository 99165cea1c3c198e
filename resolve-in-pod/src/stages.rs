//! Runs the two stages, passes signals on to them, and waits for both.
//!
//! One thread starts the stages and sleeps until a signal arrives: SIGCHLD, or a signal to pass on.
//! The same thread reaps and signals, so it never signals a process that it has reaped already: the
//! id of that process may belong to another one by then.

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
pub struct StageExit {
    /// The name of the program.
    pub stage: &'static str,
    /// The exit status of the process.
    pub status: ExitStatus,
    /// The summary that the stage wrote; `None` if it ended before.
    pub summary: Option<Summary>,
    /// Whether the stage was sent SIGTERM because the other stage had ended.
    pub was_stopped: bool,
}

/// Runs both stages and returns how they ended. The stage that ended first comes first.
///
/// The result goes to `output`, or to stdout if that is `None`.
///
/// # Errors
/// Fails if a stage cannot be started, which is an error of configuration.
pub fn run(invocation: &Invocation, output: Option<File>) -> Result<Vec<StageExit>> {
    let is_over = Arc::new(AtomicBool::new(false));
    let mut signals = handle_signals(&is_over).context("failed to take signals")?;
    let mut scan = Stage::prepare("scan-uids", &invocation.scan)?;
    scan.command.stdout(Stdio::piped());
    // Only the resolver needs the password, and it reads only the default format.
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
    let exits = wait(&mut signals, vec![scan, resolve]);
    is_over.store(true, Ordering::Relaxed);
    exits
}

/// Handles SIGCHLD and the signals to pass on. Once `is_over` is set, the latter end this process.
///
/// SIGHUP is not handled, nor is SIGINT if it is ignored: handlers would undo `nohup` and `&`. The
/// process that started this one may have blocked the signals, so they are unblocked.
fn handle_signals(is_over: &Arc<AtomicBool>) -> io::Result<Signals> {
    let mut handled = vec![SIGCHLD, SIGTERM];
    if !is_ignored(SIGINT) {
        handled.push(SIGINT);
    }
    let mut mask = SigSet::empty();
    for &signal in &handled {
        mask.add(Signal::try_from(signal)?);
        if signal != SIGCHLD {
            register_conditional_default(signal, is_over.clone())?;
        }
    }
    mask.thread_unblock()?;
    Signals::new(handled)
}

/// Whether this process was started with a signal ignored (proc(5), `SigIgn`).
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

fn wait(signals: &mut Signals, mut running: Vec<Running>) -> Result<Vec<StageExit>> {
    let mut exits = Vec::new();
    loop {
        let mut left = Vec::new();
        for mut stage in running {
            match stage.child.try_wait().context("failed to wait for a stage")? {
                Some(status) => exits.push(stage.into_exit(status)),
                None => left.push(stage),
            }
        }
        running = left;
        if running.is_empty() {
            return Ok(exits);
        }
        if exits.iter().any(|exit| exit.stage == "resolver") {
            // No process reads the output of scan-uids any more.
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
        // The file is in memory, because the root of a pod may be read-only. The stages inherit it.
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

/// The path of a stage's program in the directory of this program, so that both are of one build.
/// If there is none, the bare name, which is looked up in PATH.
fn program(name: &str) -> OsString {
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.parent().map(|directory| directory.join(name));
    beside.filter(|path| path.is_file()).map_or(OsStr::new(name).into(), OsString::from)
}

/// A stage that has been started and not reaped.
struct Running {
    name: &'static str,
    child: Child,
    summary: File,
    was_stopped: bool,
}

impl Running {
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        // The process is not reaped yet. If it has ended, the signal has no effect.
        let _ = kill(pid, signal);
    }

    fn stop(&mut self) {
        if !self.was_stopped {
            self.was_stopped = true;
            self.signal(Signal::SIGTERM);
        }
    }

    fn into_exit(mut self, status: ExitStatus) -> StageExit {
        let mut json = String::new();
        let read = self.summary.rewind().and_then(|()| self.summary.read_to_string(&mut json));
        let summary = read.ok().and_then(|_| serde_json::from_str(&json).ok());
        StageExit { stage: self.name, status, summary, was_stopped: self.was_stopped }
    }
}
