//! A command that is run when another version is live.

use std::io::stderr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use diagnostics::exit::misconfigured;
use diagnostics::wording::{io_error, one_line};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::shutdown::Shutdown;

/// Longest time between two looks at a command that runs.
const LOOK: Duration = Duration::from_millis(50);
/// How long a command that was told to end may take for it.
const END_WITHIN: Duration = Duration::from_secs(10);

/// A command as words.
pub struct Words(Vec<String>);

impl Words {
    /// Splits a command line as a POSIX shell does. There is no shell: nothing is expanded.
    ///
    /// # Errors
    /// There are no words in it, or a quote is left open.
    pub fn parse(line: &str) -> Result<Self> {
        match shlex::split(line) {
            None => Err(misconfigured("the command of --then ends within quotes or an escape")),
            Some(words) if words.first().is_none_or(String::is_empty) => {
                Err(misconfigured("the command of --then is empty"))
            }
            Some(words) => Ok(Self(words)),
        }
    }

    /// Runs it to its end. What it writes goes to stderr. Who is told to end tells it, and then ends
    /// it.
    ///
    /// # Errors
    /// It cannot be started, fails, or was told to end.
    pub fn run(&self, digest: &str, target: &Path, stop: &Shutdown) -> Result<()> {
        // Its arguments may hold what is nobody's business.
        let name = one_line(self.0[0].as_bytes());
        if stop.has_come() {
            bail!("`{name}` was not run: told to end");
        }
        let mut child = Command::new(&self.0[0])
            .args(&self.0[1..])
            .env("PROVISIONER_DIGEST", digest)
            .env("PROVISIONER_TARGET", target)
            .stdin(Stdio::null())
            .stdout(Stdio::from(stderr()))
            // A signal from a terminal comes through us, and what it has started ends with it.
            .process_group(0)
            .spawn()
            .map_err(|error| anyhow!("failed to run `{name}`: {}", io_error(&error)))?;
        let waited = wait(&mut child, stop);
        let status =
            waited.map_err(|e| anyhow!("failed to wait for `{name}`: {}", io_error(&e)))?;
        match (status.code(), status.signal()) {
            (Some(0), _) => Ok(()),
            (Some(code), _) => bail!("`{name}` ended with code {code}"),
            (None, signal) => bail!("`{name}` ended by signal {}", signal.unwrap_or_default()),
        }
    }
}

/// Waits for the end of a command, which is told when a signal has come.
fn wait(child: &mut Child, stop: &Shutdown) -> std::io::Result<ExitStatus> {
    let mut pause = Duration::from_millis(1);
    let mut told: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        match told {
            None if stop.has_come() => {
                signal(child, Signal::TERM);
                told = Some(Instant::now());
            }
            Some(since) if since.elapsed() >= END_WITHIN => {
                signal(child, Signal::KILL);
                // It may have left its group.
                child.kill()?;
                return child.wait();
            }
            _ => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(LOOK);
    }
}

/// Signals a command that has not been waited for, and what it has started.
fn signal(child: &Child, signal: Signal) {
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        // What has just ended needs no signal.
        let _ = kill_process_group(group, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        let line = r#"kubectl -n 'my ns' set "a b"=\$c '' ~ $HOME *"#;
        let expected = ["kubectl", "-n", "my ns", "set", "a b=$c", "", "~", "$HOME", "*"];
        assert_eq!(Words::parse(line).ok().unwrap().0, expected);
        for line in ["", " ", "''", "a 'b", "a \\"] {
            assert!(Words::parse(line).is_err(), "{line}");
        }
    }
}
