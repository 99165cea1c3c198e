//! That a plan writes nothing, as the system sees it.

use std::fs;

use e2e::place::sh;
use e2e::programs::command;

use crate::plain::old;
use crate::run::{is_harmless, strace};
use crate::traces;

/// Calls that may change something, but for messages.
fn harmful(log: &str) -> Vec<&str> {
    let may_change = |line: &&str| {
        let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
        let Some((name, rest)) = call.split_once('(') else { return false };
        match name {
            "openat" => {
                ["O_CREAT", "O_TRUNC", "O_WRONLY", "O_RDWR"].iter().any(|f| rest.contains(f))
            }
            "ioctl" => !["TCGETS", "TIOCGWINSZ"].iter().any(|request| rest.contains(request)),
            // A lock is in somebody's way.
            "flock" => true,
            "write" => !rest.starts_with("1, "),
            "faccessat" | "faccessat2" | "geteuid" | "getegid" | "getgroups" | "capget" => false,
            name => !is_harmless(name) && !name.starts_with(['<', '+', '-']),
        }
    };
    let is_message = |line: &&str| line.contains("\"/dev/termination-log\"");
    log.lines().filter(|line| may_change(line) && !is_message(line)).collect()
}

#[test]
fn nothing_is_written_whatever_is_on_the_volume() {
    let left = "mkdir -p ..provisioner/files/next-0123456789abcdef/tree; \
                echo x > ..provisioner/files/pending-0123456789abcdef; \
                echo x > ..provisioner/next-0123456789abcdef; \
                ln -s x/tree ..next-0123456789abcdef; mkdir ..version-0123456789abcdef; \
                echo x >> same; chmod 777 a; rm gone; mkdir gone; echo mine > gone/mine";
    for (first, then) in
        [("", "files"), ("files", "files"), ("atomic", "files"), ("files", "atomic")]
    {
        let places = old();
        if !first.is_empty() {
            assert_eq!(places.run(&["--layout", first]).code, Some(0));
            sh(&places.path(""), "rm -r source; mv new source");
            sh(&places.path("volume"), left);
        }
        let before = traces(&places.path("volume"));
        let mut planned = command("provisioner");
        let (source, volume) = (places.path("source"), places.path("volume"));
        planned.arg("--source").arg(&source).arg("--target").arg(&volume);
        planned.args(["--dry-run", "--layout", then, "--owner", "1:2", "--then", "false"]);
        let outcome = strace(&[], &places.path("log"), &planned);
        assert!(outcome.stdout.contains("would publish: "), "{first} {then}: {outcome:?}");
        assert_eq!(traces(&places.path("volume")), before, "{first} {then}");
        let log = fs::read_to_string(places.path("log")).expect("a log");
        let harmful = harmful(&log);
        // On stderr there is why it would fail, or a warning of the record that is none.
        let is_said = |line: &&str| {
            line.contains(" write(2, \"provisioner: `")
                || line.contains(" write(2, \"Warning: ")
                || line.contains("provisioner: --owner takes")
        };
        let harmful: Vec<_> = harmful.into_iter().filter(|line| !is_said(line)).collect();
        assert!(harmful.is_empty(), "{first} {then}: {harmful:?}");
    }
}
