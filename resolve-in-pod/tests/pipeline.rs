//! Directories in, addresses out: the stages joined in a shell and by `resolve-in-pod`, against
//! a real slapd.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use diagnostics::report::Summary;
use e2e::programs::{Outcome, command, copy_program, program, python_pairs, run};
use e2e::slapd::{BASE_DN, READER, Setup, Slapd};
use e2e::{USERS, USERS_LDIF, is_root};
use tempfile::TempDir;

/// A directory for each of the five users, named after the UID.
fn homes() -> TempDir {
    let dir = TempDir::new().expect("a directory");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("opened");
    for (uid, _) in USERS {
        let home = dir.path().join(uid.to_string());
        fs::create_dir(&home).expect("made");
        if is_root() {
            chown(&home, Some(uid), None).expect("given away");
        }
    }
    dir
}

/// The summary that a run left in its termination log.
fn summary(file: &Path) -> Summary {
    let json = fs::read_to_string(file).expect("the termination log");
    assert!(json.len() <= 4096, "{} bytes", json.len());
    serde_json::from_str(&json).expect("JSON")
}

/// A run of resolve-in-pod that looks users up in the LDIF file and has a termination log.
struct Pod {
    dir: TempDir,
}

impl Pod {
    fn new() -> Self {
        let dir = homes();
        fs::write(dir.path().join("log"), "of an earlier run").expect("written");
        Self { dir }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn run(&self, args: &[&str]) -> Outcome {
        let mut pod = command("resolve-in-pod");
        pod.current_dir(self.dir.path()).args(["--ldif", USERS_LDIF, "--termination-log", "log"]);
        run(pod.args(args), b"")
    }
}

#[test]
fn five_owners_are_found_from_a_shell_pipe_and_from_a_pod() {
    let slapd = Slapd::start(&Setup::default());
    let homes = homes();
    let names = USERS.map(|(uid, _)| uid.to_string());
    let mut expected = String::from("{\n");
    for (index, (uid, mail)) in USERS.into_iter().enumerate() {
        let owner = fs::metadata(homes.path().join(uid.to_string())).expect("metadata").uid();
        let mail = if owner == uid { mail } else { "" };
        let comma = if index + 1 < USERS.len() { "," } else { "" };
        expected.push_str(&format!("  \"{uid}\": {{\"{owner}\": \"{mail}\"}}{comma}\n"));
    }
    expected.push_str("}\n");

    let ldap = [("LDAP_URL", slapd.url()), ("LDAP_BASE_DN", BASE_DN.to_owned())];
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$0\" \"$@\" | \"$RESOLVER\""]).arg(program("scan-uids")).args(&names);
    shell.env("RESOLVER", program("resolver")).envs(ldap.clone()).current_dir(homes.path());
    let piped = run(&mut shell, b"");
    assert_eq!((&piped.stdout, &piped.stderr[..]), (&expected, ""));

    let mut pod = command("resolve-in-pod");
    pod.args(&names).envs(ldap.clone()).current_dir(homes.path());
    pod.env("LDAP_BIND_DN", READER.0).env("LDAP_BIND_PASS", READER.1);
    let in_pod = run(&mut pod, b"");
    assert_eq!((in_pod.code, &in_pod.stdout, &in_pod.stderr[..]), (Some(0), &expected, ""));

    // Old manifests call it by its old name, and the stages need not be on PATH.
    let old_name = homes.path().join("resolve-in-pod.sh");
    symlink(program("resolve-in-pod"), &old_name).expect("linked");
    let mut pod = Command::new(&old_name);
    pod.args(&names).env_clear().envs(ldap).current_dir(homes.path());
    let by_old_name = run(&mut pod, b"");
    assert_eq!((&by_old_name.stdout, &by_old_name.stderr[..]), (&expected, ""));
}

