//! Earlier versions: kept, told of, gone back to, and what goes wrong meanwhile.

mod faults;
mod kept;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::programs::{Outcome, command, run};

/// A source and a volume.
struct Places(tempfile::TempDir);

impl Places {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["source", "volume"] {
            fs::create_dir(dir.path().join(name)).expect("made");
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The program, for this volume, that does not wait for readers.
    fn provisioner(&self, args: &[&str]) -> Command {
        let mut provisioner = command("provisioner");
        provisioner.args(args).current_dir(self.0.path());
        provisioner.env("PROVISIONER_SOURCE", "source").env("PROVISIONER_TARGET", "volume");
        provisioner.env("PROVISIONER_GRACE", "0");
        provisioner
    }

    /// Runs it to its end.
    fn run(&self, args: &[&str]) -> Outcome {
        run(&mut self.provisioner(args), b"")
    }

    /// Runs it without any complaint; its stdout.
    fn done(&self, args: &[&str]) -> String {
        let outcome = self.run(args);
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{args:?}");
        outcome.stdout
    }

    /// Publishes a tree with this in its file `a`; the digest.
    fn publish(&self, content: &str) -> String {
        self.write(content);
        digest_in(&self.done(&[])).expect("a digest")
    }

    fn write(&self, content: &str) {
        fs::write(self.path("source/a"), content).expect("written");
    }

    fn live(&self) -> String {
        fs::read_to_string(self.path("volume/a")).expect("read")
    }

    /// The archives, by their digests.
    fn archives(&self) -> Vec<String> {
        names(&self.path("volume/..provisioner/versions"))
    }

    /// The trees on the volume, and whatever else is hidden.
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

fn digest_in(line: &str) -> Option<String> {
    Some(line.split("sha256:").nth(1)?.get(..64)?.to_owned())
}

/// Everything below a directory as find and sha256sum see it: names, types, modes, links, content.
fn listing(dir: &Path) -> String {
    let script = "find . -printf '%p|%y|%m|%l\\0' | sort -z | tr '\\0' '\\1'; \
                  find . -type f -print0 | sort -z | xargs -0r sha256sum -z | tr '\\0' '\\1'";
    output(Command::new("sh").args(["-euc", script]).current_dir(dir))
}

/// Every trace that a write would leave below a directory.
fn traces(dir: &Path) -> String {
    output(Command::new("find").arg(dir).args(["-printf", "%p|%i|%n|%s|%m|%T@|%C@\n"]))
}

fn output(command: &mut Command) -> String {
    let outcome = run(command, b"");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    outcome.stdout
}
