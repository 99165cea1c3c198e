//! Which process is signalled, and which processes never are.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use e2e::nginx::{Nginx, Setup};
use e2e::wait_for;
use nix::unistd::geteuid;
use reloader::testing::Action;
use reloader::testing::Target;
use tempfile::TempDir;

use crate::run::{Running, content, failure, hup, reload, run_action};

/// A script that runs `handler` for HUP and TERM.
fn trap(handler: &str) -> Running {
    Running::script(&format!("trap '{handler}' HUP TERM; echo; while :; do sleep 0.02; done"))
}

/// The id of a process that has ended.
fn unused_id() -> u32 {
    let mut child = Command::new("true").spawn().expect("started");
    child.wait().expect("its end");
    child.id()
}

#[test]
fn a_process_that_does_not_exist_is_named() {
    let id = unused_id();
    let expected = (format!("there is no process {id}"), true);
    assert_eq!(failure(&hup(Target::Pid(id))), expected);
    for pid in [u32::MAX, 1 << 31] {
        assert_eq!(failure(&hup(Target::Pid(pid))), (format!("there is no process {pid}"), true));
    }
    let text = "nginx: master\nby another".to_owned();
    let expected = (r"there is no process `nginx: master\nby another`".to_owned(), true);
    assert_eq!(failure(&hup(Target::Process(text))), expected);
}

#[test]
fn two_masters_are_listed_and_not_signalled() {
    let nginx = Nginx::start(&Setup::default());
    let workers = nginx.workers();
    let title = format!("{}\nby another", nginx.title());
    let mut other = Running::start(Command::new("cat").arg0(&title)).once_called("cat");
    let (error, is_without_effect) = failure(&reload(&nginx));
    let user = geteuid();
    assert!(is_without_effect && error.starts_with("2 processes are `nginx: master"), "{error}");
    for pid in [nginx.master(), other.id()] {
        assert!(
            error.contains(&format!("{pid} of user {user} (nginx: master process ")),
            "{error}"
        );
    }
    assert!(!error.contains('\n') && error.len() < 400, "{error}");
    assert!(other.is_alive() && nginx.workers() == workers);
    drop(other);
    crate::run::proof(&reload(&nginx));
}

#[test]
fn a_signal_that_would_kill_is_not_sent() {
    let mut cat = Running::cat();
    let error = format!("process {} (cat) has no handler for HUP, which would kill it", cat.id());
    assert_eq!(failure(&hup(Target::Pid(cat.id()))), (error, true));
    assert!(cat.is_alive());
    let deaf = Running::script("trap '' HUP; echo; exec cat").once_called("cat");
    let error =
        format!("process {} (cat) has no handler for HUP, which would be ignored", deaf.id());
    assert_eq!(failure(&hup(Target::Pid(deaf.id()))), (error, true));
}

#[test]
fn a_process_that_is_just_starting_gets_time_for_its_handler() {
    let dir = TempDir::new().unwrap();
    let got = dir.path().join("got");
    let script = format!(
        "echo; sleep 0.3; trap 'echo HUP >{}' HUP; while :; do sleep 0.02; done",
        got.display()
    );
    let mut late = Running::script(&script);
    let proof = run_action(&hup(Target::Pid(late.id())));
    // On a busy machine it may start too late, and then must not be signalled.
    match proof {
        Ok(proof) => {
            assert_eq!(proof, "signal delivered");
            wait_for("the signal", || fs::read_to_string(&got).is_ok_and(|got| got == "HUP\n"));
        }
        Err(failure) => assert!(failure.is_without_effect, "{failure:?}"),
    }
    assert!(late.is_alive());
}

