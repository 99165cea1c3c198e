//! Runs a command line without a shell, in a process group of its own, so that a timeout or a stop
//! ends its child processes too.
//!
//! 1. The command starts in a process group that it leads. Its stdin is empty; its output goes to
//!    this program's stderr, since stdout is for data.
//! 2. [`CommandLine::run`] waits until the command exits, the timeout passes, or the caller stops.
//! 3. In the last two cases the group gets SIGTERM, and SIGKILL after a grace period (`group`).
//! 4. Processes that the command left in the background go on. Those that became children of this
//!    program, as they do where it is process 1, are reaped at the next run.
//!
//! [`CommandLine::judge`] runs a command for its verdict: it returns the output (`capture`), and
//! kills what the command left in its group.

mod capture;
mod group;

use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use diagnostics::wording::{io_error, one_line};
use rustix::fs::{Access, access};
use rustix::process::Pid;

use capture::Capture;
use group::Background;
pub use group::Ending;

/// Shortest and longest time between two looks at a command that runs.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// A program and its arguments. Clones share the record of processes left in the background.
#[derive(Clone)]
pub struct CommandLine {
    program: String,
    arguments: Vec<String>,
    background: Background,
}

/// Why a command line cannot be run.
#[derive(Debug, PartialEq, Eq)]
pub enum ParseError {
    /// A quote or an escape is not complete.
    OpenQuote,
    /// There is no program.
    Empty,
    /// There is a NUL character, which no argument can hold.
    Nul,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenQuote => "ends within quotes or an escape",
            Self::Empty => "is empty",
            Self::Nul => "holds a NUL character",
        })
    }
}

impl Error for ParseError {}

/// How long a command may run, and how it is ended.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long it may run; no limit if `None`.
    pub timeout: Option<Duration>,
    /// Time from SIGTERM to SIGKILL after the timeout.
    pub grace: Duration,
    /// Time from SIGTERM to SIGKILL when the caller stops.
    pub grace_on_stop: Duration,
    /// Whether SIGKILL is also sent if the command has exited, but others of its process group
    /// have not.
    pub ends_group: bool,
}

/// How a run went.
#[derive(Debug)]
pub enum Outcome {
    /// The caller stopped before the command was started.
    NotStarted,
    /// The command exited, or was killed by a signal that did not come from here.
    Exited(ExitStatus),
    /// The timeout passed.
    TimedOut(Ending),
    /// The caller stopped.
    Stopped(Ending),
}

/// Why it is not known how a run went.
#[derive(Debug)]
pub enum RunError {
    /// The command could not be started.
    Start(io::Error),
    /// The command was started, but could not be waited for. It was ended.
    Wait(io::Error),
}

impl CommandLine {
    /// Splits a line by the quoting rules of a POSIX shell. Nothing is expanded.
    ///
    /// # Errors
    /// Fails if a quote is not closed, there is no program, or there is a NUL character.
    pub fn parse(line: &str) -> Result<Self, ParseError> {
        if line.contains('\0') {
            return Err(ParseError::Nul);
        }
        let mut words = shlex::split(line).ok_or(ParseError::OpenQuote)?.into_iter();
        let program = words.next().filter(|program| !program.is_empty());
        let program = program.ok_or(ParseError::Empty)?;
        Ok(Self { program, arguments: words.collect(), background: Background::default() })
    }

    /// The number of arguments after the program.
    pub fn argument_count(&self) -> usize {
        self.arguments.len()
    }

