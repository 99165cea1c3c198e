//! Volumes as earlier versions of the program have left them are read, rolled back and published to.
//!
//! `testdata/VERSION` holds them, with the status and history that the version itself printed;
//! `make-volumes.sh` there makes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::programs::{Outcome, command, run};
use e2e::wait_for;
use serde_json::Value;
use tempfile::TempDir;

/// The trees that were published, and their digests.
const TREES: [(&str, &str); 3] = [
    ("v1", "4ed30aa7b0aa0d56c152186775bbc7314a43876c2226b5ee60cb931044be4af8"),
    ("v2", "8f469eae32c9d7b0b625942f5aef4969ecc7b7a26c8eab96fcb42c68d94116b2"),
    ("v3", "ad43dba46f45436dee8ebf1fda11b95370d56ac03a1211c1d7509a5fc1526676"),
];

/// Volumes where readers see a mixture of trees until the next run.
const MIXED: [&str; 4] = [
    "atomic-killed-in-gap",
    "atomic-killed-in-migration",
    "files-killed-from-atomic",
    "files-killed-pending",
];

/// What a reader sees of an entry.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Directory(u32),
    File(u32, Vec<u8>),
    Link(PathBuf),
}

/// A volume of an earlier version, unpacked in a directory of its own beside the trees.
struct Unpacked {
    name: String,
    dir: TempDir,
    /// What `status --json` of that version said.
    status: Value,
}

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/0.1.0")
}

/// The names of all volumes.
fn volumes() -> BTreeSet<String> {
    let files = fs::read_dir(testdata()).expect("a directory").flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    let volumes = names.filter_map(|name| name.strip_suffix(".tar.gz").map(str::to_owned));
    volumes.filter(|name| name != "sources").collect()
}

fn unpack(name: &str, dir: &Path) {
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--preserve-permissions", "--file"]);
    tar.arg(testdata().join(format!("{name}.tar.gz"))).current_dir(dir);
    let outcome = run(&mut tar, b"");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{name}");
}

impl Unpacked {
    fn new(name: &str) -> Self {
        // In memory if that can be had: the tests need not wait for a disk.
        let dir = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a directory");
        unpack("sources", dir.path());
        unpack(name, dir.path());
        let status = fs::read_to_string(dir.path().join("status.json")).expect("read");
        let status = serde_json::from_str(&status).expect("JSON");
        let unpacked = Self { name: name.to_owned(), dir, status };
        unpacked.renew();
        unpacked
    }

    /// Gives versions, and what goes with them, times of change in the order that they had.
    fn renew(&self) {
        let names = fs::read_to_string(self.dir.path().join("order")).expect("read");
        let mut before = (0, 0);
        for name in names.lines() {
            let path = self.volume().join(name);
            let mut changed = before;
            wait_for("the file system's clock", || {
                lchown(&path, None, None).expect("changed");
                let metadata = fs::symlink_metadata(&path).expect("there");
                changed = (metadata.ctime(), metadata.ctime_nsec());
                changed > before
            });
            before = changed;
        }
    }

    fn volume(&self) -> PathBuf {
        self.dir.path().join("volume")
    }

    fn run(&self, args: &[&str]) -> Outcome {
        let mut provisioner = command("provisioner");
        provisioner.args(args).args(["--target", "volume"]).current_dir(self.dir.path());
        run(&mut provisioner, b"")
    }

    /// Runs a command that must succeed, and have no warnings.
    fn succeed(&self, args: &[&str]) -> String {
        let outcome = self.run(args);
        let name = &self.name;
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{name}: {args:?}");
        outcome.stdout
    }

    fn publish(&self, tree: &str, args: &[&str]) -> String {
        self.succeed(&[&["--source", tree, "--grace", "0"], args].concat())
    }

    /// Whether no manifest knows of a file of the volume: the layout is the other one.
    fn has_plain_file_at(&self, name: &str) -> bool {
        let metadata = fs::symlink_metadata(self.volume().join(name));
        let is_atomic = text(&self.status, "/live/layout") == Some("atomic");
        is_atomic && metadata.is_ok_and(|metadata| metadata.is_file())
    }

    /// The digest that is live, by the current program.
    fn live(&self) -> String {
        let status: Value =
            serde_json::from_str(&self.succeed(&["status", "--json"])).expect("JSON");
        text(&status, "/live/digest").expect("something is live").to_owned()
    }

