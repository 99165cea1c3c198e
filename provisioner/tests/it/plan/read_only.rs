//! Plans write nothing, by their system calls.

use e2e::mounts::sh;
use e2e::programs::command;
use e2e::strace::Call;

use super::files_layout::old_source;
use super::traces;
use crate::support::run::{may_change, strace};

/// Whether a call may change a file or take a lock.
fn is_harmful(call: &Call) -> bool {
    match &call.name[..] {
        "flock" => true,
        "write" => !call.text.starts_with("write(1, "),
        "geteuid" | "getegid" | "getgroups" | "capget" => false,
        _ => may_change(call),
    }
}

#[test]
fn a_plan_writes_nothing_in_any_state_of_the_volume() {
    let damage = "mkdir -p ..provisioner/files/next-0123456789abcdef/tree; \
                echo x > ..provisioner/files/pending-0123456789abcdef; \
                echo x > ..provisioner/next-0123456789abcdef; \
                ln -s x/tree ..next-0123456789abcdef; mkdir ..version-0123456789abcdef; \
                echo x >> same; chmod 777 a; rm gone; mkdir gone; echo mine > gone/mine";
    for (first, then) in
        [("", "files"), ("files", "files"), ("atomic", "files"), ("files", "atomic")]
    {
        let places = old_source();
        if !first.is_empty() {
            assert_eq!(places.run(&["--layout", first]).code, Some(0));
            sh(&places.path(""), "rm -r source; mv new source");
            sh(&places.path("volume"), damage);
        }
        let before = traces(&places.path("volume"));
        let mut planned = command("provisioner");
        let (source, volume) = (places.path("source"), places.path("volume"));
        planned.arg("--source").arg(&source).arg("--target").arg(&volume);
        planned.args(["--dry-run", "--layout", then, "--owner", "1:2", "--then", "false"]);
        let outcome = strace(&[], &places.path("log"), &planned);
        assert!(outcome.stdout.contains("would publish: "), "{first} {then}: {outcome:?}");
        assert_eq!(traces(&places.path("volume")), before, "{first} {then}");
        let mut harmful = e2e::strace::read(&places.path("log"));
        // Errors of the run, and warnings about a record that cannot be read, go to stderr.
        let is_printed = |call: &Call| {
            call.text.starts_with("write(2, \"provisioner: `")
                || call.text.starts_with("write(2, \"Warning: ")
                || call.text.contains("provisioner: --owner takes")
        };
        harmful.retain(|call| is_harmful(call) && !is_printed(call));
        assert!(harmful.is_empty(), "{first} {then}: {harmful:?}");
    }
}
