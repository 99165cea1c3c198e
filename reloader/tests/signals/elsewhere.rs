//! Other users, and other PID namespaces: what reloader says there, as a process of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use e2e::nginx::{Nginx, Setup};
use e2e::programs::run;
use e2e::{is_root, skip_unless_root};
use reloader::testing::Target;
use tempfile::TempDir;

use crate::run::{act, failure, hup, reload};

/// A user without a name.
const USER: u32 = 30_001;
const TARGET: &str = "SIGNALS_TARGET";
/// Signals a target, with everything that a shell needs to do that.
const SIGNAL: &str = "\"$SIGNALS\" --exact elsewhere::signals_a_target --ignored --nocapture";

/// This program, where every user can run it.
struct Own {
    dir: TempDir,
}

impl Own {
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

    /// What comes of a HUP to a target, with a script run by `enter` in place of `SIGNAL`.
    fn told(&self, enter: &str, script: &str, target: &str) -> String {
        let mut words = enter.split_whitespace();
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).args(["sh", "-c", &script.replace("SIGNAL", SIGNAL)]);
        command.env("SIGNALS", self.at("own")).env("HERE", self.dir.path()).env(TARGET, target);
        let outcome = run(&mut command, b"");
        let (_, told) =
            outcome.stdout.split_once("told: ").unwrap_or_else(|| panic!("{outcome:?}"));
        told.lines().next().expect("a line").to_owned()
    }
}

#[test]
#[ignore = "run by the others as another process"]
fn signals_a_target() {
    let target = env::var(TARGET).unwrap();
    let target = match target.split_once(':').unwrap() {
        ("pid", pid) => Target::Pid(pid.parse().unwrap()),
        ("process", text) => Target::Process(text.to_owned()),
        (_, path) => Target::PidFile(path.into()),
    };
    let told = match act(&hup(target)) {
        Ok(proof) => proof,
        Err(failure) => format!("{:#} ({})", failure.error, failure.is_without_effect),
    };
    println!("told: {told}");
}

/// A shell in a PID namespace of its own.
fn namespace() -> &'static str {
    if is_root() {
        "unshare --pid --fork --kill-child --mount-proc"
    } else {
        "unshare --user --map-root-user --pid --fork --kill-child --mount-proc"
    }
}

#[test]
fn without_the_pods_namespace_the_pod_must_have_one() {
    let own = Own::new();
    let needed = "and no process of another container is visible: the pod needs `shareProcessNamespace: true` (true)";
    for (target, what) in [
        ("pid:1", "process 1 is reloader itself"),
        ("process:nginx: master", "there is no process `nginx: master`"),
        ("pid:4000", "there is no process 4000"),
    ] {
        let told = own.told(namespace(), "exec SIGNAL", target);
        assert_eq!(told, format!("{what}, {needed}"));
    }
    // With another container's process to be seen, that is not what is missing.
    let told =
        own.told(namespace(), "sleep 100 & exec sh -c 'SIGNAL; exit'", "process:nginx: master");
    assert_eq!(told, "there is no process `nginx: master` (true)");
}

#[test]
fn a_pause_process_is_never_signalled() {
    let own = Own::new();
    let copied = Command::new("cp").arg("/bin/cat").arg(own.at("pause")).status();
    assert!(copied.unwrap().success());
    let script = "
        mkfifo \"$HERE/end\"
        (until grep -qx pause /proc/1/comm; do sleep 0.01; done; SIGNAL; : >\"$HERE/end\") &
        exec \"$HERE/pause\" \"$HERE/end\"";
    let told = own.told(namespace(), script, "pid:1");
    let expected = "which would not pass the signal on: name the process that is meant, \
        as in --process 'nginx: master' (true)";
    assert!(told.starts_with("process 1 is ") && told.ends_with(expected), "{told}");
}

#[test]
fn the_proc_of_another_namespace_is_not_believed() {
    let own = Own::new();
    let enter = namespace().replace("--mount-proc", "");
    let told = own.told(&enter, "exec SIGNAL", "pid:1");
    assert_eq!(told, "`/proc` is of another PID namespace: mount the container's own (true)");
}

#[test]
fn another_user_is_told_what_to_change() {
    if skip_unless_root("becomes another user") {
        return;
    }
    let (own, nginx) = (Own::new(), Nginx::start(&Setup::default()));
    let enter = format!("setpriv --reuid {USER} --regid {USER} --clear-groups");
    let told = own.told(&enter, "SIGNAL", &format!("process:{}", nginx.title()));
    let begin = format!("not permitted to send HUP to process {} (nginx: master", nginx.master());
    let end = format!(
        "which runs as user 0, reloader as {USER}: both containers must run as the same user \
         (runAsUser) (true)"
    );
    assert!(told.starts_with(&begin) && told.ends_with(&end), "{told}");
    assert!(!nginx.error_log().contains("SIGHUP"));
}

#[test]
fn the_same_user_needs_no_capability() {
    if skip_unless_root("becomes another user") {
        return;
    }
    let own = Own::new();
    for user in [Some(USER), None] {
        let nginx = Nginx::start(&Setup { user, ..Setup::default() });
        let id = user.unwrap_or(0);
        let enter = format!(
            "setpriv --reuid {id} --regid {id} --clear-groups --bounding-set -all --inh-caps -all \
             --no-new-privs"
        );
        let target = format!("process:{}", nginx.title());
        let script = "grep -q '^CapEff:.0000000000000000$' /proc/self/status || exit; SIGNAL";
        let told =
            (0..5).map(|_| own.told(&enter, script, &target)).find(|t| !t.contains("crashed"));
        assert_eq!(told.as_deref(), Some("2 workers replaced"));
    }
}

#[test]
fn processes_of_others_may_be_hidden() {
    if skip_unless_root("mounts `/proc`") {
        return;
    }
    let own = Own::new();
    let enter = "unshare --mount --pid --fork --kill-child --mount-proc";
    for hidepid in [1, 2] {
        let script = format!(
            "mount -t proc -o hidepid={hidepid} proc /proc; \
             setpriv --reuid {USER} --regid {USER} --clear-groups sh -c 'SIGNAL; exit'"
        );
        let told = own.told(enter, &script, "process:nginx: master");
        assert_eq!(told, "there is no process `nginx: master` (true)");
        let told = own.told(enter, &script, "pid:1");
        let expected = [
            "there is no process 1 (true)",
            "failed to read `/proc/1`: operation not permitted (true)",
        ];
        assert!(expected.contains(&&told[..]), "{told}");
    }
}

#[test]
fn here_nothing_is_hidden() {
    // So that the tests above do not pass for a wrong reason.
    let nginx = Nginx::start(&Setup::default());
    assert!(act(&reload(&nginx)).is_ok() || failure(&reload(&nginx)).0.contains("crashed"));
}