    /// The version that a rollback led to when the volume was packed.
    fn before(&self) -> Option<&str> {
        text(&self.status, "/kept/0/digest")
    }

    /// Asserts that readers see the tree of this digest, through links or not.
    fn assert_shows(&self, digest: &str) {
        let (tree, _) = TREES.iter().find(|(_, known)| *known == digest).expect("a known digest");
        let mut shown = seen(&self.volume());
        if self.name == "files-taken-over" {
            // The files of others.
            assert!(shown.remove(Path::new("mine")).is_some());
            shown.remove(Path::new("certs/old.pem"));
        }
        assert!(shown == seen(&self.dir.path().join(tree)), "{}: not {tree}", self.name);
    }

    /// The names on the volume that begin with `..`, a version's without its tag.
    fn hidden(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.volume()).expect("read").flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let hidden = names.filter(|name| name.starts_with(".."));
        hidden
            .map(|name| name.split_once('-').map_or(name.clone(), |(kind, _)| kind.into()))
            .collect()
    }

    fn pending_notifications(&self) -> usize {
        let names = fs::read_dir(self.volume().join("..provisioner")).expect("read").flatten();
        names.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"untold-")).count()
    }
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer)?.as_str()
}

/// All that readers see in a directory, but for names that begin with `..`; names at its top that
/// lead through `..data` are followed, as readers do.
fn seen(dir: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(parent) = pending.pop() {
        for entry in fs::read_dir(dir.join(&parent)).expect("a directory") {
            let name = entry.expect("an entry").file_name();
            if parent.as_os_str().is_empty() && name.clone().into_vec().starts_with(b"..") {
                continue;
            }
            let path = parent.join(name);
            let target = fs::read_link(dir.join(&path)).ok();
            let led = target.filter(|target| target.starts_with("..data"));
            let at = dir.join(led.as_ref().unwrap_or(&path));
            let metadata = fs::symlink_metadata(&at).expect("there");
            let mode = metadata.permissions().mode() & 0o7777;
            let entry = if metadata.is_dir() {
                pending.push(path.clone());
                Entry::Directory(mode)
            } else if metadata.is_file() {
                Entry::File(mode, fs::read(at).expect("read"))
            } else {
                Entry::Link(fs::read_link(at).expect("a link"))
            };
            found.insert(path, entry);
        }
    }
    found
}

/// Asserts that `now` has everything that `then` has. It may have more keys.
fn assert_holds(now: &Value, then: &Value, what: &str) {
    match (now, then) {
        (Value::Object(now), Value::Object(then)) => {
            for (key, value) in then {
                assert_holds(now.get(key).expect(key), value, what);
            }
        }
        (Value::Array(now), Value::Array(then)) => {
            assert_eq!(now.len(), then.len(), "{what}");
            now.iter().zip(then).for_each(|(now, then)| assert_holds(now, then, what));
        }
        _ => assert_eq!(now, then, "{what}"),
    }
}

#[test]
fn status_and_history_print_what_the_earlier_version_printed() {
    let volumes = volumes();
    assert!(volumes.len() > 20, "{volumes:?}");
    for name in volumes {
        let unpacked = Unpacked::new(&name);
        let outcome = unpacked.run(&["status", "--json"]);
        let is_live = !unpacked.status["live"].is_null();
        assert_eq!(outcome.code, Some(i32::from(!is_live)), "{name}: {outcome:?}");
        let status = serde_json::from_str(&outcome.stdout).expect("JSON");
        assert_holds(&status, &unpacked.status, &name);

        let then = fs::read_to_string(unpacked.dir.path().join("history.json")).expect("read");
        let then = serde_json::from_str(&then).expect("JSON");
        let now = serde_json::from_str(&unpacked.succeed(&["history", "--json"])).expect("JSON");
        assert_holds(&now, &then, &name);

        if let (Some(digest), false) =
            (text(&unpacked.status, "/live/digest"), MIXED.contains(&&name[..]))
        {
            unpacked.assert_shows(digest);
        }
    }
}

#[test]
fn rollback_restores_the_version_before_if_one_is_kept() {
    let mut count = 0;
    for name in volumes() {
        let unpacked = Unpacked::new(&name);
        let is_atomic = text(&unpacked.status, "/live/layout") == Some("atomic");
        let Some(before) = unpacked.before().filter(|_| is_atomic) else {
            let outcome = unpacked.run(&["rollback", "--grace", "0"]);
            assert_eq!((outcome.code, &outcome.stdout[..]), (Some(2), ""), "{name}: {outcome:?}");
            continue;
        };
        count += 1;
        unpacked.succeed(&["rollback", "--grace", "0"]);
        assert_eq!(unpacked.live(), before, "{name}");
        unpacked.assert_shows(before);
    }
    assert!(count > 5, "{count}");
}

