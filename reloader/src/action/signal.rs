//! A signal to a process, and the proof of its effect.
//!
//! A process is held by a descriptor before it is looked at again, so that the one that is
//! signalled is the one that was looked at, whoever else gets its id meanwhile.

mod alone;
mod name;
mod pid_file;
mod target;

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
use crate::proof::nginx::{Generation, is_master, is_untitled, is_worker};
use crate::proof::process::{Process, bit, now};
use crate::retry::Retry as Patience;
use crate::stop::Stop;

/// For as long a process may be just starting.
const STARTING: Duration = Duration::from_secs(1);
/// For as long a process must go on after the signal.
const SHORTLY: Duration = Duration::from_millis(200);

/// By what it is known that a signal has had its effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Verify {
    /// HUP to nginx by its workers, which a new generation must replace; anything else as
    /// [`Delivery`](Self::Delivery).
    #[default]
    Automatic,
    /// The process has a handler for the signal, and goes on.
    Delivery,
}

/// A signal to a process.
#[derive(Clone, Debug)]
pub struct Signalling {
    /// Which.
    pub signal: SignalName,
    /// To which process.
    pub target: Target,
    /// By what its effect is known.
    pub verify: Verify,
    /// How long all of it may take.
    pub timeout: Duration,
}

/// A process that is to be signalled, and stays the same.
struct Held {
    process: Process,
    descriptor: OwnedFd,
}

impl Action for Signalling {
    fn describe(&self) -> String {
        format!("{} to {}", self.signal, self.target)
    }

    fn act(&self, _: &Content, stop: &Stop) -> Result<String, Failure> {
        let patience = Patience::new(stop, self.timeout);
        let held = self.hold(&patience).map_err(Failure::without_effect)?;
        if !self.is_proved_by_workers(&held.process) {
            self.send(&held).map_err(Failure::without_effect)?;
            return self.outlive(&held, stop).map_err(Failure::in_doubt);
        }
        let half = patience.at_most(self.timeout / 2);
        let before = Generation::capture(&held.process, &half).map_err(Failure::without_effect)?;
        let signalled = now();
        self.send(&held).map_err(Failure::without_effect)?;
        before.wait_for_next(signalled, &patience).map_err(Failure::in_doubt)
    }

    fn rehearse(&self, _: &Content) -> Result<String> {
        let stop = Stop::default();
        let held = self.hold(&Patience::new(&stop, self.timeout))?;
        let Process { pid, users, .. } = held.process;
        test_kill_process(id(pid)?).map_err(|errno| self.refusal(&held.process, errno))?;
        let (signal, title, user) = (self.signal, held.process.excerpt(), users.effective);
        Ok(format!("{signal} to process {pid} ({title}), of user {user}"))
    }
}

impl Signalling {
    /// Finds the process, holds it, and makes sure that the signal will not kill it.
    fn hold(&self, patience: &Patience<'_>) -> Result<Held> {
        let found = self.target.find(patience)?;
        let pid = found.pid;
        let descriptor =
            pidfd_open(id(pid)?, PidfdFlags::empty()).map_err(|errno| match errno {
                Errno::SRCH => ended(pid),
                _ => anyhow!("failed to get hold of process {pid}: {}", io_error(&errno.into())),
            })?;
        let process = self.ready(&found, patience)?;
        Ok(Held { process, descriptor })
    }

    /// The process as it is now, once it can take the signal and has its title.
    fn ready(&self, found: &Process, patience: &Patience<'_>) -> Result<Process> {
        let mut last = found.clone();
        let ready = patience.at_most(STARTING).poll(|| {
            let process = self.look_again(found)?;
            let waits = self.is_nginx_reload() && is_untitled(&process);
            last = process.clone();
            Ok((self.handles(&process) && !waits).then_some(process))
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

    /// The same process again.
    fn look_again(&self, found: &Process) -> Result<Process> {
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
            "does nothing at it"
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
    fn send(&self, held: &Held) -> Result<()> {
        let present = self.look_again(&held.process)?;
        if !self.handles(&present) {
            return Err(self.unhandled(&present));
        }
        pidfd_send_signal(&held.descriptor, self.signal.signal())
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

    /// All that is known of a program that is not nginx: it does not end of the signal.
    fn outlive(&self, held: &Held, stop: &Stop) -> Result<String> {
        let Process { pid, .. } = held.process;
        let gone = Patience::new(stop, SHORTLY).poll(|| {
            let present = Process::read(pid)?;
            let goes_on = present.is_some_and(|p| p.is_same(&held.process) && p.is_alive());
            Ok((!goes_on).then_some(()))
        });
        match gone.context("the signal was delivered")? {
            Some(()) if !self.signal.asks_to_end() => {
                bail!("process {pid} has ended of {}", self.signal)
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
    fn a_process_that_has_got_the_id_of_another_is_not_it() {
        let hup = |target| Signalling {
            signal: SignalName::HUP,
            target,
            verify: Automatic,
            timeout: Duration::ZERO,
        };
        let own = Process::read(std::process::id()).unwrap().unwrap();
        let action = hup(Target::Pid(own.pid));
        assert!(action.look_again(&own).is_ok_and(|process| process.is_same(&own)));
        let earlier = Process { start: own.start - 1, ..own.clone() };
        let error = action.look_again(&earlier).unwrap_err().to_string();
        assert_eq!(error, format!("process {} has just ended", own.pid));
        let action = hup(Target::Process("nginx: master".to_owned()));
        let error = action.look_again(&own).unwrap_err().to_string();
        assert!(error.contains("has become another program"), "{error}");
    }
}
