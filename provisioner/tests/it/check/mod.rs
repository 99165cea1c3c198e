//! Checks of a tree before it goes live: what they see, what they decide, and what they must not do.

mod examples;
mod hostile;
mod killed;
mod verdicts;

use std::fs;
use std::path::PathBuf;

use crate::support::places::{Places, traces};

/// Both layouts.
const LAYOUTS: [&str; 2] = ["atomic", "files"];

/// A command line that runs a script in a shell. The script must not hold a single quote.
fn sh(script: &str) -> String {
    format!("sh -c '{script}'")
}

/// Places with the files `a` and `d/b` live, and another `a` in the source.
fn changed(layout: &str) -> Places {
    let places = Places::new();
    fs::create_dir(places.path("source/d")).expect("made");
    fs::write(places.path("source/d/b"), "stays").expect("written");
    places.write("one");
    places.done(&["--layout", layout]);
    places.write("two");
    places
}

impl Places {
    /// A check that fails the run with `code` and a message that holds `why`, and leaves the volume as
    /// it was.
    fn is_kept_by(&self, layout: &str, check: &str, code: i32, why: &str) {
        let before = traces(&self.path("volume"));
        let outcome = self.run(&["--layout", layout, "--check", check]);
        assert_eq!((outcome.code, &outcome.stdout[..]), (Some(code), ""), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(why), "{}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
        assert_eq!(self.live_file("a"), "one");
        assert_eq!(entries(&traces(&self.path("volume"))), entries(&before), "nothing is left");
    }

    /// The content of a file on the volume.
    fn live_file(&self, name: &str) -> String {
        fs::read_to_string(self.path("volume").join(name)).expect("a file")
    }

    /// Writes an executable script beside the source and the volume.
    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
        let mut permissions = fs::metadata(&path).expect("a file").permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
        fs::set_permissions(&path, permissions).expect("set");
        path
    }
}

/// The paths and inode numbers of traces. The state of the publisher may have been written.
fn entries(traces: &str) -> Vec<Vec<&str>> {
    let lines = traces.lines().filter(|line| !line.contains("/..provisioner"));
    let mut entries: Vec<_> = lines.map(|line| line.split('|').take(2).collect()).collect();
    entries.sort();
    entries
}
