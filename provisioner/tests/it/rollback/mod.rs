//! Earlier versions: how they are kept, shown and restored, also when something fails.

mod faults;
mod kept;

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::programs::run;

use crate::support::places::{Places, digest_in, traces};

impl Places {
    /// Publishes a tree with this in its file `a`; the digest.
    fn publish(&self, content: &str) -> String {
        self.write(content);
        digest_in(&self.done(&[])).expect("a digest")
    }

    fn live(&self) -> String {
        fs::read_to_string(self.path("volume/a")).expect("read")
    }

    /// The archives, by their digests.
    fn archives(&self) -> Vec<String> {
        names(&self.path("volume/..provisioner/versions"))
    }

    /// The number of names on the volume that begin with `..`.
    fn hidden(&self) -> usize {
        names(&self.path("volume")).iter().filter(|name| name.starts_with("..")).count()
    }

    fn status(&self) -> String {
        self.run(&["status"]).stdout
    }
}

/// The names in a directory that is there or not.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Everything below a directory as find and sha256sum see it: names, types, modes, links, content.
fn listing(dir: &Path) -> String {
    let script = "find . -printf '%p|%y|%m|%l\\0' | sort -z | tr '\\0' '\\1'; \
                  find . -type f -print0 | sort -z | xargs -0r sha256sum -z | tr '\\0' '\\1'";
    output(Command::new("sh").args(["-euc", script]).current_dir(dir))
}

fn output(command: &mut Command) -> String {
    let outcome = run(command, b"");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    outcome.stdout
}