#[test]
fn hostile_names_come_through_the_whole_pipeline() {
    let pod = Pod::new();
    let names: [&[u8]; 8] = [
        b"with space",
        b"quote\" back\\slash",
        b"new\nline",
        b"\x01\x1b\x7f",
        "emoji \u{1f980}".as_bytes(),
        b"\xff",
        b"\xed\xb3\xbf",
        b"\xc0\xaf",
    ];
    for name in names {
        fs::create_dir(pod.dir.path().join("30001").join(OsStr::from_bytes(name))).expect("made");
    }
    let outcome = pod.run(&["--recursive", "30001"]);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    let mut keys: Vec<_> = python_pairs(&outcome.stdout).into_iter().map(|(key, _)| key).collect();
    let mut expected: Vec<_> = names.map(|name| [b"30001/", name].concat()).to_vec();
    expected.push(b"30001".to_vec());
    keys.sort();
    expected.sort();
    assert_eq!(keys, expected);
}

#[test]
fn warnings_go_to_the_summary_and_stderr_stays_empty() {
    let pod = Pod::new();
    let outcome = pod.run(&["30001", "missing", "30002"]);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert_eq!(outcome.stdout.lines().count(), 4);
    let summary = summary(&pod.log());
    assert_eq!(summary.warnings, ["missing is not a directory, skipping"]);
    assert_eq!((summary.exit_code, summary.error), (0, None));
    let counts = ["directories", "skipped", "paths"].map(|name| summary.counts[name]);
    assert_eq!(counts, [2, 1, 2]);
}

#[test]
fn settings_of_the_scan_alone_do_not_disturb_the_pipeline() {
    let pod = Pod::new();
    let mut command = command("resolve-in-pod");
    command.current_dir(pod.dir.path()).args(["--ldif", USERS_LDIF, "--recursive", "--sort", "."]);
    command.envs([("SCAN_UIDS_FORMAT", "csv"), ("SCAN_UIDS_METRICS_FILE", "scan.prom")]);
    let outcome = run(&mut command, b"");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    let keys: Vec<_> = python_pairs(&outcome.stdout).into_iter().map(|(key, _)| key).collect();
    assert!(keys.len() == USERS.len() + 1 && keys.is_sorted(), "{keys:?}");
    let metrics = fs::read_to_string(pod.dir.path().join("scan.prom")).unwrap();
    assert!(metrics.contains("scan_uids_directories_scanned_total{result=\"listed\"} 6\n"));
}

#[test]
fn a_summary_of_many_warnings_stays_within_4_kib() {
    let pod = Pod::new();
    let missing: Vec<_> = (0..500).map(|n| format!("missing-{n}-{}", "x".repeat(80))).collect();
    let outcome = pod.run(&missing.iter().map(|name| &name[..]).collect::<Vec<_>>());
    assert_eq!((outcome.code, &outcome.stdout[..]), (Some(0), "{}\n"));
    let summary = summary(&pod.log());
    assert!(summary.warnings.len() > 10);
    assert_eq!(summary.warnings.len() as u64 + summary.warnings_dropped, 500);
}

#[test]
fn no_termination_log_is_made_where_there_is_none() {
    let pod = Pod::new();
    fs::remove_file(pod.log()).expect("removed");
    assert_eq!(pod.run(&["30001"]).code, Some(0));
    assert!(!pod.log().exists());
}

#[test]
fn a_result_file_is_replaced_only_by_a_whole_result() {
    let pod = Pod::new();
    let file = pod.dir.path().join("owners.json");
    let read = || fs::read_to_string(&file).expect("the result");
    let outcome = pod.run(&["--output", "owners.json", "30001"]);
    assert_eq!((outcome.code, &outcome.stdout[..], &outcome.stderr[..]), (Some(0), "", ""));
    let first = read();
    assert!(first.ends_with("}\n"), "{first}");

    let failed = pod.run(&["--output", "owners.json", "--base-dn", "dc=nowhere", "30002"]);
    assert_eq!(failed.code, Some(2), "{failed:?}");
    assert_eq!(read(), first);
    assert_eq!(summary(&pod.log()).exit_code, 2);
    assert!(summary(&pod.log()).error.expect("an error").starts_with("resolver: `"));

    assert_eq!(pod.run(&["--output", "owners.json", "30001", "30002"]).code, Some(0));
    assert_eq!(read().lines().count(), 4);
    let hidden = fs::read_dir(pod.dir.path()).expect("listed").flatten();
    let hidden = hidden.filter(|entry| entry.file_name().as_bytes().starts_with(b"."));
    assert_eq!(hidden.count(), 0, "no temporary file stays");
}

