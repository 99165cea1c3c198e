//! Signals from other users and PID namespaces, by running this test program there.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use e2e::nginx::{Nginx, Setup};
use e2e::programs::run;
use e2e::{is_root, skip_unless_root};
use reloader::testing::Target;
use tempfile::TempDir;

use crate::run::{failure, hup, reload, run_action};

/// A user without a name.
const USER: u32 = 30_001;
const TARGET: &str = "SIGNALS_TARGET";
/// A shell command that runs `signals_a_target`.
const SIGNAL: &str = "\"$SIGNALS\" --exact namespaces::signals_a_target --ignored --nocapture";

/// A copy of this test program that every user can run.
struct OwnProgram {
    dir: TempDir,
}

impl OwnProgram {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("open");
        // Made by another process, for the reason that `e2e::programs::copy_program` gives.
        let copied = Command::new("cp")
            .arg(env::current_exe().expect("our own path"))
            .arg(dir.path().join("own"))
            .status();
        assert!(copied.expect("cp").success());
        Self { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The outcome of HUP to a target: runs `script` by `enter`, with [`SIGNAL`] in place of `SIGNAL`.
    fn outcome(&self, enter: &str, script: &str, target: &str) -> String {
        let mut words = enter.split_whitespace();
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).args(["sh", "-c", &script.replace("SIGNAL", SIGNAL)]);
        command.env("SIGNALS", self.at("own")).env("HERE", self.dir.path()).env(TARGET, target);
        let outcome = run(&mut command, b"");
        let (_, rest) =
            outcome.stdout.split_once("outcome: ").unwrap_or_else(|| panic!("{outcome:?}"));
        rest.lines().next().expect("a line").to_owned()
    }
}

#[test]
#[ignore = "run by the other tests as another process"]
fn signals_a_target() {
    let target = env::var(TARGET).unwrap();
    let target = match target.split_once(':').unwrap() {
        ("pid", pid) => Target::Pid(pid.parse().unwrap()),
        ("process", text) => Target::Process(text.to_owned()),
        (_, path) => Target::PidFile(path.into()),
    };
    let outcome = match run_action(&hup(target)) {
        Ok(proof) => proof,
        Err(failure) => format!("{:#} ({})", failure.error, failure.is_without_effect),
    };
    println!("outcome: {outcome}");
}

/// A command that enters a new PID namespace.
fn namespace() -> &'static str {
    if is_root() {
        "unshare --pid --fork --kill-child --mount-proc"
    } else {
        "unshare --user --map-root-user --pid --fork --kill-child --mount-proc"
    }
}

#[test]
fn without_other_containers_the_pods_setting_is_named() {
    let own = OwnProgram::new();
    let needed = "and no process of another container is visible: the pod needs `shareProcessNamespace: true` (true)";
    for (target, what) in [
        ("pid:1", "process 1 is reloader itself"),
        ("process:nginx: master", "there is no process `nginx: master`"),
        ("pid:4000", "there is no process 4000"),
    ] {
        let outcome = own.outcome(namespace(), "exec SIGNAL", target);
        assert_eq!(outcome, format!("{what}, {needed}"));
    }
    // With a process of another container, the setting is there.
    let outcome =
        own.outcome(namespace(), "sleep 100 & exec sh -c 'SIGNAL; exit'", "process:nginx: master");
    assert_eq!(outcome, "there is no process `nginx: master` (true)");
}

#[test]
fn a_pause_process_is_never_signalled() {
    let own = OwnProgram::new();
    let copied = Command::new("cp").arg("/bin/cat").arg(own.at("pause")).status();
    assert!(copied.unwrap().success());
    let script = "
        mkfifo \"$HERE/end\"
        (until grep -qx pause /proc/1/comm; do sleep 0.01; done; SIGNAL; : >\"$HERE/end\") &
        exec \"$HERE/pause\" \"$HERE/end\"";
    let outcome = own.outcome(namespace(), script, "pid:1");
    let expected = "which would not pass the signal on: name the process that is meant, \
        as in --process 'nginx: master' (true)";
    assert!(outcome.starts_with("process 1 is ") && outcome.ends_with(expected), "{outcome}");
}

#[test]
fn the_proc_of_another_pid_namespace_is_refused() {
    let own = OwnProgram::new();
    let enter = namespace().replace("--mount-proc", "");
    let outcome = own.outcome(&enter, "exec SIGNAL", "pid:1");
    assert_eq!(outcome, "`/proc` is of another PID namespace: mount the container's own (true)");
}

#[test]
fn an_error_for_another_user_names_the_setting() {
    if skip_unless_root("becomes another user") {
        return;
    }
    let (own, nginx) = (OwnProgram::new(), Nginx::start(&Setup::default()));
    let enter = format!("setpriv --reuid {USER} --regid {USER} --clear-groups");
    let outcome = own.outcome(&enter, "SIGNAL", &format!("process:{}", nginx.title()));
    let begin = format!("not permitted to send HUP to process {} (nginx: master", nginx.master());
    let end = format!(
        "which runs as user 0, reloader as {USER}: both containers must run as the same user \
         (runAsUser) (true)"
    );
    assert!(outcome.starts_with(&begin) && outcome.ends_with(&end), "{outcome}");
    assert!(!nginx.error_log().contains("SIGHUP"));
}

#[test]
fn the_same_user_needs_no_capability() {
    if skip_unless_root("becomes another user") {
        return;
    }
    let own = OwnProgram::new();
    for user in [Some(USER), None] {
        let nginx = Nginx::start(&Setup { user, ..Setup::default() });
        let id = user.unwrap_or(0);
        let enter = format!(
            "setpriv --reuid {id} --regid {id} --clear-groups --bounding-set -all --inh-caps -all \
             --no-new-privs"
        );
        let target = format!("process:{}", nginx.title());
        let script = "grep -q '^CapEff:.0000000000000000$' /proc/self/status || exit; SIGNAL";
        let outcome =
            (0..5).map(|_| own.outcome(&enter, script, &target)).find(|t| !t.contains("crashed"));
        assert_eq!(outcome.as_deref(), Some("2 workers replaced"));
    }
}

#[test]
fn processes_of_others_may_be_hidden() {
    if skip_unless_root("mounts `/proc`") {
        return;
    }
    let own = OwnProgram::new();
    let enter = "unshare --mount --pid --fork --kill-child --mount-proc";
    for hidepid in [1, 2] {
        let script = format!(
            "mount -t proc -o hidepid={hidepid} proc /proc; \
             setpriv --reuid {USER} --regid {USER} --clear-groups sh -c 'SIGNAL; exit'"
        );
        let outcome = own.outcome(enter, &script, "process:nginx: master");
        assert_eq!(outcome, "there is no process `nginx: master` (true)");
        let outcome = own.outcome(enter, &script, "pid:1");
        let expected = [
            "there is no process 1 (true)",
            "failed to read `/proc/1`: operation not permitted (true)",
        ];
        assert!(expected.contains(&&outcome[..]), "{outcome}");
    }
}

#[test]
fn without_a_namespace_nothing_is_hidden() {
    // The tests above would pass for a wrong reason otherwise.
    let nginx = Nginx::start(&Setup::default());
    assert!(run_action(&reload(&nginx)).is_ok() || failure(&reload(&nginx)).0.contains("crashed"));
}
