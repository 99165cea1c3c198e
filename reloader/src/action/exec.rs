//! Runs a command: for instance `provisioner` into a directory that the application watches.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use diagnostics::exit::misconfigured;
use diagnostics::wording::{io_error, one_line};
use rustix::fs::{Access, access};
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process_group, test_kill_process_group, waitpgid,
};

use super::{Action, Content, Failure};
use crate::stop::Stop;

/// How long a command may take, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// How long it has to end when asked to, after its time.
const GRACE: Duration = Duration::from_secs(5);

/// How long it has to end when the program itself is to end.
const GRACE_ON_STOP: Duration = Duration::from_millis(500);

/// How long the kernel has to end what was killed.
const BURIAL: Duration = Duration::from_secs(1);

/// How often a wait looks at the command.
const GLANCE: Duration = Duration::from_millis(20);

/// Groups of commands that are done. What they have left in the background becomes a child of
/// process 1, which is this one in a container of its own, and has to be buried when it dies.
static LEFT: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// A command, without a shell.
#[derive(Clone)]
pub struct Exec {
    program: String,
    arguments: Vec<String>,
    timeout: Duration,
}

/// What ended the wait for a command.
enum End {
    Exited(ExitStatus),
    TooLate,
    Stopped,
}

impl Exec {
    /// Takes a command line apart by the quoting rules of a POSIX shell. It may take 5 minutes.
    ///
    /// # Errors
    /// A quote is not closed, or there is no program; errors of configuration.
    pub fn parse(line: &str) -> Result<Self> {
        let refuse = |why: &str| misconfigured(format_args!("bad command to run: {why}"));
        if line.contains('\0') {
            return Err(refuse("it holds a NUL character"));
        }
        let words = shlex::split(line).ok_or_else(|| refuse("a quote is not closed"))?;
        let mut words = words.into_iter();
        let program = words.next().filter(|program| !program.is_empty());
        let program = program.ok_or_else(|| refuse("it is empty"))?;
        Ok(Self { program, arguments: words.collect(), timeout: TIMEOUT })
    }

    /// Limits how long it may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn spawn(&self, content: &Content) -> io::Result<Child> {
        let diagnostics = || io::stderr().as_fd().try_clone_to_owned().map(Stdio::from);
        Command::new(&self.program)
            .args(&self.arguments)
            .env("RELOADER_DIGEST", &content.digest)
            .env("RELOADER_DIRECTORIES", joined(&content.directories))
            .stdin(Stdio::null())
            // Our stdout is for data. There is no pipe that whatever it starts could hold open.
            .stdout(diagnostics()?)
            .stderr(diagnostics()?)
            .process_group(0)
            .spawn()
    }

    fn wait(&self, child: &mut Child, stop: &Stop) -> io::Result<End> {
        let deadline = Instant::now() + self.timeout;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(End::Exited(status));
            }
            if Instant::now() >= deadline {
                return Ok(End::TooLate);
            }
            if stop.wait(GLANCE) {
                return Ok(End::Stopped);
            }
        }
    }

    /// Where the program is, as the search for it will find it.
    fn found(&self) -> Result<PathBuf> {
        let program = Path::new(&self.program);
        if self.program.contains('/') {
            return executable(program).map_err(|error| self.fail(&io_error(&error)));
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let mut found = env::split_paths(&path).map(|directory| directory.join(program));
        found
            .find_map(|candidate| executable(&candidate).ok())
            .ok_or_else(|| self.fail("it is in no directory of PATH"))
    }

    fn fail(&self, why: &str) -> anyhow::Error {
        anyhow!("failed to run {self}: {why}")
    }
}

/// The directories as `PATH` names them: where a pod mounts a volume, there is no colon.
fn joined(directories: &[PathBuf]) -> OsString {
    let names: Vec<_> = directories.iter().map(|directory| directory.as_os_str()).collect();
    names.join(OsStr::new(":"))
}

fn executable(file: &Path) -> io::Result<PathBuf> {
    access(file, Access::EXEC_OK)?;
    if file.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(file.to_owned())
}

/// Its arguments may hold what is not to be told.
impl fmt::Display for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", one_line(self.program.as_bytes()))
    }
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exec({self}, {} arguments, {:?})", self.arguments.len(), self.timeout)
    }
}