#[test]
fn what_could_not_be_read_makes_the_result_partial() {
    let pod = Pod::new();
    let locked = pod.dir.path().join("locked");
    fs::create_dir_all(locked.join("inside")).expect("made");
    fs::set_permissions(&locked, Permissions::from_mode(0o000)).expect("locked");
    for name in ["resolve-in-pod", "scan-uids", "resolver"] {
        copy_program(name, pod.dir.path());
    }
    let ldif = pod.dir.path().join("users.ldif");
    fs::copy(USERS_LDIF, &ldif).expect("copied");
    fs::set_permissions(&ldif, Permissions::from_mode(0o644)).expect("readable");
    fs::set_permissions(pod.log(), Permissions::from_mode(0o666)).expect("writable");
    let mut command = Command::new(pod.dir.path().join("resolve-in-pod"));
    if is_root() {
        command.uid(65534).gid(65534);
    }
    command.args(["--ldif", "users.ldif", "--termination-log", "log", "locked/inside", "30001"]);
    let outcome = run(command.current_dir(pod.dir.path()), b"");
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(outcome.stderr, "scan-uids: failed to stat `locked/inside`: permission denied\n");
    assert_eq!(outcome.stdout.lines().count(), 3);
    let error = summary(&pod.log()).error.expect("an error");
    assert_eq!(error, "scan-uids: failed to stat `locked/inside`: permission denied");
    fs::set_permissions(&locked, Permissions::from_mode(0o755)).expect("unlocked");
}

#[test]
fn a_failure_that_a_stage_has_told_is_not_told_again() {
    let pod = Pod::new();
    let outcome = pod.run(&["--base-dn", "dc=nowhere", "30001"]);
    assert_eq!((outcome.code, &outcome.stdout[..]), (Some(2), ""));
    let expected = format!("resolver: `{USERS_LDIF}`: no entry within the base DN `dc=nowhere`\n");
    assert_eq!(outcome.stderr, expected);
}

#[test]
fn mistakes_are_told_on_one_line_and_in_the_summary_before_anything_starts() {
    let pod = Pod::new();
    for args in [&["-r", "--exclude", "a[", "."], &["--max-depth", "1", "--timeout=9", "."]] {
        let outcome = pod.run(args);
        assert_eq!((outcome.code, &outcome.stdout[..]), (Some(2), ""), "{args:?}");
        let error = summary(&pod.log()).error.expect("an error");
        assert_eq!(outcome.stderr, format!("resolve-in-pod: {error}\n"));
    }
    // The command line cannot be understood: only the environment says where the log is.
    let mut confused = command("resolve-in-pod");
    confused.env("RESOLVE_IN_POD_TERMINATION_LOG", pod.log());
    let outcome = run(confused.env("LDAP_TIMEOUT", "a\nb").arg("."), b"");
    assert_eq!((outcome.code, outcome.stderr.lines().count()), (Some(2), 1), "{outcome:?}");
    let error = summary(&pod.log()).error.expect("an error");
    assert!(error.contains("invalid value"), "{error}");
}

#[test]
fn a_termination_log_that_is_no_file_is_left_alone() {
    let pod = Pod::new();
    fs::remove_file(pod.log()).expect("removed");
    assert!(Command::new("mkfifo").arg(pod.log()).status().expect("mkfifo").success());
    let outcome = pod.run(&["30001"]);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
}

