//! Killed stages and a killed server are named in the message, and no process is left behind.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::chown;
use std::process::{Child, Command, Stdio};

use e2e::programs::{child_of, command, program, run};
use e2e::slapd::{BASE_DN, READER, Setup, Slapd};
use e2e::{USERS_LDIF, skip_unless_root, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Directories in a tree whose listing has 4 MB. All pipes and buffers on the way hold about 1.5 MB.
const DIRECTORIES: usize = 4000;

/// The path to these directories. A long path needs fewer directories for as many bytes.
fn long_path() -> String {
    ["x"; 4].map(|name| name.repeat(240)).join("/")
}

/// A run of resolve-in-pod with a slapd. The test has read the first byte of the output.
struct Run {
    child: Child,
    slapd: Slapd,
    _tree: TempDir,
}

impl Run {
    /// A run that waits until its output is read, because the output fills the pipe.
    fn blocked() -> Self {
        let tree = TempDir::new().expect("a directory");
        for number in 0..DIRECTORIES {
            let path = tree.path().join(long_path()).join(number.to_string());
            fs::create_dir_all(path).expect("made");
        }
        Self::start(tree, &["-r", &long_path()])
    }

    fn start(tree: TempDir, args: &[&str]) -> Self {
        e2e::signals::reset_for_children();
        let slapd = Slapd::start(&Setup::default());
        let mut child = command("resolve-in-pod")
            .args(args)
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

    /// Reads the output to its end and waits for the run.
    fn finish(mut self) -> Ended {
        let mut rest = String::new();
        let mut stdout = self.child.stdout.take().expect("stdout");
        stdout.read_to_string(&mut rest).expect("read");
        let status = self.child.wait().expect("the end");
        let stderr = fs::read_to_string(self.slapd.dir().join("stderr")).expect("stderr");
        Ended { code: status.code(), is_complete: rest.ends_with("}\n}\n"), stderr }
    }
}

/// How a run ended.
#[derive(Debug, PartialEq)]
struct Ended {
    code: Option<i32>,
    /// Whether the output has its closing brace.
    is_complete: bool,
    stderr: String,
}

#[test]
fn an_undisturbed_run_succeeds() {
    let expected = Ended { code: Some(0), is_complete: true, stderr: String::new() };
    assert_eq!(Run::blocked().finish(), expected);
}

#[test]
fn a_stage_that_is_killed_is_named() {
    for (name, message) in [
        ("scan-uids", "resolve-in-pod: scan-uids was killed by signal 9 (SIGKILL)\n"),
        ("resolver", "resolve-in-pod: resolver was killed by signal 9 (SIGKILL)\n"),
    ] {
        let run = Run::blocked();
        kill(run.stage(name), Signal::SIGKILL).expect("killed");
        let ended = run.finish();
        assert_eq!((ended.code, ended.is_complete), (Some(137), false), "{ended:?}");
        assert!(ended.stderr.ends_with(message), "{ended:?}");
    }
}

#[test]
fn a_directory_server_that_is_killed_is_named() {
    if skip_unless_root("only a second owner leads to a second lookup") {
        return;
    }
    let tree = TempDir::new().expect("a directory");
    for number in 0..3 {
        fs::create_dir_all(tree.path().join("first").join(number.to_string())).expect("made");
    }
    let last = tree.path().join("last");
    fs::create_dir(&last).expect("made");
    chown(&last, Some(30002), None).expect("given away");
    // At one directory a second, the last one is seconds away when the first one is written. Until
    // then the scan is stopped and the server killed.
    let run = Run::start(tree, &["-r", "--max-rate=1", "first", "last"]);
    let scan = run.stage("scan-uids");
    kill(scan, Signal::SIGSTOP).expect("stopped");
    run.slapd.signal(Signal::SIGKILL);
    kill(scan, Signal::SIGCONT).expect("continued");
    let url = run.slapd.url();
    let ended = run.finish();
    assert_eq!((ended.code, ended.is_complete), (Some(1), false), "{ended:?}");
    let expected = format!("resolver: ldap search on `{url}` failed: connection lost: ");
    assert!(ended.stderr.starts_with(&expected), "{ended:?}");
}

#[test]
fn signals_are_passed_on_and_end_everything() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let mut run = Run::blocked();
        let stages = ["scan-uids", "resolver"].map(|name| run.stage(name));
        kill(Pid::from_raw(run.child.id().cast_signed()), signal).expect("signalled");
        wait_for("the end", || run.child.try_wait().expect("a state").is_some());
        for stage in stages {
            assert!(kill(stage, None).is_err(), "a stage outlives its parent");
        }
        let ended = run.finish();
        assert_eq!((ended.code, ended.is_complete), (Some(code), false), "{ended:?}");
        let expected = format!("killed by signal {}", signal as i32);
        assert!(ended.stderr.contains(&expected), "{ended:?}");
    }
}

#[test]
fn only_the_resolver_gets_the_password() {
    let run = Run::blocked();
    for name in ["scan-uids", "resolver"] {
        let proc = format!("/proc/{}", run.stage(name));
        let cmdline = fs::read(format!("{proc}/cmdline")).expect("readable");
        assert!(!String::from_utf8_lossy(&cmdline).contains(READER.1), "{name}");
        let environ = fs::read(format!("{proc}/environ")).expect("readable");
        let knows = String::from_utf8_lossy(&environ).contains(READER.1);
        assert_eq!(knows, name == "resolver", "{name}");
    }
    assert_eq!(run.finish().code, Some(0));
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