impl Action for Exec {
    fn describe(&self) -> String {
        format!("run {self}")
    }

    fn act(&self, content: &Content, stop: &Stop) -> Result<String, Failure> {
        if stop.is_set() {
            return Err(Failure::without_effect(self.fail("stopped before that")));
        }
        bury(None);
        let mut child = self
            .spawn(content)
            .map_err(|error| Failure::without_effect(self.fail(&io_error(&error))))?;
        let group = Pid::from_child(&child);
        let in_doubt = |why: &str| Failure::in_doubt(self.fail(why));
        let outcome = match self.wait(&mut child, stop) {
            Ok(End::Exited(status)) if status.success() => Ok("exit code 0".to_owned()),
            Ok(End::Exited(status)) => Err(in_doubt(&wording(status))),
            Ok(End::TooLate) => {
                let how = end(child, GRACE);
                Err(in_doubt(&format!("not done within {:?}, {how}", self.timeout)))
            }
            Ok(End::Stopped) => {
                let how = end(child, GRACE_ON_STOP);
                Err(in_doubt(&format!("stopped before it was done, {how}")))
            }
            Err(error) => {
                end(child, GRACE_ON_STOP);
                Err(in_doubt(&format!("lost track of it: {}", io_error(&error))))
            }
        };
        bury(Some(group));
        outcome
    }

    fn rehearse(&self, content: &Content) -> Result<String> {
        let found = one_line(self.found()?.as_os_str().as_encoded_bytes());
        let count = self.arguments.len();
        let directories = one_line(joined(&content.directories).as_encoded_bytes());
        Ok(format!(
            "run `{found}` with {count} argument{} and RELOADER_DIRECTORIES={directories}",
            if count == 1 { "" } else { "s" }
        ))
    }
}

fn wording(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Buries the dead of groups of commands that are done, one more among them. The number of a group
/// is not given to another as long as there is a child of this process in it, dead or alive.
fn bury(more: Option<Pid>) {
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    left.extend(more);
    left.retain(|group| {
        loop {
            match waitpgid(*group, WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                // Some of them live.
                Ok(None) => break true,
                Err(_) => break false,
            }
        }
    });
}

/// Ends a command and all that it has started and left in its group: asks first, and kills what
/// is there after the grace. Says how that went.
fn end(mut child: Child, grace: Duration) -> &'static str {
    let group = Pid::from_child(&child);
    // The number is not given to others as long as the command is not waited for, or the group
    // has a member; and not again soon after, so that the next look finds it gone.
    let _ = kill_process_group(group, Signal::TERM);
    if is_gone(&mut child, group, grace) {
        return "it has ended when asked to";
    }
    let _ = kill_process_group(group, Signal::KILL);
    if is_gone(&mut child, group, BURIAL) {
        return "it was killed";
    }
    // It hangs in the kernel, or an orphan of it waits to be buried by process 1.
    if let Ok(None) = child.try_wait() {
        thread::spawn(move || child.wait());
        return "it cannot be killed";
    }
    "it was killed"
}

fn is_gone(child: &mut Child, group: Pid, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    loop {
        // In this order: an unburied command is a member of its group.
        let is_buried = matches!(child.try_wait(), Ok(Some(_)));
        if is_buried && test_kill_process_group(group).is_err() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(GLANCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_split_as_a_shell_would() {
        let exec = Exec::parse(r#"a 'b c' "d \" e" f\ g '' $HOME *"#).unwrap();
        assert_eq!(exec.program, "a");
        assert_eq!(exec.arguments, ["b c", "d \" e", "f g", "", "$HOME", "*"]);
    }

    #[test]
    fn a_command_line_that_runs_nothing_is_refused() {
        for line in ["", "  ", "'' x", "a 'b", "a \"b", "a\0b", "# a"] {
            let error = Exec::parse(line).expect_err(line);
            assert_eq!(diagnostics::exit::code_of(&error), 2, "{line}");
        }
    }

    #[test]
    fn arguments_are_not_told() {
        let exec = Exec::parse("a --password s3cret").unwrap();
        assert!(!format!("{exec:?} {exec} {}", exec.describe()).contains("s3cret"));
    }
}
