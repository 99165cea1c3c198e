//! Plans of runs (`--dry-run`).

mod failing_runs;
mod files_layout;
mod owner;
mod prediction;
mod read_only;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use e2e::mounts::{in_private_mounts, sh};
use e2e::programs::{Outcome, command, copy_program, run};

use crate::support::places::traces;

/// A source and a volume.
struct Places(tempfile::TempDir);

impl Places {
    /// A source with a few files, which is published.
    fn published() -> Self {
        let places = Self::new();
        assert_eq!(places.run(&[]).code, Some(0));
        places
    }

    /// A source with a few files, and an empty volume.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("source/d")).expect("made");
        fs::create_dir(dir.path().join("volume")).expect("made");
        let places = Self(dir);
        places.write("source/a", "one");
        places.write("source/d/b", "two");
        places
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).expect("written");
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut provisioner = command("provisioner");
        provisioner.args(args).current_dir(self.0.path()).env("PROVISIONER_GRACE", "0");
        provisioner.env("PROVISIONER_SOURCE", "source").env("PROVISIONER_TARGET", "volume");
        provisioner
    }

    fn run(&self, args: &[&str]) -> Outcome {
        run(&mut self.command(args), b"")
    }

    /// The lines of a plan, and the last line up to the digest. Asserts that nothing is written.
    fn plan(&self, args: &[&str]) -> (String, String) {
        let before = traces(&self.path("volume"));
        let outcome = self.run(&[args, &["--dry-run"]].concat());
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{args:?}");
        assert_eq!(traces(&self.path("volume")), before, "{args:?}");
        split(&outcome.stdout)
    }
}

fn split(plan: &str) -> (String, String) {
    let (lines, last) = plan.trim_end().rsplit_once('\n').unwrap_or(("", plan.trim_end()));
    let last = last.split(", sha256:").next().unwrap_or_default();
    (lines.to_owned(), last.to_owned())
}

/// Every trace that a write would leave below a directory.
#[test]
fn each_changed_path_has_a_line_with_its_differences() {
    let places = Places::new();
    let (lines, last) = places.plan(&[]);
    assert_eq!(lines, "+ a\n+ d/\n+ d/b");
    let first = "would publish: 2 added, 0 changed, 0 removed, 0 unchanged, 0 repaired, 6 bytes";
    assert_eq!(last, first);
    for name in ["content", "mode", "both", "gone", "kind"] {
        places.write(&format!("source/{name}"), "old");
    }
    symlink("a", places.path("source/link")).expect("linked");
    fs::create_dir(places.path("source/dir")).expect("made");
    places.write("source/dir/gone", "");
    assert_eq!(places.run(&[]).code, Some(0));
    let unchanged = places.plan(&[]);
    let last = "unchanged: 0 added, 0 changed, 0 removed, 9 unchanged, 0 repaired, 0 bytes";
    assert_eq!((&unchanged.0[..], &unchanged.1[..]), ("", last));

    let chmod = |name: &str, mode| {
        let path = places.path(&format!("source/{name}"));
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
    };
    places.write("source/content", "new");
    places.write("source/both", "newer");
    for name in ["mode", "both"] {
        chmod(name, 0o600);
    }
    chmod("d", 0o750);
    chmod("", 0o700);
    for name in ["gone", "kind", "link"] {
        fs::remove_file(places.path(&format!("source/{name}"))).expect("removed");
    }
    symlink("d", places.path("source/link")).expect("linked");
    fs::create_dir(places.path("source/kind")).expect("made");
    fs::remove_dir_all(places.path("source/dir")).expect("removed");
    places.write("source/dir", "");
    places.write("source/a\n- d", "");
    let (lines, last) = places.plan(&[]);
    let expected = "\
~ ./ (mode 0755 -> 0700)
+ a\\n- d
~ both (content, mode 0644 -> 0600)
~ content (content)
~ d/ (mode 0755 -> 0750)
~ dir (directory -> file)
- dir/gone
- gone
~ kind/ (file -> directory)
~ link (link to a -> d)
~ mode (mode 0644 -> 0600)";
    assert_eq!(lines, expected);
    let counts = "1 added, 5 changed, 2 removed, 2 unchanged, 0 repaired, 11 bytes";
    assert_eq!(last, format!("would publish: {counts}"));
    let outcome = places.run(&["--mode=604", "--dry-run"]);
    assert!(outcome.stdout.contains("\n~ a (mode 0644 -> 0604)\n"), "{}", outcome.stdout);
}

