//! A source and a volume, and the program between them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::programs::{Outcome, command, run};
use tempfile::TempDir;

/// A source and a volume.
pub struct Places(TempDir);

impl Places {
    /// Both of them empty.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["source", "volume"] {
            fs::create_dir(dir.path().join(name)).expect("made");
        }
        Self(dir)
    }

    /// What is called so beside them.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The program, for this volume, that does not wait for readers.
    pub fn provisioner(&self, args: &[&str]) -> Command {
        let mut provisioner = command("provisioner");
        provisioner.args(args).current_dir(self.0.path());
        provisioner.env("PROVISIONER_SOURCE", "source").env("PROVISIONER_TARGET", "volume");
        provisioner.env("PROVISIONER_GRACE", "0");
        provisioner
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Outcome {
        run(&mut self.provisioner(args), b"")
    }

    /// Runs it without any complaint; its stdout.
    pub fn done(&self, args: &[&str]) -> String {
        let outcome = self.run(args);
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{args:?}");
        outcome.stdout
    }

    /// Writes the file `a` of the source.
    pub fn write(&self, content: &str) {
        fs::write(self.path("source/a"), content).expect("written");
    }
}

/// The digest in what a run says.
pub fn digest_in(line: &str) -> Option<String> {
    Some(line.split("sha256:").nth(1)?.get(..64)?.to_owned())
}

/// What a write to anything below a directory would change: inode numbers, sizes, modes and times.
pub fn traces(dir: &Path) -> String {
    let mut find = Command::new("find");
    let outcome = run(find.arg(dir).args(["-printf", "%p|%i|%n|%s|%m|%T@|%C@\n"]), b"");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    outcome.stdout
}
