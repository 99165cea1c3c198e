//! Sources that must not be published, and sources that change while they are read.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::run::{Place, assert_publishes, names, publish};
use crate::support::tree::{Entry, directory, file, make_old, seen};

#[test]
fn a_refused_source_names_each_bad_entry_in_one_line_and_writes_nothing() {
    let place = Place::new();
    let (tree, volume) = (place.at("tree"), place.volume());
    make_old(&tree);
    fs::write(place.at("secret"), "secret").unwrap();
    let mut named = Vec::new();
    let links: [(&str, &str); 6] = [
        ("absolute", "/etc/passwd"),
        ("up", "../secret"),
        ("deep-up", "a/../../secret"),
        ("a/deep/upper", "../../../secret"),
        ("through-link", "to-root/../secret"),
        ("a/to-top", "../.."),
    ];
    for (name, target) in links {
        symlink(target, tree.join(name)).unwrap();
        named.push(format!("`{name}` is a link that leads out of the tree"));
    }
    // This one does not.
    symlink(".", tree.join("to-root")).unwrap();
    let fifo = |name: &[u8]| {
        let status = Command::new("mkfifo").arg(tree.join(OsStr::from_bytes(name))).status();
        assert!(status.expect("mkfifo").success());
    };
    fifo(b"a/fifo");
    fifo(b"new\nline");
    fifo(b"bytes\xff");
    let _socket = UnixListener::bind(tree.join("socket")).unwrap();
    for name in ["a/fifo", "new\\nline", "bytes", "socket"] {
        named.push(format!("`{name}"));
    }
    if !e2e::skip_unless_root("makes a device node") {
        let status = Command::new("mknod").arg(tree.join("device")).args(["c", "1", "5"]).status();
        assert!(status.expect("mknod").success());
        named.push("`device` is neither".to_owned());
    }
    file(tree.join("setuid"), "", 0o4755);
    directory(tree.join("setgid"), 0o2755);
    named.extend(["`setuid` has a set-ID bit".into(), "`setgid` has a set-ID bit".into()]);
    file(tree.join("..data"), "", 0o644);
    file(tree.join("a/..hidden"), "", 0o644);
    named.extend(["`..data` begins with".into(), "`a/..hidden` begins with".into()]);

    let outcome = publish(&tree, &volume);
    let stderr = &outcome.stderr;
    assert_eq!((outcome.code, stderr.lines().count()), (Some(2), 1), "{stderr}");
    for name in named {
        assert!(stderr.contains(&name), "{name}: {stderr}");
    }
    assert!(!stderr.contains("`to-root`") && !stderr.contains("`dangling`"), "{stderr}");
    assert_eq!(names(&volume).len(), 0);
}

/// How often a source that changes is published.
const ROUNDS: u32 = 30;

/// Changes the source in one way and back, until `is_over`.
type Disturb = fn(&Path, &Path, u32);

/// Publishes a source that `disturb` changes all the time: it fails, or what is live has the
/// hashes that the manifest says, and nothing of what is outside.
fn publish_while(disturb: Disturb) {
    let place = Place::new();
    let (tree, volume, outside) = (place.at("tree"), place.volume(), place.at("outside"));
    make_old(&tree);
    // All that is in `a`, so that who goes there misses nothing.
    directory(&outside, 0o755);
    directory(outside.join("deep"), 0o750);
    for name in (0..12).map(|number| format!("n{number}")).chain(["secret".into()]) {
        file(outside.join(name), "secret", 0o644);
    }
    file(outside.join("deep/two"), "secret", 0o640);
    let is_over = AtomicBool::new(false);
    let published = std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                disturb(&tree, &outside, turn);
            }
        });
        let _over = super::readers::AtTheEnd(&is_over);
        (0..ROUNDS)
            .filter(|_| {
                let outcome = publish(&tree, &volume);
                assert!([Some(0), Some(1), Some(2)].contains(&outcome.code), "{outcome:?}");
                assert!(outcome.stderr.lines().count() <= 1, "{}", outcome.stderr);
                if names(&volume).contains(OsStr::new("..data")) {
                    assert_verified(&volume);
                }
                outcome.code == Some(0)
            })
            .count()
    });
    println!("{published} of {ROUNDS} published");
    fs::remove_dir_all(&tree).expect("removed");
    make_old(&tree);
    assert_publishes(&tree, &volume);
}

/// Long enough for a run to find the source like this, short enough to change it within one.
fn pause() {
    std::thread::sleep(Duration::from_millis(1));
}

/// Asserts that the live tree is what its manifest says, and holds nothing from outside.
fn assert_verified(volume: &Path) {
    let live = volume.join("..data/");
    for (path, entry) in seen(&live) {
        match entry {
            Entry::File(_, content) => {
                assert!(content != b"secret", "{path:?}");
                // Only ever whole in the source.
                assert!(path != b"same" || content.len() == 200_000, "{} bytes", content.len());
            }
            Entry::Link(target) => assert!(!target.starts_with(b"/"), "{path:?}"),
            Entry::Directory(_) => {}
        }
    }
    let mut check = Command::new("python3");
    let checked = check.args(["-c", CHECK]).current_dir(&live).output().expect("python3");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// Compares files with the manifest, independently of the program.
const CHECK: &str = r#"
import hashlib, json
for line in open("../manifest"):
    entry = json.loads(line)
    if entry["type"] == "file":
        content = open(entry["path"], "rb").read()
        found = (len(content), hashlib.sha256(content).hexdigest())
        assert found == (entry["size"], entry["sha256"]), entry
"#;

#[test]
fn a_file_that_grows_shrinks_and_vanishes_is_published_as_the_manifest_says() {
    publish_while(|tree, _, turn| {
        let path = tree.join("changes");
        if turn % 7 == 6 {
            let _ = fs::remove_file(&path);
        }
        fs::write(&path, vec![b'x'; (turn as usize * 77_777) % 1_000_000]).unwrap();
    });
}

#[test]
fn a_directory_that_becomes_a_link_publishes_nothing_from_outside() {
    publish_while(|tree, outside, _| {
        fs::rename(tree.join("a"), tree.join("a-away")).unwrap();
        symlink(outside, tree.join("a")).unwrap();
        pause();
        fs::remove_file(tree.join("a")).unwrap();
        fs::rename(tree.join("a-away"), tree.join("a")).unwrap();
        pause();
    });
}

#[test]
fn a_file_that_becomes_a_link_or_a_fifo_publishes_nothing_from_outside() {
    publish_while(|tree, outside, turn| {
        let path = tree.join("same");
        fs::remove_file(&path).unwrap();
        if turn % 2 == 0 {
            symlink(outside.join("secret"), &path).unwrap();
        } else {
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o644),
                0,
            )
            .unwrap();
        }
        pause();
        let next = tree.with_file_name("next");
        file(&next, vec![b's'; 200_000], 0o644);
        fs::rename(next, &path).unwrap();
        pause();
    });
}

#[test]
fn a_link_that_begins_to_lead_out_of_the_tree_is_never_live() {
    publish_while(|tree, outside, turn| {
        let next = tree.with_file_name("next");
        if turn % 2 == 0 {
            symlink(outside.join("secret"), &next).unwrap();
        } else {
            symlink("a/n1", &next).unwrap();
        }
        fs::rename(next, tree.join("link")).unwrap();
    });
}