#[test]
fn the_next_publication_leaves_only_its_own_tree_in_either_layout() {
    let (_, third) = TREES[2];
    for name in volumes() {
        for layout in ["atomic", "files"] {
            let unpacked = Unpacked::new(&name);
            let args = ["--unpin", "--layout", layout];
            // `kind` is a directory in v3. A file of others must not be in the way of plain files.
            if layout == "files" && unpacked.has_plain_file_at("kind") {
                let outcome = unpacked.run(&[&["--source", "v3"], &args[..]].concat());
                assert_eq!((outcome.code, &outcome.stdout[..]), (Some(1), ""), "{name}");
                continue;
            }
            unpacked.publish("v3", &args);
            assert_eq!(unpacked.live(), third, "{name}");
            unpacked.assert_shows(third);
            let hidden = unpacked.hidden();
            if layout == "files" {
                // A version that was not packed in time goes with the run after it.
                unpacked.publish("v3", &["--layout", layout]);
                let hidden = unpacked.hidden();
                assert_eq!(hidden, BTreeSet::from(["..provisioner".to_owned()]), "{name}");
                continue;
            }
            let expected = ["..data", "..provisioner", "..version"].map(str::to_owned);
            assert_eq!(hidden, BTreeSet::from(expected), "{name}");

            // Roll back to the version that was live before, or to the one before that. A
            // version that went live only in part need not be kept.
            if MIXED.contains(&&name[..]) {
                continue;
            }
            let was_live = text(&unpacked.status, "/live/digest")
                .filter(|digest| unpacked.status["live"]["layout"] == "atomic" && *digest != third);
            let Some(before) = was_live.or(unpacked.before()) else { continue };
            // By its digest: two that were packed at the same tick of the clock have no order.
            unpacked.succeed(&["rollback", before, "--grace", "0"]);
            assert_eq!(unpacked.live(), before, "{name}");
            unpacked.assert_shows(before);
        }
    }
}

#[test]
fn a_pin_holds_and_a_killed_rollback_is_completed() {
    let (_, second) = TREES[1];
    for name in ["atomic-pinned", "atomic-killed-rollback"] {
        let unpacked = Unpacked::new(name);
        let said = unpacked.publish("v1", &[]);
        assert!(said.contains(&format!("pinned to sha256:{second}")), "{name}: {said}");
        assert_eq!(unpacked.live(), second, "{name}");
        unpacked.assert_shows(second);
    }
}

#[test]
fn a_pending_notification_is_sent() {
    let (_, second) = TREES[1];
    for (name, layout) in [("atomic-untold", "atomic"), ("files-untold", "files")] {
        let unpacked = Unpacked::new(name);
        assert_eq!(unpacked.pending_notifications(), 2, "{name}");
        let then = "sh -c 'echo $PROVISIONER_DIGEST >>told'";
        let said = unpacked.publish("v2", &["--layout", layout, "--then", then]);
        assert!(said.starts_with("unchanged"), "{name}: {said}");
        let told = fs::read_to_string(unpacked.dir.path().join("told")).expect("told");
        assert_eq!(told, format!("{second}\n"), "{name}");
        // The notification of the server stays pending for a run with its URL.
        assert_eq!(unpacked.pending_notifications(), 1, "{name}");
    }
}

#[test]
fn the_reloader_reads_the_manifest_of_the_live_version() {
    for (name, digest) in [("atomic-fresh", TREES[0].1), ("atomic-three", TREES[2].1)] {
        let unpacked = Unpacked::new(name);
        let mut reloader = command("reloader");
        reloader.args(["--once", "--at-start", "--exec", "sh -c 'echo $RELOADER_DIGEST >digest'"]);
        let outcome = run(reloader.arg("volume").current_dir(unpacked.dir.path()), b"");
        assert_eq!(outcome.code, Some(0), "{name}: {outcome:?}");
        let acted = fs::read_to_string(unpacked.dir.path().join("digest")).expect("it has acted");
        assert_eq!(acted, format!("{digest}\n"), "{name}");
    }
}