#[test]
fn any_other_program_must_survive_the_signal() {
    let dir = TempDir::new().unwrap();
    let got = dir.path().join("got");
    let mut stays = trap(&format!("echo HUP >{}", got.display()));
    assert_eq!(run_action(&hup(Target::Pid(stays.id()))).unwrap(), "signal delivered");
    wait_for("the signal", || fs::read_to_string(&got).is_ok_and(|got| got == "HUP\n"));
    assert!(stays.is_alive());

    let goes = trap("exit 3");
    let error = format!("process {} was ended by HUP", goes.id());
    // Its handler may run late.
    let mut told = String::new();
    wait_for("its end", || {
        let failure = run_action(&hup(Target::Pid(goes.id()))).err();
        told = failure.map(|failure| failure.error.to_string()).unwrap_or_default();
        !told.is_empty()
    });
    assert!([error, format!("there is no process {}", goes.id())].contains(&told), "{told}");
    let ends = trap("exit 3");
    let mut term = hup(Target::Pid(ends.id()));
    term.signal = "TERM".parse().unwrap();
    assert_eq!(run_action(&term).unwrap(), "signal delivered");
}

#[test]
fn a_pid_file_must_be_younger_than_its_process() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a\npid");
    let spelt = format!(r"`{}/a\npid`", dir.path().display());
    let error = || {
        let (error, is_without_effect) = failure(&hup(Target::PidFile(path.clone())));
        assert!(is_without_effect);
        error
    };
    assert_eq!(error(), format!("there is no {spelt}"));
    for (text, what) in [
        ("", "is empty"),
        (" \n", "is empty"),
        ("nginx\u{1b}", r"holds no process id, but `nginx\u{1b}`"),
        ("0", "holds no process id, but `0`"),
        ("12 13", "holds no process id, but `12 13`"),
    ] {
        fs::write(&path, text).unwrap();
        assert_eq!(error(), format!("{spelt} {what}"));
    }
    let id = unused_id();
    fs::write(&path, format!("{id}\n")).unwrap();
    assert_eq!(error(), format!("{spelt} is stale: there is no process {id}"));

    let running = trap(":");
    fs::write(&path, format!(" {}\r\n", running.id())).unwrap();
    assert_eq!(run_action(&hup(Target::PidFile(path.clone()))).unwrap(), "signal delivered");
    // An earlier process with this id wrote the file.
    let before = SystemTime::now() - Duration::from_secs(3600);
    File::options().append(true).open(&path).unwrap().set_modified(before).unwrap();
    let stale =
        format!("{spelt} is stale, unless the clock has been set: process {} ", running.id());
    assert!(error().starts_with(&stale), "{}", error());

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(error(), format!("{spelt} is not a file"));
}

#[test]
fn a_pipe_in_place_of_the_file_does_not_hang() {
    let dir = TempDir::new().unwrap();
    let path: PathBuf = dir.path().join("pid");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (error, _) = failure(&hup(Target::PidFile(path.clone())));
    assert_eq!(error, format!("`{}` is not a file", path.display()));
}

#[test]
fn reloader_is_not_its_own_target() {
    let own = std::process::id();
    let expected = (format!("process {own} is reloader itself"), true);
    assert_eq!(failure(&hup(Target::Pid(own))), expected);
}

#[test]
fn a_dry_run_sends_no_signal() {
    let nginx = Nginx::start(&Setup::default());
    let plan = reload(&nginx).dry_run(&content()).unwrap();
    let (user, title) = (geteuid(), format!("{} -c nginx.conf -e", nginx.title()));
    let expected = format!("HUP to process {} ({title:.60}...), of user {user}", nginx.master());
    assert_eq!(plan, expected);
    assert_eq!(reload(&nginx).describe(), format!("HUP to the process `{}`", nginx.title()));
    assert!(!nginx.error_log().contains("SIGHUP"));
    let mut cat = Running::cat();
    let error = hup(Target::Pid(cat.id())).dry_run(&content()).unwrap_err().to_string();
    assert!(error.ends_with("has no handler for HUP, which would kill it"), "{error}");
    assert!(cat.is_alive());
}
