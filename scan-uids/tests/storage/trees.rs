//! Makes trees to scan: of any shape, with several owners, hostile names, links and devices.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use e2e::mounts::sh;

/// The owners of entries, in turn.
const OWNERS: [u32; 6] = [0, 1, 30001, 65534, 70000, 4_294_967_294];

/// Pseudo-random numbers that depend only on a seed.
pub struct Random(u64);

impl Random {
    /// The sequence for a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }
}

/// Adds `count` directories below `root`, with files and with owners in turn. The shape of the tree
/// depends only on the seed.
pub fn grow(root: &Path, count: usize, seed: u64) {
    let mut random = Random::new(seed);
    let mut dirs = vec![root.to_owned()];
    fs::create_dir_all(root).expect("create");
    for number in 0..count {
        let dir = dirs[random.below(dirs.len())].join(format!("d{number}"));
        fs::create_dir(&dir).expect("create");
        for file in 0..random.below(3) {
            let path = dir.join(format!("f{file}"));
            File::create(&path).expect("create");
            chown_in_turn(&path, number + file + 1);
        }
        chown_in_turn(&dir, number);
        dirs.push(dir);
    }
}

fn chown_in_turn(path: &Path, turn: usize) {
    lchown(path, Some(OWNERS[turn % OWNERS.len()]), None).expect("chown");
}

/// Adds a directory of directories and files with names that break careless programs. Leaves out
/// names that the file system refuses; returns how many it accepts.
pub fn add_hostile_names(root: &Path) -> usize {
    let names: [&[u8]; 15] = [
        b"\xff",
        b"a\xe9z",
        b"\xed\xb3\xbf",
        b"\xc0\xaf",
        b"quote\"",
        b"back\\slash",
        b"new\nline",
        b"\x01",
        b"\x1b[31m\x7f",
        b"\\udcff",
        b"-r",
        b" ",
        "\u{1f980}\u{feff}".as_bytes(),
        &[b'n'; 255],
        &[b'\xfe'; 255],
    ];
    let hostile = root.join("hostile");
    fs::create_dir(&hostile).expect("create");
    let mut taken = 0;
    for (number, name) in names.into_iter().enumerate() {
        let name = OsStr::from_bytes(name);
        let dir = hostile.join(name);
        match fs::create_dir(&dir) {
            Ok(()) => taken += 1,
            Err(error) if is_refusal(error.kind()) => continue,
            Err(error) => panic!("failed to make {name:?}: {error}"),
        }
        fs::create_dir(dir.join(name)).expect("create");
        File::create(dir.join(name).join(name)).expect("create");
        chown_in_turn(&dir.join(name).join(name), number + 1);
        chown_in_turn(&dir, number);
    }
    taken
}

fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidInput | ErrorKind::InvalidFilename)
}

/// Adds a directory of FIFOs, devices, a socket and links.
pub fn add_odd_entries(root: &Path) {
    let odd = root.join("odd");
    fs::create_dir_all(odd.join("sub")).expect("create");
    sh(&odd, "mkfifo fifo; mknod null c 1 3; mknod loop b 7 0");
    drop(UnixListener::bind(odd.join("socket")).expect("a socket"));
    for (target, link) in [("nowhere", "dangling"), ("self", "self"), ("/", "root"), ("..", "up")] {
        symlink(target, odd.join(link)).expect("create a link");
    }
    for (turn, entry) in fs::read_dir(&odd).expect("readable").flatten().enumerate() {
        chown_in_turn(&entry.path(), turn);
    }
    chown(&odd, Some(30002), None).expect("chown");
}

/// Makes a chain of directories `b` with `levels` levels. Each letter of `siblings` is a directory
/// beside every `b`, each letter of `children` one in it, beside the next `b`.
pub fn add_chain(top: &Path, levels: usize, siblings: &str, children: &str) -> PathBuf {
    // The paths are too long to be created in one call.
    let script = format!(
        "exec python3 -c \"
import os
os.mkdir('chain'); os.chdir('chain')
for level in range({levels}):
    for name in 'b' + '{siblings}': os.mkdir(name)
    for name in '{children}': os.mkdir('b/' + name)
    os.chdir('b')
\""
    );
    sh(top, &script);
    top.join("chain")
}
