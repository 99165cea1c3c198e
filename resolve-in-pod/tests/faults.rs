//! What is killed in the middle is named; nothing is left behind.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::chown;
use std::process::{Child, Command, Stdio};

use e2e::programs::{child_of, command, program, run};
use e2e::slapd::{BASE_DN, READER, Setup, Slapd};
use e2e::{USERS_LDIF, is_root, skip_unless_root, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Enough output to fill every pipe and buffer on the way several times.
const DIRECTORIES: usize = 8000;

/// A run that is stuck in the middle: nobody reads its output.
struct Stuck {
    child: Child,
    slapd: Slapd,
    _tree: TempDir,
}

impl Stuck {
    fn new() -> Self {
        e2e::signals::reset_for_children();
        let slapd = Slapd::start(&Setup::default());
        let tree = TempDir::new().expect("a directory");
        for number in 0..DIRECTORIES {
            let name = format!("{number}-{}", "x".repeat(180));
            fs::create_dir_all(tree.path().join("many").join(name)).expect("made");
        }
        // The last question comes only after all of these were written.
        let last = tree.path().join("last");
        fs::create_dir(&last).expect("made");
        if is_root() {
            chown(&last, Some(30002), None).expect("given away");
        }
        let mut child = command("resolve-in-pod")
            .args(["-r", "many", "last"])
            .current_dir(tree.path())
            .env("LDAP_URL", slapd.url())
            .env("LDAP_BASE_DN", BASE_DN)
            .env("LDAP_BIND_DN", READER.0)
            .env("LDAP_BIND_PASS", READER.1)
            .stdout(Stdio::piped())
            .stderr(File::create(slapd.dir().join("stderr")).expect("a file"))
            .spawn()
            .expect("started");
        let mut first = [0];
        child.stdout.as_mut().expect("stdout").read_exact(&mut first).expect("a first byte");
        Self { child, slapd, _tree: tree }
    }

    fn stage(&self, name: &str) -> Pid {
        let id = child_of(self.child.id(), name).expect("a running stage");
        Pid::from_raw(id.cast_signed())
    }

    /// Reads the rest; the exit code, whether the result is closed, and stderr.
    fn finish(mut self) -> (Option<i32>, bool, String) {
        let mut rest = String::new();
        let mut stdout = self.child.stdout.take().expect("stdout");
        stdout.read_to_string(&mut rest).expect("read");
        let status = self.child.wait().expect("the end");
        let stderr = fs::read_to_string(self.slapd.dir().join("stderr")).expect("stderr");
        (status.code(), rest.ends_with("}\n}\n"), stderr)
    }
}

#[test]
fn undisturbed_it_would_have_succeeded() {
    let (code, is_closed, stderr) = Stuck::new().finish();
    assert_eq!((code, is_closed, &stderr[..]), (Some(0), true, ""));
}

#[test]
fn a_stage_that_is_killed_is_named() {
    for (name, message) in [
        ("scan-uids", "resolve-in-pod: scan-uids was killed by signal 9 (SIGKILL)\n"),
        ("resolver", "resolve-in-pod: resolver was killed by signal 9 (SIGKILL)\n"),
    ] {
        let stuck = Stuck::new();
        kill(stuck.stage(name), Signal::SIGKILL).expect("killed");
        let (code, is_closed, stderr) = stuck.finish();
        assert_eq!((code, is_closed), (Some(137), false), "{stderr}");
        assert!(stderr.ends_with(message), "{stderr}");
    }
}

#[test]
fn a_directory_server_that_is_killed_is_named() {
    if skip_unless_root("only a second owner leads to a second lookup") {
        return;
    }
    let stuck = Stuck::new();
    stuck.slapd.signal(Signal::SIGKILL);
    let url = stuck.slapd.url();
    let (code, is_closed, stderr) = stuck.finish();
    assert_eq!((code, is_closed), (Some(1), false), "{stderr}");
    let expected = format!("resolver: ldap search on `{url}` failed: connection lost: ");
    assert!(stderr.starts_with(&expected), "{stderr}");
}

#[test]
fn signals_are_passed_on_and_end_everything() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let mut stuck = Stuck::new();
        let stages = ["scan-uids", "resolver"].map(|name| stuck.stage(name));
        kill(Pid::from_raw(stuck.child.id().cast_signed()), signal).expect("signalled");
        wait_for("the end", || stuck.child.try_wait().expect("a state").is_some());
        for stage in stages {
            assert!(kill(stage, None).is_err(), "a stage outlives its parent");
        }
        let (ended, is_closed, stderr) = stuck.finish();
        assert_eq!((ended, is_closed), (Some(code), false), "{stderr}");
        assert!(stderr.contains(&format!("killed by signal {}", signal as i32)), "{stderr}");
    }
}

#[test]
fn the_scan_does_not_know_the_password() {
    let stuck = Stuck::new();
    for name in ["scan-uids", "resolver"] {
        let proc = format!("/proc/{}", stuck.stage(name));
        let cmdline = fs::read(format!("{proc}/cmdline")).expect("readable");
        assert!(!String::from_utf8_lossy(&cmdline).contains(READER.1), "{name}");
        let environ = fs::read(format!("{proc}/environ")).expect("readable");
        let knows = String::from_utf8_lossy(&environ).contains(READER.1);
        assert_eq!(knows, name == "resolver", "{name}");
    }
    assert_eq!(stuck.finish().0, Some(0));
}

#[test]
fn signals_that_were_blocked_or_ignored_by_the_caller_do_no_harm() {
    // Masks and ignored signals survive exec; some supervisors leak them.
    let script = "
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
";
    let mut wrapper = Command::new("timeout");
    wrapper.args(["20", "python3", "-c", script]).arg(program("resolve-in-pod"));
    let outcome = run(wrapper.args(["--ldif", USERS_LDIF, "/"]), b"");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
}
