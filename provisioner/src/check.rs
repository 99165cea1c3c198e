//! Runs the commands of `--check` on a complete new tree before it goes live.
//!
//! 1. Note inode, size, mode, owner and change time of every entry ([`stamps`]).
//! 2. Run each command in the tree. The first one that does not accept it ends the run.
//! 3. Compare the entries with step 1: what was checked is what goes live.
//!
//! The exit code of a command tells a refusal (exit code 2 of the run: the data is wrong) from a check
//! that did not come to a verdict (exit code 1: another attempt may help).

mod stamps;

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use diagnostics::exit::misconfigured;
use diagnostics::wording::{io_error, one_line};
use outbound::command::{CommandLine, Ending, Limits, Outcome, ParseError, RunError};
use published_tree::dir::Dir;
use published_tree::manifest::hex;
use published_tree::tree::{Hash, Tree};

use crate::cli::CheckOptions;
use crate::shutdown::Shutdown;
use stamps::Stamps;

/// Time from SIGTERM to SIGKILL after the timeout, or when provisioner gets a signal.
const GRACE: Duration = Duration::from_secs(2);

/// A complete tree that is on the disk, but not live.
#[derive(Clone, Copy)]
pub struct Staged<'s> {
    /// Its directory.
    pub dir: &'s Dir,
    /// What it holds.
    pub tree: &'s Tree,
    /// The digest of the version.
    pub digest: &'s Hash,
}

/// The commands of `--check`.
#[derive(Default)]
pub struct Checks {
    commands: Vec<CommandLine>,
    timeout: Duration,
    /// The path of the volume.
    target: PathBuf,
}

impl Checks {
    /// Takes the commands from the command line. A value may hold several, one a line; blank lines
    /// and comments are ignored.
    ///
    /// # Errors
    /// Fails if one cannot be split into words; an error of configuration.
    pub fn of(options: &CheckOptions, target: &Path) -> Result<Self> {
        let commands = options.check.iter().map(|value| parse_lines(value));
        let commands = commands
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| misconfigured(format_args!("the command of --check {error}")))?;
        Ok(Self {
            commands: commands.into_iter().flatten().collect(),
            timeout: Duration::from_secs(options.check_timeout),
            target: std::path::absolute(target).unwrap_or_else(|_| target.to_owned()),
        })
    }

    /// Whether no command is configured.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// The programs in words, for a dry run. Empty if there is none.
    pub fn describe(&self) -> String {
        self.commands.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Looks up the programs, as a run would.
    ///
    /// # Errors
    /// Fails if one is missing or cannot be executed.
    pub fn find_programs(&self) -> Result<()> {
        self.commands.iter().try_for_each(|command| {
            let found = command.find_program();
            found.map(drop).map_err(|error| anyhow!("failed to run the check {command}: {error:#}"))
        })
    }

    /// Runs the commands on a tree (steps 1 to 3). A signal ends the command that runs, and the check
    /// fails.
    ///
    /// # Errors
    /// Fails with an error of configuration if a command refuses the tree; with another error if
    /// one comes to no verdict or changes the tree.
    pub fn run(&self, staged: Staged<'_>, shutdown: &Shutdown) -> Result<()> {
        if self.commands.is_empty() {
            return Ok(());
        }
        let before = Stamps::take(staged)?;
        for command in &self.commands {
            shutdown.defer();
            let verdict = self.judge(command, staged, &|| shutdown.has_come());
            shutdown.resume();
            if shutdown.has_come() {
                bail!("the check {command} was ended: interrupted by a signal");
            }
            verdict?;
            if let Some(path) = before.first_difference(&Stamps::take(staged)?, staged.tree) {
                bail!("the check {command} has changed `{}` in the tree", one_line(&path));
            }
        }
        Ok(())
    }

    fn judge(
        &self,
        command: &CommandLine,
        staged: Staged<'_>,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<()> {
        let directory = std::path::absolute(staged.dir.display_path(b""))?;
        let digest = hex(staged.digest);
        let variables = [
            ("PROVISIONER_STAGED", directory.as_os_str()),
            ("PROVISIONER_DIGEST", OsStr::new(&digest)),
            ("PROVISIONER_TARGET", self.target.as_os_str()),
        ];
        let limits = Limits {
            timeout: Some(self.timeout),
            grace: GRACE,
            grace_on_stop: GRACE,
            ends_group: true,
        };
        let name = format!("the check {command}");
        let (outcome, output) = match command.judge(&directory, &variables, &limits, is_stopped) {
            Ok(judged) => judged,
            Err(RunError::Start(error)) => bail!("failed to run {name}: {}", io_error(&error)),
            Err(RunError::Wait(error)) => bail!("failed to wait for {name}: {}", io_error(&error)),
        };
        let output = shown(&output);
        match outcome {
            Outcome::Exited(status) => verdict(&name, status, &output),
            Outcome::TimedOut(ending) => {
                let limit = self.timeout.as_secs();
                bail!("{name} was not done within {limit} s, {ending}{output}")
            }
            Outcome::NotStarted => bail!("{name} was not run: interrupted by a signal"),
            Outcome::Stopped(Ending::Unkillable) => bail!("{name} cannot be killed"),
            Outcome::Stopped(_) => bail!("{name} was ended: interrupted by a signal"),
        }
    }
}

