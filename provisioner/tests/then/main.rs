//! Whoever is told of another version: commands and servers that work, fail, hang and lie.

mod command;
mod killed;
mod plain;
mod post;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::programs::{Outcome, command, run};

/// A source and a volume.
struct Places(tempfile::TempDir);

impl Places {
    /// With a file `a` in the source.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["source", "volume"] {
            fs::create_dir(dir.path().join(name)).expect("made");
        }
        let places = Self(dir);
        places.write("one");
        places
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

    /// Runs it without any complaint; the digest in what it says.
    fn done(&self, args: &[&str]) -> String {
        let outcome = self.run(args);
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{args:?}");
        digest_in(&outcome.stdout)
    }

    fn write(&self, content: &str) {
        fs::write(self.path("source/a"), content).expect("written");
    }

    /// What is in a file that a command may have written.
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// How many notes there are of what is still to be told.
    fn notes(&self) -> usize {
        let state = fs::read_dir(self.path("volume/..provisioner")).into_iter().flatten();
        let names = state.map(|entry| entry.expect("an entry").file_name());
        names.filter(|name| name.to_string_lossy().starts_with("untold-")).count()
    }

    /// Asserts that nothing has been published.
    fn assert_empty(&self) {
        assert_eq!(fs::read_dir(self.path("volume")).expect("read").count(), 0);
    }
}

fn digest_in(line: &str) -> String {
    let digest = line.split("sha256:").nth(1).and_then(|rest| rest.get(..64));
    digest.unwrap_or_else(|| panic!("no digest: {line}")).to_owned()
}

/// Every trace that a write would leave below a directory.
fn traces(dir: &Path) -> String {
    let mut find = Command::new("find");
    let outcome = run(find.arg(dir).args(["-printf", "%p|%i|%n|%s|%m|%T@|%C@\n"]), b"");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    outcome.stdout
}
