//! Whether there is anybody else to be seen: without `shareProcessNamespace` there is not, and whoever is
//! missing is in another container.

use std::path::Path;
use std::process;

use anyhow::anyhow;
use diagnostics::wording::one_line;

use crate::proof::process::Process;

/// What is missing is missing, unless nothing of other containers is to be seen at all.
pub fn unless_alone(what: String) -> anyhow::Error {
    let Ok(processes) = Process::all() else { return anyhow!(what) };
    if is_alone(&processes, process::id()) { alone(&what) } else { anyhow!(what) }
}

/// The error that says so, after what is missing.
pub fn alone(what: &str) -> anyhow::Error {
    anyhow!(
        "{what}, and no process of another container is to be seen: the pod needs \
         `shareProcessNamespace: true`"
    )
}

/// Whether all processes are this one and what it has started.
fn is_alone(processes: &[Process], own: u32) -> bool {
    let parent = |pid| processes.iter().find(|process| process.pid == pid).map(|p| p.parent);
    let is_own = |process: &Process| {
        let mut ancestors = std::iter::successors(Some(process.pid), |pid| parent(*pid));
        // What is read at different times may go in circles.
        ancestors.by_ref().take(processes.len()).any(|pid| pid == own)
    };
    own == 1 || processes.iter().all(is_own)
}

/// A path in a message.
pub fn quoted(path: &Path) -> String {
    format!("`{}`", one_line(path.as_os_str().as_encoded_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::process::{Signals, Users};

    fn process(pid: u32, parent: u32) -> Process {
        Process {
            pid,
            start: 0,
            seen: 0,
            parent,
            faults_of_children: 0,
            state: b'S',
            name: "a".into(),
            title: "a".into(),
            users: Users { real: 101, effective: 101, saved: 101 },
            signals: Signals::default(),
        }
    }

    #[test]
    fn only_own_processes_are_nobody_else() {
        let mut all = vec![process(9, 0), process(12, 9), process(13, 12)];
        assert!(is_alone(&all, 9));
        all.push(process(14, 15));
        all.push(process(15, 14));
        assert!(!is_alone(&all, 9) && is_alone(&all, 1));
    }
}
