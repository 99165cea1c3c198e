//! The error for a process that was not found. If no process of another container is visible, the error
//! says that the pod needs `shareProcessNamespace: true`.

use std::path::Path;
use std::process;

use anyhow::anyhow;
use diagnostics::wording::one_line;

use crate::process::Process;

/// The error for a missing process, with the explanation if no other container is visible.
pub fn missing(what: String) -> anyhow::Error {
    let Ok(processes) = Process::all() else { return anyhow!(what) };
    if is_alone(&processes, process::id()) { isolated(&what) } else { anyhow!(what) }
}

/// The error for a missing process with the explanation.
pub fn isolated(what: &str) -> anyhow::Error {
    anyhow!(
        "{what}, and no process of another container is visible: the pod needs \
         `shareProcessNamespace: true`"
    )
}

/// Whether all processes are this one and its descendants.
fn is_alone(processes: &[Process], own: u32) -> bool {
    let parent = |pid| processes.iter().find(|process| process.pid == pid).map(|p| p.parent);
    let is_own = |process: &Process| {
        let mut ancestors = std::iter::successors(Some(process.pid), |pid| parent(*pid));
        // Processes are read one after the other, so parents may form a circle.
        ancestors.by_ref().take(processes.len()).any(|pid| pid == own)
    };
    own == 1 || processes.iter().all(is_own)
}

/// A path for a message.
pub fn quoted(path: &Path) -> String {
    format!("`{}`", one_line(path.as_os_str().as_encoded_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Signals, Users};

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
    fn a_program_with_its_descendants_is_alone() {
        let mut all = vec![process(9, 0), process(12, 9), process(13, 12)];
        assert!(is_alone(&all, 9));
        all.push(process(14, 15));
        all.push(process(15, 14));
        assert!(!is_alone(&all, 9) && is_alone(&all, 1));
    }
}
