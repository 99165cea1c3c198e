//! `make install`: what it puts where.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use e2e::programs::{Outcome, run};
use tempfile::TempDir;

const PROGRAMS: [&str; 5] = ["provisioner", "reloader", "resolve-in-pod", "resolver", "scan-uids"];

/// A directory with files in place of the programs that `make build` builds.
fn built() -> TempDir {
    let dir = TempDir::new().expect("a directory");
    let release = dir.path().join("target/release");
    fs::create_dir_all(&release).expect("made");
    for program in PROGRAMS {
        fs::write(release.join(program), "").expect("written");
        fs::set_permissions(release.join(program), Permissions::from_mode(0o755)).expect("set");
    }
    dir
}

fn install(dir: &Path) -> Outcome {
    let makefile = concat!(env!("CARGO_MANIFEST_DIR"), "/../Makefile");
    let mut make = Command::new("make");
    make.args(["--silent", "--file", makefile, "--directory"]).arg(dir).arg("install");
    make.args(["PREFIX=/usr/local", &format!("DESTDIR={}/root", dir.display())]);
    // Not what a make that runs this test says to its own targets.
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MAKEOVERRIDES");
    run(&mut make, b"")
}

/// The names in a directory below the prefix.
fn names(dir: &Path, below: &str) -> BTreeSet<String> {
    let path = dir.join("root/usr/local").join(below);
    let entries = fs::read_dir(&path).unwrap_or_else(|_| panic!("no {}", path.display()));
    entries.flatten().map(|entry| entry.file_name().into_string().expect("UTF-8")).collect()
}

#[test]
fn programs_pages_and_completions_are_installed_where_they_are_looked_for() {
    let dir = built();
    for task in ["man", "completions"] {
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
        let outcome = run(xtask.arg(task).arg(dir.path().join("target").join(task)), b"");
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    }
    let outcome = install(dir.path());
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{outcome:?}");

    let mut programs: BTreeSet<String> = PROGRAMS.map(str::to_owned).into();
    assert_eq!(names(dir.path(), "share/bash-completion/completions"), programs);
    let of_zsh = programs.iter().map(|name| format!("_{name}")).collect();
    assert_eq!(names(dir.path(), "share/zsh/site-functions"), of_zsh);
    let of_fish = programs.iter().map(|name| format!("{name}.fish")).collect();
    assert_eq!(names(dir.path(), "share/fish/vendor_completions.d"), of_fish);
    let pages = names(dir.path(), "share/man/man1");
    assert!(programs.iter().all(|name| pages.contains(&format!("{name}.1"))), "{pages:?}");
    programs.extend(["resolve-in-pod.sh", "scan-uids.sh"].map(str::to_owned));
    assert_eq!(names(dir.path(), "bin"), programs);
}

#[test]
fn programs_are_installed_without_pages() {
    let dir = built();
    let outcome = install(dir.path());
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{outcome:?}");
    assert_eq!(names(dir.path(), ""), BTreeSet::from(["bin".to_owned()]));
}

#[test]
fn nothing_is_installed_before_make_build() {
    let dir = TempDir::new().expect("a directory");
    let outcome = install(dir.path());
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.starts_with("run 'make build' first"), "{outcome:?}");
    assert!(!dir.path().join("root").exists());
}
