//! Notifications of another version: commands and servers that work, fail, hang and send garbage.

mod command;
mod killed;
mod plain;
mod post;
mod server;

use std::fs;

use crate::support::places::{Places, digest_in, traces};

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
