//! Scans: which differences are changes, and the limits.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use e2e::programs::{command, run};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use reloader::testing::{Limits, Scan, Scanner};
use tempfile::{TempDir, tempdir};

const LIMITS: Limits = Limits { depth: 64, names: 100_000, bytes: 1 << 30 };

fn scan(roots: &[PathBuf], limits: Limits) -> anyhow::Result<Scan> {
    Scanner::new(roots.to_vec(), limits, None).scan(true)
}

fn digest(root: &Path) -> [u8; 32] {
    scan(&[root.to_owned()], LIMITS).expect("a scan").digest
}

fn tree() -> TempDir {
    let dir = tempdir().expect("a directory");
    fs::create_dir(dir.path().join("certs")).expect("made");
    fs::write(dir.path().join("certs/a.pem"), "one").expect("written");
    fs::write(dir.path().join("b"), "two").expect("written");
    symlink("certs/a.pem", dir.path().join("link")).expect("linked");
    dir
}

#[test]
fn each_change_of_content_changes_the_digest() {
    let dir = tree();
    let at = |name: &str| dir.path().join(name);
    let mut seen = vec![digest(dir.path())];
    let mut changed = |what: &str| {
        let now = digest(dir.path());
        assert!(!seen.contains(&now), "{what} is not seen");
        seen.push(now);
    };
    fs::write(at("b"), "2wo").expect("written");
    changed("content");
    fs::rename(at("b"), at("c")).expect("renamed");
    changed("a name");
    fs::remove_file(at("link")).expect("removed");
    symlink("certs/b.pem", at("link")).expect("linked");
    changed("another target");
    fs::remove_file(at("link")).expect("removed");
    changed("a name that is gone");
    fs::create_dir(at("empty")).expect("made");
    changed("a directory");
    fs::remove_dir(at("empty")).expect("removed");
    fs::write(at("empty"), "").expect("written");
    changed("another type");
    fs::write(at("c"), "").expect("written");
    changed("an empty file");
}

#[test]
fn the_same_size_and_time_do_not_hide_a_change() {
    let dir = tree();
    let file = dir.path().join("certs/a.pem");
    let time = fs::metadata(&file).expect("there").modified().expect("a time");
    let before = digest(dir.path());
    fs::write(&file, "eno").expect("written");
    File::options().write(true).open(&file).expect("open").set_modified(time).expect("set");
    assert_ne!(digest(dir.path()), before);
}

#[test]
fn times_modes_and_reading_do_not_change_the_digest() {
    let dir = tree();
    let before = digest(dir.path());
    let file = dir.path().join("certs/a.pem");
    let long_ago = SystemTime::now() - Duration::from_secs(1_000_000);
    File::options().write(true).open(&file).expect("open").set_modified(long_ago).expect("set");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("set");
    fs::set_permissions(dir.path().join("certs"), Permissions::from_mode(0o711)).expect("set");
    fs::read(&file).expect("read");
    assert_eq!(digest(dir.path()), before);
}

#[test]
fn fifos_loops_and_large_files_are_limited_and_reported() {
    let dir = tree();
    let at = |name: &str| dir.path().join(name);
    mkfifo(&at("fifo"), Mode::S_IRWXU).expect("made");
    symlink("loop", at("loop")).expect("linked");
    symlink(".", at("here")).expect("linked");
    symlink("/", at("everything")).expect("linked");
    File::create(at("sparse")).expect("made").set_len(10 << 30).expect("set");
    fs::write(at("x").with_file_name(OsStr::from_bytes(b"not\xffutf\n8")), "x").expect("written");
    let limits = Limits { bytes: 1 << 20, ..LIMITS };
    let seen = scan(&[dir.path().to_owned()], limits).expect("a scan");
    assert_eq!(seen.entries.len(), 10);
    let notes = seen.warnings.join("\n");
    assert!(notes.contains("/sparse` is more than --max-bytes leaves"), "{notes}");
    assert!(notes.contains("/everything` leads to a directory elsewhere"), "{notes}");
    assert_eq!(seen.warnings.len(), 2, "{notes}");
    // The size and times of the file stand for it.
    fs::write(at("sparse"), "small").expect("written");
    assert_ne!(scan(&[dir.path().to_owned()], limits).expect("a scan").digest, seen.digest);
}

