//! Sends a signal to a process and proves its effect.
//!
//! 1. Find the process that the [`Target`] means.
//! 2. Open a pidfd, which stays with that process even if its id is reused.
//! 3. Read the process again and wait until it has a handler for the signal: without one it would
//!    be killed.
//! 4. For HUP to nginx, record the workers.
//! 5. Send the signal through the pidfd.
//! 6. Wait for the proof: new workers of nginx, or a process that has not ended.

mod name;
mod pid_file;
mod target;
mod visibility;

use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;
use diagnostics::wording::io_error;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, geteuid, getuid, pidfd_open, pidfd_send_signal, test_kill_process,
};

use self::Verify::Automatic;
pub use self::name::SignalName;
pub use self::target::Target;
use crate::action::{Action, Content, Failure};
use crate::log::warn;
use crate::process::nginx::{Generation, LastMaster, is_master, is_untitled, is_worker};
use crate::process::{Process, bit, now};
use crate::stop::Stop;
use crate::wait::Wait;

/// How long a process may take to install its handler.
const STARTING: Duration = Duration::from_secs(1);
/// How long a process must live after the signal.
const SURVIVAL: Duration = Duration::from_millis(200);

/// What proves that a signal has had its effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Verify {
    /// For HUP to nginx a new generation of workers, for anything else as `delivery`.
    #[default]
    Automatic,
    /// The process has a handler for the signal and does not end.
    Delivery,
}

/// An action that sends a signal to a process.
#[derive(Clone, Debug)]
pub struct SendSignal {
    /// The signal.
    pub signal: SignalName,
    /// The process.
    pub target: Target,
    /// What proves the effect.
    pub verify: Verify,
    /// How long the action may take.
    pub timeout: Duration,
    /// Gets the master of nginx that the signal is sent to.
    pub master: LastMaster,
}

/// A process with its pidfd.
struct OpenProcess {
    process: Process,
    pidfd: OwnedFd,
}

impl Action for SendSignal {
    fn describe(&self) -> String {
        format!("{} to {}", self.signal, self.target)
    }

    fn run(&self, _: &Content, stop: &Stop) -> Result<String, Failure> {
        let wait = Wait::new(stop, self.timeout);
        let open = self.open(&wait).map_err(Failure::without_effect)?;
        if !self.is_proved_by_workers(&open.process) {
            self.send(&open).map_err(Failure::without_effect)?;
            return self.survives(&open, stop).map_err(Failure::in_doubt);
        }
        let half = wait.at_most(self.timeout / 2);
        let before = Generation::capture(&open.process, &half).map_err(Failure::without_effect)?;
        let signalled = now();
        self.send(&open).map_err(Failure::without_effect)?;
        self.master.set(&open.process);
        let proof = before.wait_for_next(signalled, &wait).map_err(Failure::in_doubt)?;
        if let Some(warning) = proof.warning {
            warn(&warning);
        }
        Ok(proof.text)
    }

    fn dry_run(&self, _: &Content) -> Result<String> {
        let stop = Stop::default();
        let open = self.open(&Wait::new(&stop, self.timeout))?;
        let Process { pid, users, .. } = open.process;
        test_kill_process(id(pid)?).map_err(|errno| self.refusal(&open.process, errno))?;
        let (signal, title, user) = (self.signal, open.process.excerpt(), users.effective);
        Ok(format!("{signal} to process {pid} ({title}), of user {user}"))
    }
}

impl SendSignal {
    /// Finds and opens the process, and waits until the signal will not kill it.
    fn open(&self, wait: &Wait<'_>) -> Result<OpenProcess> {
        let found = self.target.find(wait)?;
        let pid = found.pid;
        let pidfd = pidfd_open(id(pid)?, PidfdFlags::empty()).map_err(|errno| match errno {
            Errno::SRCH => ended(pid),
            _ => anyhow!("failed to open process {pid}: {}", io_error(&errno.into())),
        })?;
        let process = self.wait_until_ready(&found, wait)?;
        Ok(OpenProcess { process, pidfd })
    }

    /// Waits until the process has a handler for the signal, and nginx its title; returns it as it
    /// is then.
    fn wait_until_ready(&self, found: &Process, wait: &Wait<'_>) -> Result<Process> {
        let mut last = found.clone();
        let ready = wait.at_most(STARTING).until(|| {
            let process = self.read_again(found)?;
            let lacks_title = self.is_nginx_reload() && is_untitled(&process);
            last = process.clone();
            Ok((self.handles(&process) && !lacks_title).then_some(process))
        })?;
        let (pid, title) = (last.pid, last.excerpt());
        match ready {
            Some(process) if self.is_nginx_reload() && is_worker(&process) => {
                bail!(
                    "process {pid} is a worker of nginx, not its master: name process {}",
                    process.parent
                )
            }
            Some(process) => Ok(process),
            None if self.handles(&last) => bail!(
                "process {pid} ({title}) is nginx without a master process, so that nothing \
                 would show whether it reloads"
            ),
            None => Err(self.unhandled(&last)),
        }
    }