#[test]
fn warnings_about_the_whole_result_are_not_crowded_out() {
    let pod = Pod::new();
    let mut args: Vec<_> = (0..300).map(|n| format!("missing-{n}")).collect();
    args.push("30001".to_owned());
    let ldif = "dn: uid=a,dc=x\nuidNumber: 30001\n\ndn: uid=b,dc=x\nuidNumber: 30001\nmail: b@x\n";
    let owner = fs::metadata(pod.dir.path().join("30001")).expect("metadata").uid();
    let ldif = ldif.replace("30001", &owner.to_string());
    fs::write(pod.dir.path().join("twice.ldif"), ldif).expect("written");
    let mut crowded = command("resolve-in-pod");
    crowded.current_dir(pod.dir.path()).args(["--ldif", "twice.ldif"]);
    let outcome = run(crowded.args(["--termination-log", "log"]).args(args), b"");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let warnings = summary(&pod.log()).warnings;
    assert!(warnings[0].contains("belongs to several entries"), "{warnings:?}");
}

#[test]
fn a_stage_that_cannot_start_is_an_error_of_configuration() {
    let pod = Pod::new();
    let alone = copy_program("resolve-in-pod", pod.dir.path());
    let mut command = Command::new(&alone);
    command.arg("30001").env("PATH", "/nowhere").current_dir(pod.dir.path());
    let outcome = run(&mut command, b"");
    assert_eq!(outcome.code, Some(2));
    let expected = "resolve-in-pod: failed to start scan-uids: no such file or directory\n";
    assert_eq!((&outcome.stdout[..], &outcome.stderr[..]), ("", expected));

    // Not beside it, but on PATH.
    let built = program("scan-uids");
    let mut command = Command::new(&alone);
    command.env("PATH", built.parent().expect("a directory")).current_dir(pod.dir.path());
    let outcome = run(command.args(["--ldif", USERS_LDIF, "30001"]), b"");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
}

/// Writes stand-ins for the stages to `dir`. A stage that starts leaves the file `started-NAME` there,
/// and reads its input to the end, as resolver does: resolve-in-pod stops scan-uids when resolver ends.
///
/// A shell writes them: a script that this process has open for writing, or a child of another test
/// that inherited it, could not be run.
fn write_stages_that_leave_a_file(dir: &Path) {
    let script = r#"for name in scan-uids resolver; do
        printf '#!/bin/sh\n: >"${0%%/*}/started-%s"\nwhile read -r _; do :; done\n' \
            "$name" >"$1/$name" && chmod +x "$1/$name"
    done"#;
    let mut shell = Command::new("sh");
    let outcome = run(shell.args(["-ec", script, "sh"]).arg(dir), b"");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

#[test]
fn mistakes_on_the_command_line_start_nothing() {
    let dir = TempDir::new().expect("a directory");
    write_stages_that_leave_a_file(dir.path());
    let pod = copy_program("resolve-in-pod", dir.path());
    let run_with =
        |args: &[&str]| run(Command::new(&pod).args(args).env_clear().current_dir(dir.path()), b"");
    let started = || {
        ["scan-uids", "resolver"].map(|name| dir.path().join(format!("started-{name}")).exists())
    };
    // csv is a format of scan-uids alone: resolver could not read it.
    for args in [&[][..], &["--max-depth", "x", "."], &["--format", "csv", "."], &["--nonsense"]] {
        let outcome = run_with(args);
        assert_eq!((outcome.code, &outcome.stdout[..]), (Some(2), ""), "{args:?}");
        assert_eq!(started(), [false, false], "{args:?} started a stage");
    }
    // A valid command line starts both, so a stage that starts is seen.
    run_with(&["--ldif", USERS_LDIF, "."]);
    assert_eq!(started(), [true, true]);
}

#[test]
fn short_help_fits_one_screen() {
    let outcome = run(command("resolve-in-pod").arg("-h").env("COLUMNS", "80"), b"");
    let help = outcome.stdout;
    let longest = help.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(80), "{longest:?} columns:\n{help}");
    assert!(help.lines().count() <= 24, "{} lines:\n{help}", help.lines().count());
    for part in ["Usage: ", "--output", "--url", "--ldif", "\nExample: ", "\nMore: --help"] {
        assert!(help.contains(part), "{part}:\n{help}");
    }
}