/// Parses commands, one a line. A line break within quotes is part of a word.
fn parse_lines(text: &str) -> Result<Vec<CommandLine>, ParseError> {
    let (mut commands, mut open) = (Vec::new(), String::new());
    for line in text.split_inclusive('\n') {
        open.push_str(line);
        match CommandLine::parse(&open) {
            Err(ParseError::OpenQuote) => continue,
            Err(ParseError::Empty) if is_blank(&open) => {}
            parsed => commands.push(parsed?),
        }
        open.clear();
    }
    if open.is_empty() { Ok(commands) } else { Err(ParseError::OpenQuote) }
}

/// Whether a line holds no command: nothing, or a comment.
fn is_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// What an exit status says of the tree. Shells end with 126 and 127 if they could not run a command,
/// and with 128 + N if signal N killed it: no verdict either.
fn verdict(name: &str, status: ExitStatus, output: &str) -> Result<()> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code @ (126 | 127 | 129..=192)), _) => {
            bail!("{name} came to no verdict: exit code {code}{output}")
        }
        (Some(code), _) => {
            Err(misconfigured(format_args!("{name} refused the tree: exit code {code}{output}")))
        }
        (None, signal) => bail!("{name} was killed by signal {}{output}", signal.unwrap_or(0)),
    }
}

/// The output of a command at the end of a message, on one line.
fn shown(output: &[u8]) -> String {
    match output.trim_ascii() {
        b"" => ", without output".to_owned(),
        text => format!(": {}", one_line(text)),
    }
}

#[cfg(test)]
mod tests {
    use diagnostics::exit::code_of;

    use super::*;

    fn checks(lines: &[&str]) -> Result<Checks> {
        let check = lines.iter().map(|&line| line.to_owned()).collect();
        Checks::of(&CheckOptions { check, check_timeout: 1 }, Path::new("/data"))
    }

    #[test]
    fn each_line_is_a_command_and_arguments_are_not_shown() {
        assert!(checks(&["", " \n"]).unwrap().is_empty());
        assert_eq!(checks(&["a --key s3cret", "", "b"]).unwrap().describe(), "`a`, `b`");
        assert_eq!(checks(&["a\n\nb 'c\nd\n' e\nf\n"]).unwrap().describe(), "`a`, `b`, `f`");
        assert_eq!(checks(&["# it's one a line\na\n"]).unwrap().describe(), "`a`");
        assert!(checks(&["a\n''"]).is_err());
        let error = checks(&["a", "b 's3cret"]).err().unwrap();
        assert_eq!(code_of(&error), 2);
        let message = "the command of --check ends within quotes or an escape";
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn a_refusal_is_told_from_a_check_without_a_verdict() {
        let judge = |status| verdict("x", ExitStatus::from_raw(status), "");
        assert!(judge(0).is_ok());
        for (status, code) in [
            (1 << 8, 2),
            (2 << 8, 2),
            (125 << 8, 2),
            (126 << 8, 1),
            (127 << 8, 1),
            (128 << 8, 2),
            (137 << 8, 1),
            (255 << 8, 2),
            (9, 1),
        ] {
            assert_eq!(code_of(&judge(status).unwrap_err()), code, "{status}");
        }
    }

    #[test]
    fn output_is_one_line_without_control_characters() {
        assert_eq!(shown(b"\n \n"), ", without output");
        assert_eq!(shown(b" a\n\x1b[2Jb\xff\n"), r": a\n\u{1b}[2Jb\xff");
    }
}