#[test]
fn each_repair_has_a_line() {
    let cases: [(&str, &str, &str); 6] = [
        ("echo xxx > ..data/a", "~ a (not what was published)", "1 unchanged, 1 repaired, 3 bytes"),
        ("rm ..data/d/b", "~ d/b (not what was published)", "1 unchanged, 1 repaired, 3 bytes"),
        ("echo > ..data/d/x", "~ d/ (not what was published)", "2 unchanged, 0 repaired, 0 bytes"),
        ("rm d", "~ d/ (its link is missing)", "2 unchanged, 0 repaired, 0 bytes"),
        ("ln -s ..data/x x", "- x", "2 unchanged, 0 repaired, 0 bytes"),
        ("rm ..data/../manifest", "", "0 unchanged, 0 repaired, 6 bytes"),
    ];
    for (damage, line, counts) in cases {
        let places = Places::published();
        sh(&places.path("volume"), damage);
        let (lines, last) = places.plan(&[]);
        assert_eq!(lines, line, "{damage}");
        assert!(last.starts_with("would publish: ") && last.ends_with(counts), "{damage}: {last}");
        let outcome = places.run(&[]);
        assert_eq!(split(&outcome.stdout).1, last.replace("would publish", "published"));
        assert_eq!(places.plan(&[]).0, "", "{damage}");
    }
}

#[test]
fn files_that_cp_has_copied_are_compared_with_the_source() {
    let places = Places::new();
    sh(&places.path(""), "cp -r source/. volume; echo > volume/d/stale; echo 1 > volume/other");
    places.write("source/d/b", "new");
    for option in ["--allow-empty", "--allow-gap"] {
        let (lines, last) = places.plan(&[option]);
        let expected = "~ a (becomes a link)\n~ d/ (becomes a link)\n~ d/b (content)\n- d/stale";
        assert_eq!(lines, expected);
        assert!(last.starts_with("would publish: 2 added, 0 changed"), "{last}");
    }
    // A FIFO cannot be copied, but moved away.
    sh(&places.path("volume"), "mkfifo d/fifo");
    let outcome = places.run(&["--dry-run"]);
    assert_eq!((outcome.code, &outcome.stdout[..]), (Some(2), ""));
    let why =
        "--allow-gap moves away what cannot be copied: `volume` cannot be published: `d/fifo`";
    assert!(outcome.stderr.contains(why), "{}", outcome.stderr);
    let outcome = places.run(&["--dry-run", "--allow-gap"]);
    assert_eq!(outcome.code, Some(0));
    assert!(
        outcome.stderr.starts_with("Warning: plain files on the volume are not compared"),
        "{outcome:?}"
    );
}

#[test]
fn a_pinned_version_would_stay_live_or_be_restored() {
    let places = Places::published();
    places.write("source/a", "newer");
    let second = places.run(&[]).stdout;
    let (lines, last) = places.plan(&["rollback"]);
    assert_eq!((&lines[..], &last[..]), ("~ a (content)", "would roll back: 2 files, 6 bytes"));
    assert_eq!(places.run(&["rollback"]).code, Some(0));
    let (lines, last) = places.plan(&[]);
    assert_eq!(lines, "");
    assert!(last.starts_with("pinned to sha256:"), "{last}");
    assert!(last.ends_with(": would not publish"), "{last}");
    sh(&places.path("volume"), "rm ..data/a");
    assert!(
        places.plan(&[]).1.ends_with(", but would restore")
            || places.run(&["--dry-run"]).stderr.contains("but missing or damaged")
    );
    let (lines, last) = places.plan(&["--unpin"]);
    assert_eq!(lines, "~ a (content)");
    assert!(last.starts_with("would publish: "), "{last}");
    let digest = second.split("sha256:").nth(1).and_then(|rest| rest.get(..64)).expect("a digest");
    // A plan of a rollback verifies the archive.
    sh(&places.path("volume/..provisioner/versions"), &format!("truncate -s -9 {digest}"));
    let outcome = places.run(&["rollback", digest, "--dry-run"]);
    assert_eq!((outcome.code, &outcome.stdout[..]), (Some(1), ""));
    assert!(outcome.stderr.contains("cannot be used"), "{}", outcome.stderr);
}

