//! Ends a command's process group, and reaps processes that a command left in the background.
//!
//! The kernel does not reuse the id of a process group until the command has been waited for and the
//! last member has ended. So a signal from here can only reach the command's own group.

use std::fmt;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, test_kill_process_group,
    waitid, waitpgid,
};

/// How long the kernel has to remove killed processes.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// Time between two looks at processes that are to end.
const PAUSE: Duration = Duration::from_millis(20);

/// How a command ended after SIGTERM was sent to it.
#[derive(Debug)]
pub enum Ending {
    /// SIGTERM sufficed.
    Terminated(ExitStatus),
    /// The command, or another process of its group, needed SIGKILL.
    Killed(ExitStatus),
    /// The command hangs in the kernel, and SIGKILL has no effect yet.
    Unkillable,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminated(_) => "it ended after SIGTERM",
            Self::Killed(_) => "it was killed",
            Self::Unkillable => "it cannot be killed",
        })
    }
}

/// Ends a command and its process group:
///
/// 1. SIGTERM goes to the group.
/// 2. If the command (with `ends_group`: the whole group) is gone within the grace period, that is
///    all.
/// 3. SIGKILL goes to the group, and to the command, which may have left it.
pub fn end(mut child: Child, grace: Duration, ends_group: bool) -> Ending {
    let group = Pid::from_child(&child);
    // Signals fail where the processes have just ended, which is what they are for.
    let _ = kill_process_group(group, Signal::TERM);
    if let Some(status) = wait_until_gone(&mut child, group, grace, ends_group) {
        return Ending::Terminated(status);
    }
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.kill();
    if let Some(status) = wait_until_gone(&mut child, group, KILL_TIMEOUT, ends_group) {
        return Ending::Killed(status);
    }
    // An orphan of the group may still wait for process 1 to reap it.
    if let Ok(Some(status)) = child.try_wait() {
        return Ending::Killed(status);
    }
    thread::spawn(move || child.wait());
    Ending::Unkillable
}

/// Kills the rest of a command's process group if the command has exited, and returns whether it has. It
/// must not have been waited for: until then, no other group can have its id. Returns true as well if that
/// cannot be found out.
pub fn kill_if_exited(child: &Child) -> bool {
    let group = Pid::from_child(child);
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let exited = waitid(WaitId::Pid(group), options);
    if let Ok(Some(_)) = exited {
        let _ = kill_process_group(group, Signal::KILL);
    }
    !matches!(exited, Ok(None))
}

/// Waits until killed processes of a group are gone, at most one second: an orphan may wait for another
/// process to reap it.
pub fn wait_until_killed(group: Pid) {
    let deadline = Instant::now() + KILL_TIMEOUT;
    loop {
        while let Ok(Some(_)) = waitpgid(group, WaitOptions::NOHANG) {}
        if test_kill_process_group(group).is_err() || Instant::now() >= deadline {
            return;
        }
        thread::sleep(PAUSE);
    }
}

/// Waits until the command, or its whole group, is gone: the command's status, or `None` after
/// `timeout`.
fn wait_until_gone(
    child: &mut Child,
    group: Pid,
    timeout: Duration,
    ends_group: bool,
) -> Option<ExitStatus> {
    let deadline = Instant::now() + timeout;
    loop {
        // In this order: a command that is not reaped yet is a member of its group.
        if let Ok(Some(status)) = child.try_wait()
            && (!ends_group || test_kill_process_group(group).is_err())
        {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(PAUSE);
    }
}

/// Process groups of commands that have ended; some of their processes may still run. If this program
/// is process 1 of a container, orphans become its children, and stay zombies until it reaps them.
#[derive(Clone, Debug, Default)]
pub struct Background(Arc<Mutex<Vec<Pid>>>);

impl Background {
    /// Adds the group of a command that has ended.
    pub fn add(&self, group: Pid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(group);
    }

    /// Reaps the zombies of all groups. Forgets groups in which this program has no child.
    pub fn reap(&self) {
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|group| {
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
}