    /// Finds the program as [`run`](Self::run) would, by `PATH` if its name holds no slash.
    ///
    /// # Errors
    /// Fails if there is no such program, or it cannot be executed.
    pub fn find_program(&self) -> Result<PathBuf> {
        let program = Path::new(&self.program);
        if self.program.contains('/') {
            return executable(program).map_err(|error| anyhow!(io_error(&error)));
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let mut candidates = env::split_paths(&path).map(|directory| directory.join(program));
        candidates
            .find_map(|candidate| executable(&candidate).ok())
            .ok_or_else(|| anyhow!("it is in no directory of PATH"))
    }

    /// Runs the command to its end, with these variables added to the environment. An `is_stopped`
    /// that returns true ends it.
    ///
    /// # Errors
    /// Fails if the command cannot be started or waited for. Its exit status is not an error.
    pub fn run(
        &self,
        variables: &[(&str, &OsStr)],
        limits: &Limits,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Outcome, RunError> {
        if is_stopped() {
            return Ok(Outcome::NotStarted);
        }
        let stderr = || io::stderr().as_fd().try_clone_to_owned().map(Stdio::from);
        let mut command = Command::new(&self.program);
        self.prepare(&mut command, variables);
        // Not a pipe, which a process in the background could hold open.
        command.stdout(stderr().map_err(RunError::Start)?);
        command.stderr(stderr().map_err(RunError::Start)?);
        self.spawn(&mut command, |child| supervise(child, limits, AfterExit::Leave, is_stopped))
    }

    /// Runs the command as [`run`](Self::run) does, in `directory`. Returns the end of its output
    /// too. When the command has ended, what it left in its process group is killed, so that it
    /// changes nothing later.
    ///
    /// `directory` may hold foreign files: a relative name is looked up in this program's working
    /// directory, and so are relative directories in `PATH`, also by the command itself.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn judge(
        &self,
        directory: &Path,
        variables: &[(&str, &OsStr)],
        limits: &Limits,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<(Outcome, Vec<u8>), RunError> {
        if is_stopped() {
            return Ok((Outcome::NotStarted, Vec::new()));
        }
        let (output, input) = io::pipe().map_err(RunError::Start)?;
        let program = self.find_program().and_then(|program| Ok(std::path::absolute(program)?));
        let program = program.map_err(|error| RunError::Start(io::Error::other(error)))?;
        let mut command = Command::new(program);
        command.arg0(&self.program).current_dir(directory);
        if let Some(path) = env::var_os("PATH") {
            command.env("PATH", absolute_directories(&path).map_err(RunError::Start)?);
        }
        self.prepare(&mut command, variables);
        command.stdout(input.try_clone().map_err(RunError::Start)?).stderr(input);
        let limits = Limits { ends_group: true, ..limits.clone() };
        let capture = Capture::start(output).map_err(RunError::Start)?;
        let outcome = self
            .spawn(&mut command, |child| supervise(child, &limits, AfterExit::Kill, is_stopped));
        // The writing ends that the command was started with would keep the pipe open.
        drop(command);
        let output = capture.finish();
        outcome.map(|outcome| (outcome, output))
    }

    fn prepare(&self, command: &mut Command, variables: &[(&str, &OsStr)]) {
        command
            .args(&self.arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .process_group(0);
    }

    fn spawn(
        &self,
        command: &mut Command,
        supervise: impl FnOnce(Child) -> Result<Outcome, RunError>,
    ) -> Result<Outcome, RunError> {
        self.background.reap();
        let child = command.spawn().map_err(RunError::Start)?;
        let group = Pid::from_child(&child);
        let outcome = supervise(child);
        self.background.add(group);
        self.background.reap();
        outcome
    }
}

/// Shows the program alone: the arguments may hold a secret.
impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", one_line(self.program.as_bytes()))
    }
}

impl fmt::Debug for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommandLine({self}, {} arguments)", self.arguments.len())
    }
}

/// What becomes of processes that a command has left in its group when it exits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AfterExit {
    /// They go on.
    Leave,
    /// They are killed.
    Kill,
}

/// Waits for the command's end, and brings it about after the timeout or a stop.
fn supervise(
    mut child: Child,
    limits: &Limits,
    after_exit: AfterExit,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Outcome, RunError> {
    // A timeout beyond the range of `Instant` means no limit.
    let deadline = limits.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let group = Pid::from_child(&child);
    let mut pause = FIRST_PAUSE;
    loop {
        // Once the command was waited for, its group may be another one's.
        let may_wait = after_exit == AfterExit::Leave || group::kill_if_exited(&child);
        match if may_wait { child.try_wait() } else { Ok(None) } {
            Ok(Some(status)) => {
                if after_exit == AfterExit::Kill {
                    group::wait_until_killed(group);
                }
                return Ok(Outcome::Exited(status));
            }
            Ok(None) => {}
            Err(error) => {
                group::end(child, limits.grace_on_stop, limits.ends_group);
                return Err(RunError::Wait(error));
            }
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Outcome::TimedOut(group::end(child, limits.grace, limits.ends_group)));
        }
        if is_stopped() {
            return Ok(Outcome::Stopped(group::end(
                child,
                limits.grace_on_stop,
                limits.ends_group,
            )));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A list like `PATH` with absolute directories. An empty entry stands for the working directory.
fn absolute_directories(list: &OsStr) -> io::Result<OsString> {
    let here = env::current_dir()?;
    env::join_paths(env::split_paths(list).map(|directory| here.join(directory)))
        .map_err(io::Error::other)
}

fn executable(file: &Path) -> io::Result<PathBuf> {
    access(file, Access::EXEC_OK)?;
    if file.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(file.to_owned())
}

#[cfg(test)]
mod tests;
