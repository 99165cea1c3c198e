//! Notifications of another version: commands and servers that work, fail, hang and send garbage.

mod command;
mod killed;
#[path = "../rollback/places.rs"]
mod places;
mod plain;
mod post;
mod server;

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::programs::run;

use places::{Places, digest_in};

impl Places {
    /// With a file `a` in the source.
    fn filled() -> Self {
        let places = Self::new();
        places.write("one");
        places
    }

    /// Runs it without warnings; the digest in its output.
    fn publishes(&self, args: &[&str]) -> String {
        digest_of(&self.done(args))
    }

    /// What is in a file that a command may have written.
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The number of pending notifications.
    fn pending(&self) -> usize {
        let state = fs::read_dir(self.path("volume/..provisioner")).into_iter().flatten();
        let names = state.map(|entry| entry.expect("an entry").file_name());
        names.filter(|name| name.to_string_lossy().starts_with("untold-")).count()
    }

    /// Asserts that nothing has been published.
    fn assert_empty(&self) {
        assert_eq!(fs::read_dir(self.path("volume")).expect("read").count(), 0);
    }
}

/// The digest in the output of a run.
fn digest_of(line: &str) -> String {
    digest_in(line).unwrap_or_else(|| panic!("no digest: {line}"))
}

/// Names, inodes, sizes and times below a directory: every trace that a write would leave.
fn traces(dir: &Path) -> String {
    let mut find = Command::new("find");
    let outcome = run(find.arg(dir).args(["-printf", "%p|%i|%n|%s|%m|%T@|%C@\n"]), b"");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    outcome.stdout
}