    /// Reads the same process again.
    fn read_again(&self, found: &Process) -> Result<Process> {
        let present = Process::read(found.pid)?.filter(|p| p.is_same(found) && p.is_alive());
        let process = present.ok_or_else(|| ended(found.pid))?;
        if !self.target.is_still(&process) {
            bail!("process {} has become another program: {}", process.pid, process.excerpt());
        }
        Ok(process)
    }

    fn handles(&self, process: &Process) -> bool {
        process.signals.caught & bit(self.signal.signal()) != 0
    }

    fn unhandled(&self, process: &Process) -> anyhow::Error {
        let is_ignored = process.signals.ignored & bit(self.signal.signal()) != 0;
        let effect = if is_ignored || self.signal.is_harmless() {
            "would be ignored"
        } else {
            "would kill it"
        };
        anyhow!(
            "process {} ({}) has no handler for {}, which {effect}",
            process.pid,
            process.excerpt(),
            self.signal
        )
    }

    fn is_nginx_reload(&self) -> bool {
        self.verify == Automatic && self.signal.signal() == Signal::HUP
    }

    fn is_proved_by_workers(&self, process: &Process) -> bool {
        self.is_nginx_reload() && is_master(process)
    }

    /// Sends the signal, if the process still has a handler for it.
    fn send(&self, open: &OpenProcess) -> Result<()> {
        let present = self.read_again(&open.process)?;
        if !self.handles(&present) {
            return Err(self.unhandled(&present));
        }
        pidfd_send_signal(&open.pidfd, self.signal.signal())
            .map_err(|errno| self.refusal(&present, errno))
    }

    fn refusal(&self, process: &Process, errno: Errno) -> anyhow::Error {
        let (pid, signal, title) = (process.pid, self.signal, process.excerpt());
        let (own, theirs) = ([getuid(), geteuid()].map(|user| user.as_raw()), process.users);
        let is_same_user = own.iter().any(|own| [theirs.real, theirs.saved].contains(own));
        match errno {
            Errno::SRCH => ended(pid),
            // EACCES comes from a security module.
            Errno::PERM | Errno::ACCESS if is_same_user => anyhow!(
                "not permitted to send {signal} to process {pid} ({title}), though both run as \
                 user {}: a security policy (AppArmor, SELinux, seccomp) forbids it",
                theirs.real
            ),
            Errno::PERM | Errno::ACCESS => anyhow!(
                "not permitted to send {signal} to process {pid} ({title}), which runs as user {}, \
                 reloader as {}: both containers must run as the same user (runAsUser)",
                theirs.real,
                own[1]
            ),
            _ => anyhow!("failed to send {signal} to process {pid}: {}", io_error(&errno.into())),
        }
    }

    /// The proof for a program that is not nginx: the signal has not ended it.
    fn survives(&self, open: &OpenProcess, stop: &Stop) -> Result<String> {
        let Process { pid, .. } = open.process;
        let gone = Wait::new(stop, SURVIVAL).until(|| {
            let present = Process::read(pid)?;
            let goes_on = present.is_some_and(|p| p.is_same(&open.process) && p.is_alive());
            Ok((!goes_on).then_some(()))
        });
        match gone.context("the signal was delivered")? {
            Some(()) if !self.signal.asks_to_end() => {
                bail!("process {pid} was ended by {}", self.signal)
            }
            _ => Ok("signal delivered".to_owned()),
        }
    }
}

fn id(pid: u32) -> Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| anyhow!("no process {pid}"))
}

fn ended(pid: u32) -> anyhow::Error {
    anyhow!("process {pid} has just ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_a_reused_id_is_not_the_same() {
        let hup = |target| SendSignal {
            signal: SignalName::HUP,
            target,
            verify: Automatic,
            timeout: Duration::ZERO,
            master: LastMaster::default(),
        };
        let own = Process::read(std::process::id()).unwrap().unwrap();
        let action = hup(Target::Pid(own.pid));
        assert!(action.read_again(&own).is_ok_and(|process| process.is_same(&own)));
        let earlier = Process { start: own.start - 1, ..own.clone() };
        let error = action.read_again(&earlier).unwrap_err().to_string();
        assert_eq!(error, format!("process {} has just ended", own.pid));
        let action = hup(Target::Process("nginx: master".to_owned()));
        let error = action.read_again(&own).unwrap_err().to_string();
        assert!(error.contains("has become another program"), "{error}");
    }
}