#[test]
fn a_plan_fails_where_the_run_would() {
    let places = Places::published();
    places.write("source/a", "new");
    places.write("source/SHA256SUMS", &format!("{}  a\n", "0".repeat(64)));
    for (prepare, code, why) in [
        ("true", 1, "not what SHA256SUMS says: `a`"),
        ("mkfifo source/fifo", 2, "`fifo` is neither a file, a directory nor a link"),
        ("rm -r source", 1, "failed to open `source`"),
        ("mkdir source", 2, "`source` is empty: --allow-empty"),
        ("rm -r volume", 1, "failed to open `volume`"),
    ] {
        sh(&places.path(""), prepare);
        let planned = places.run(&["--dry-run"]);
        assert_eq!((planned.code, &planned.stdout[..]), (Some(code), ""), "{prepare}");
        assert!(planned.stderr.contains(why), "{prepare}: {}", planned.stderr);
        let outcome = places.run(&[]);
        assert_eq!((outcome.code, outcome.stderr), (planned.code, planned.stderr), "{prepare}");
    }
}

#[test]
fn a_plan_that_cannot_be_written_is_an_error() {
    let places = Places::new();
    let full = File::options().write(true).open("/dev/full").expect("opened");
    let outcome = places.command(&["--dry-run"]).stdout(full).stderr(Stdio::piped()).output();
    let outcome = Outcome::from(outcome.expect("an outcome"));
    let message = "provisioner: failed to write the plan: no space left on device\n";
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(1), message));
}

#[test]
fn a_plan_sends_no_notification_and_writes_no_metrics() {
    let places = Places::published();
    places.write("source/a", "newer");
    places.write("x.prom", "of the last run");
    places.write("log", "");
    let args =
        ["--then", "sh -c 'echo > notified'", "--metrics-file=x.prom", "--termination-log=log"];
    let (lines, _) = places.plan(&args);
    assert_eq!(lines, "~ a (content)");
    assert!(!places.path("notified").exists());
    assert_eq!(fs::read_to_string(places.path("x.prom")).expect("read"), "of the last run");
    let log = fs::read_to_string(places.path("log")).expect("read");
    assert!(log.contains(r#""changed":1"#), "{log}");
}

#[test]
fn a_volume_may_be_read_only_and_must_have_space() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|dir| {
        sh(dir, "mkdir source volume; mount -t tmpfs -o size=1m tmpfs volume; echo 1 > source/a");
        let provisioner = |args: &[&str]| {
            let mut provisioner = command("provisioner");
            provisioner.args(["--source", "source", "--target", "volume", "--grace", "0"]);
            run(provisioner.args(args).current_dir(dir), b"")
        };
        assert_eq!(provisioner(&[]).code, Some(0));
        sh(dir, "echo 2 > source/b; mount -o remount,ro volume");
        let outcome = provisioner(&["--dry-run"]);
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        assert!(outcome.stdout.starts_with("+ b\nwould publish: 1 added"), "{}", outcome.stdout);
        sh(dir, "mount -o remount,rw volume; head -c 900000 /dev/urandom > source/b");
        // The space of an earlier version would be freed.
        sh(dir, "head -c 400000 /dev/urandom > source/c; rm source/b");
        assert_eq!(provisioner(&[]).code, Some(0));
        sh(dir, "echo > source/c");
        assert_eq!(provisioner(&[]).code, Some(0));
        sh(dir, "head -c 800000 /dev/urandom > source/c");
        let outcome = provisioner(&["--dry-run"]);
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        sh(dir, "head -c 1100000 /dev/urandom > source/c");
        let outcome = provisioner(&["--dry-run"]);
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.stdout.starts_with("~ c (content)\nwould publish: "), "{outcome:?}");
        assert!(outcome.stderr.contains("less than a new version takes"), "{outcome:?}");
    });
}

#[test]
fn a_missing_permission_is_an_error_after_the_plan() {
    if e2e::skip_unless_root("becomes another user") {
        return;
    }
    let places = Places::new();
    let program = copy_program("provisioner", &places.path(""));
    fs::set_permissions(places.path(""), Permissions::from_mode(0o755)).expect("a mode");
    let mut other_user = Command::new("setpriv");
    other_user.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    other_user.args(["--dry-run", "--source=source", "--target=volume"]);
    let outcome = run(other_user.current_dir(places.path("")), b"");
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stdout.starts_with("+ a\n"), "{outcome:?}");
    let message = "provisioner: failed to write to `volume`: permission denied\n";
    assert_eq!(outcome.stderr, message);
}
