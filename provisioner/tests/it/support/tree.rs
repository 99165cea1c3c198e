//! Trees: examples of them, and what one sees of them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;

/// What is at each path, by the path below a root, which has an empty one.
pub type Seen = BTreeMap<Vec<u8>, Entry>;

/// What one sees of an entry.
#[derive(Clone, PartialEq, Eq)]
pub enum Entry {
    /// With its mode.
    Directory(u32),
    /// With its mode and content.
    File(u32, Vec<u8>),
    /// With its target.
    Link(Vec<u8>),
}

impl fmt::Debug for Entry {
    /// Contents are long.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(mode) => write!(out, "directory {mode:o}"),
            Self::File(mode, content) => {
                let start = String::from_utf8_lossy(&content[..content.len().min(12)]);
                write!(out, "file {mode:o} of {} bytes: {start:?}", content.len())
            }
            Self::Link(target) => write!(out, "link to {:?}", String::from_utf8_lossy(target)),
        }
    }
}

/// All that is at `root` and below.
pub fn seen(root: &Path) -> Seen {
    let mut seen = Seen::new();
    look(root, Vec::new(), &mut seen);
    seen
}

fn look(place: &Path, path: Vec<u8>, seen: &mut Seen) {
    let stat = fs::symlink_metadata(place).expect("an entry");
    let mode = stat.permissions().mode() & 0o7777;
    let entry = if stat.is_dir() {
        for entry in fs::read_dir(place).expect("a directory") {
            let name = entry.expect("an entry").file_name();
            let name = name.as_bytes();
            let below = if path.is_empty() { name.to_vec() } else { [&path, name].join(&b'/') };
            look(&place.join(std::ffi::OsStr::from_bytes(name)), below, seen);
        }
        Entry::Directory(mode)
    } else if stat.is_symlink() {
        Entry::Link(fs::read_link(place).expect("a link").as_os_str().as_bytes().to_vec())
    } else {
        Entry::File(mode, fs::read(place).expect("a file"))
    };
    seen.insert(path, entry);
}

/// All that is to be seen on a volume by the names at its top, without the root itself: links into
/// a version, and what `cp -r` has left. Dangling links are left out.
pub fn seen_by_name(volume: &Path) -> Seen {
    let mut all = Seen::new();
    for entry in fs::read_dir(volume).expect("a volume") {
        let name = entry.expect("an entry").file_name();
        if name.as_bytes().starts_with(b"..") {
            continue;
        }
        let place = match fs::read_link(volume.join(&name)) {
            Ok(target) if target.starts_with("..data") => volume.join(target),
            _ => volume.join(&name),
        };
        match fs::symlink_metadata(&place) {
            Ok(_) => look(&place, name.as_bytes().to_vec(), &mut all),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{name:?}: {error}"),
        }
    }
    all
}

/// The same without the root.
pub fn without_root(mut seen: Seen) -> Seen {
    seen.remove(&b""[..]);
    seen
}

/// Makes a file with this content and mode.
pub fn file(path: impl AsRef<Path>, content: impl AsRef<[u8]>, mode: u32) {
    fs::write(&path, content).expect("written");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

/// Makes a directory with this mode.
pub fn directory(path: impl AsRef<Path>, mode: u32) {
    DirBuilder::new().mode(0o700).create(&path).expect("made");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

/// Makes a tree that has some of everything.
pub fn make_old(root: &Path) {
    directory(root, 0o755);
    directory(root.join("a"), 0o755);
    directory(root.join("a/deep"), 0o750);
    directory(root.join("empty"), 0o755);
    directory(root.join("turns"), 0o755);
    for number in 0..12 {
        file(root.join(format!("a/n{number}")), format!("{number}").repeat(9), 0o644);
    }
    file(root.join("a/deep/two"), "two", 0o640);
    file(root.join("turns/in"), "in", 0o644);
    file(root.join("changes"), vec![b'1'; 300_000], 0o644);
    file(root.join("same"), vec![b's'; 200_000], 0o644);
    file(root.join("mode"), "mode", 0o644);
    file(root.join("gone"), "gone", 0o644);
    file(root.join("kind"), "kind", 0o644);
    file(root.join("points"), "points", 0o644);
    symlink("a/n1", root.join("link")).expect("linked");
    symlink("nowhere", root.join("dangling")).expect("linked");
}

/// Makes another, which differs from it in each way that a tree can.
pub fn make_new(root: &Path) {
    make_old(root);
    file(root.join("changes"), vec![b'2'; 310_000], 0o644);
    file(root.join("a/n3"), "other", 0o644);
    file(root.join("mode"), "mode", 0o600);
    fs::remove_file(root.join("gone")).expect("removed");
    fs::remove_file(root.join("a/n4")).expect("removed");
    file(root.join("fresh"), "fresh", 0o644);
    fs::remove_dir_all(root.join("turns")).expect("removed");
    file(root.join("turns"), "a file now", 0o644);
    fs::remove_file(root.join("kind")).expect("removed");
    directory(root.join("kind"), 0o755);
    file(root.join("kind/in"), "in", 0o644);
    fs::remove_file(root.join("points")).expect("removed");
    symlink("changes", root.join("points")).expect("linked");
    fs::remove_file(root.join("link")).expect("removed");
    symlink("a/deep/two", root.join("link")).expect("linked");
    fs::set_permissions(root.join("a/deep"), Permissions::from_mode(0o755)).expect("a mode");
}
