//! The programs that are compared, and the work that each of them does.

use std::path::Path;

use e2e::measure::{Job, own_command, words};

/// A program to compare.
pub struct Contender {
    /// Its name in the table.
    pub name: &'static str,
    /// The command to run.
    pub command: Vec<String>,
}

impl Contender {
    /// The command as a job in `dir`.
    pub fn job<'j>(&'j self, dir: &'j Path) -> Job<'j> {
        Job { dir, command: &self.command, input: None }
    }
}

/// What to list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The owner of every directory.
    Directories,
    /// The owner of every entry.
    Entries,
}

/// The contenders for `work` on `tree`: GNU find first, which the others are compared with, and
/// scan-uids last.
pub fn contenders(work: Work, tree: &str) -> Vec<Contender> {
    let mut contenders = peers(work, tree);
    let own = env!("CARGO_BIN_EXE_scan-uids");
    let kernel = |calls| own_command(&["kernel", calls, tree]);
    match work {
        Work::Directories => contenders.extend([
            contender("the kernel alone", kernel("names")),
            contender("the kernel alone, by link counts", kernel("links")),
            contender(
                "scan-uids --trust-nlink=never",
                words(&[own, "--recursive", "--trust-nlink=never", tree]),
            ),
            contender("scan-uids", words(&[own, "--recursive", tree])),
        ]),
        Work::Entries => contenders.extend([
            contender("the kernel alone", kernel("owners")),
            contender("scan-uids", words(&[own, "--entries", tree])),
        ]),
    }
    contenders
}

fn peers(work: Work, tree: &str) -> Vec<Contender> {
    let format = "%U %p\n";
    let of_find = |name: &str| match work {
        Work::Directories => words(&[name, tree, "-type", "d", "-printf", format]),
        Work::Entries => words(&[name, tree, "-printf", format]),
    };
    let mut fd = words(&["fdfind", "--unrestricted", "--threads=2"]);
    if work == Work::Directories {
        fd.push("--type=d".to_owned());
    }
    fd.extend(words(&[".", tree]));
    let what = if work == Work::Directories { "directories" } else { "entries" };
    let mut peers = vec![
        contender("GNU find", of_find("find")),
        contender("bfs", of_find("bfs")),
        contender("fd (names only)", fd),
        contender("walkdir", own_command(&["walkdir", what, tree])),
        contender("ignore, 2 threads", own_command(&["ignore", what, tree])),
    ];
    if work == Work::Entries {
        let arguments = ["--threads=2", "--max-depth=1", "--quantity=apparent-size", tree];
        peers.push(contender("pdu, 2 threads", words(&[&["pdu"], &arguments[..]].concat())));
    }
    peers
}

fn contender(name: &'static str, command: Vec<String>) -> Contender {
    Contender { name, command }
}