#[test]
fn depth_and_number_of_files_are_limited() {
    let dir = tree();
    let deep = dir.path().join("1/2/3/4");
    fs::create_dir_all(&deep).expect("made");
    fs::write(deep.join("file"), "").expect("written");
    let look = |limits| scan(&[dir.path().to_owned()], limits).expect("a scan");
    let seen = look(Limits { depth: 3, ..LIMITS });
    assert!(seen.warnings[0].ends_with("/1/2/3/4` lies deeper than --max-depth allows"));
    assert_eq!(look(Limits { depth: 4, ..LIMITS }).warnings, [""; 0]);
    let seen = look(Limits { names: 3, ..LIMITS });
    assert_eq!(seen.entries.len(), 3);
    assert!(seen.warnings[0].ends_with("holds more names than --max-files allows"), "{seen:?}");
}

#[test]
fn a_linked_file_outside_of_the_tree_is_read() {
    let (dir, elsewhere) = (tree(), tempdir().expect("a directory"));
    let file = elsewhere.path().join("ca.pem");
    fs::write(&file, "one").expect("written");
    symlink(&file, dir.path().join("ca")).expect("linked");
    let before = digest(dir.path());
    fs::write(&file, "two").expect("written");
    assert_ne!(digest(dir.path()), before);
}

/// As the kubelet lays out a ConfigMap.
#[test]
fn only_the_live_version_of_a_config_map_counts() {
    let dir = tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let publish = |version: &str, content: &str| {
        fs::create_dir(at(version)).expect("made");
        fs::write(at(version).join("key"), content).expect("written");
        symlink(version, at("..data_tmp")).expect("linked");
        fs::rename(at("..data_tmp"), at("..data")).expect("renamed");
    };
    publish("..2026_01", "one");
    symlink("..data/key", at("key")).expect("linked");
    let first = digest(dir.path());
    publish("..2026_02", "two");
    let second = digest(dir.path());
    assert_ne!(second, first);
    fs::remove_dir_all(at("..2026_01")).expect("removed");
    assert_eq!(digest(dir.path()), second, "an old version is gone");
    publish("..2026_03", "two");
    assert_eq!(digest(dir.path()), second, "the same content");
}

fn provision(source: &Path, target: &Path) {
    let mut provisioner = command("provisioner");
    provisioner.args(["--grace", "0", "--source"]).arg(source).arg("--target").arg(target);
    let outcome = run(&mut provisioner, b"");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

#[test]
fn a_published_version_is_verified_and_keeps_its_digest() {
    let (source, target) = (tree(), tempdir().expect("a directory"));
    provision(source.path(), target.path());
    let root = [target.path().to_owned()];
    let seen = scan(&root, LIMITS).expect("a scan");
    assert!(seen.is_verified);
    let status = run(command("provisioner").args(["status", "--target"]).arg(target.path()), b"");
    let hex: String = seen.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(status.stdout.contains(&hex), "{status:?}");
    fs::write(source.path().join("b"), "2wo").expect("written");
    provision(source.path(), target.path());
    assert_ne!(scan(&root, LIMITS).expect("a scan").digest, seen.digest);
    // Files that were changed by other programs are not used.
    let file = target.path().join("..data/b");
    fs::write(&file, "bad").expect("written");
    let error = format!("{:#}", scan(&root, LIMITS).unwrap_err());
    assert!(error.contains("b` is not what was published"), "{error}");
}

#[test]
fn a_verified_version_is_read_again_after_an_event_only() {
    let (source, target) = (tree(), tempdir().expect("a directory"));
    provision(source.path(), target.path());
    let mut scanner = Scanner::new(vec![target.path().to_owned()], LIMITS, None);
    let seen = scanner.scan(false).expect("a scan");
    fs::write(target.path().join("..data/b"), "bad").expect("written");
    assert_eq!(scanner.scan(false).expect("a scan"), seen);
    scanner.scan(true).expect_err("read again");
}

#[test]
fn several_directories_are_one_content_and_a_missing_one_is_an_error() {
    let (one, two) = (tree(), tree());
    let roots = [one.path().to_owned(), two.path().to_owned()];
    let seen = scan(&roots, LIMITS).expect("a scan");
    assert_eq!(seen.entries.len(), 8);
    fs::write(two.path().join("b"), "2wo").expect("written");
    assert_ne!(scan(&roots, LIMITS).expect("a scan").digest, seen.digest);
    let missing = two.path().join("none");
    let error = scan(&[roots[0].clone(), missing.clone()], LIMITS).unwrap_err();
    let expected = format!("failed to open `{}`: no such file or directory", missing.display());
    assert_eq!(format!("{error:#}"), expected);
}
