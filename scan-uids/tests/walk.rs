//! The parallel walk compared with walkdir, on trees that are large, deep or odd, and on trees that
//! change meanwhile.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::programs::{Outcome, command, copy_program, program, python_pairs, run};
use tempfile::TempDir;
use walkdir::WalkDir;

type Owners = BTreeMap<Vec<u8>, String>;

fn scanned(dir: &Path, args: &[&str]) -> Owners {
    let outcome = run(command("scan-uids").current_dir(dir).args(args), b"");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{args:?}");
    unique(python_pairs(&outcome.stdout))
}

/// Collects the pairs; panics if a path is listed twice.
fn unique(pairs: Vec<(Vec<u8>, String)>) -> Owners {
    let count = pairs.len();
    let owners: Owners = pairs.into_iter().collect();
    assert_eq!(owners.len(), count, "a path is listed twice");
    owners
}

/// All directories, or entries, below `root` with their owners, according to walkdir.
fn oracle(dir: &Path, root: &str, entries: bool) -> Owners {
    let walk = WalkDir::new(dir.join(root)).into_iter().map(|entry| entry.expect("readable"));
    let listed = walk.filter(|entry| entries || entry.file_type().is_dir());
    let owner = |entry: walkdir::DirEntry| {
        let path = entry.path().strip_prefix(dir).expect("below").as_os_str().as_bytes().to_vec();
        (path, entry.metadata().expect("metadata").uid().to_string())
    };
    listed.map(owner).collect()
}

fn assert_equal(dir: &Path, root: &str, args: &[&str]) {
    for (mode, entries) in [("--recursive", false), ("--entries", true)] {
        let expected = oracle(dir, root, entries);
        for threads in ["1", "2", "4", "8"] {
            let found = scanned(dir, &[args, &[mode, "--threads", threads, root]].concat());
            let counts = (found.len(), expected.len());
            assert!(found == expected, "{mode}, {threads} threads, {args:?}: {counts:?}");
        }
    }
}

/// Makes a tree of `count` directories with files. Its shape depends only on `seed`.
fn grow(root: &Path, count: usize, seed: u64) {
    let mut state = seed;
    let mut random = move |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 33).expect("31 bits") % limit
    };
    let mut dirs = vec![root.to_owned()];
    fs::create_dir_all(root).expect("create");
    for number in 0..count {
        let parent = &dirs[random(dirs.len())];
        let dir = parent.join(format!("d{number}"));
        fs::create_dir(&dir).expect("create");
        for file in 0..random(4) {
            File::create(dir.join(format!("f{file}"))).expect("create");
        }
        dirs.push(dir);
    }
}

#[test]
fn every_entry_of_a_tree_of_any_shape_is_listed_once() {
    let dir = TempDir::new().unwrap();
    grow(&dir.path().join("tree"), 3000, 1);
    assert_equal(dir.path(), "tree", &[]);
    assert_equal(Path::new("/"), "usr/lib/python3", &[]);
}

#[test]
fn every_entry_of_a_directory_larger_than_the_buffer_is_listed_once() {
    let dir = TempDir::new().unwrap();
    let wide = dir.path().join("wide");
    fs::create_dir(&wide).unwrap();
    for number in 0..20_000 {
        let path = wide.join(format!("an-entry-with-a-name-of-some-length-{number}"));
        if number % 4 == 0 { fs::create_dir(path).unwrap() } else { drop(File::create(path)) }
    }
    assert_equal(dir.path(), "wide", &[]);
}

#[test]
fn the_result_does_not_depend_on_where_link_counts_are_trusted_if_they_are_true() {
    let dir = TempDir::new().unwrap();
    grow(&dir.path().join("tree"), 500, 2);
    assert_equal(dir.path(), "tree", &["--trust-nlink=never"]);
    // Other file systems do not count links: there, the result would be incomplete.
    let tree = fs::metadata(dir.path().join("tree")).unwrap();
    if tree.nlink() > 2 {
        assert_equal(dir.path(), "tree", &["--trust-nlink"]);
    }
}

#[test]
fn the_result_does_not_depend_on_the_cache_of_a_file_system() {
    let dir = TempDir::new().unwrap();
    grow(&dir.path().join("tree"), 100, 4);
    assert_equal(dir.path(), "tree", &["--dont-sync"]);
}

#[test]
fn fifos_sockets_and_links_are_listed_and_not_opened() {
    let dir = TempDir::new().unwrap();
    let odd = dir.path().join("odd");
    fs::create_dir_all(odd.join("sub")).unwrap();
    let fifo = Command::new("mkfifo").arg(odd.join("fifo")).status().unwrap();
    assert!(fifo.success());
    let _socket = UnixListener::bind(odd.join("socket")).unwrap();
    for (target, link) in [("nowhere", "dangling"), ("self", "self"), ("/", "root"), ("..", "up")] {
        symlink(target, odd.join(link)).unwrap();
    }
    assert_equal(dir.path(), "odd", &[]);
}

#[test]
fn sixteen_descriptors_are_enough_for_a_deep_tree_with_branches() {
    let dir = TempDir::new().unwrap();
    let script = "
import os
os.mkdir('tree'); os.chdir('tree')
for level in range(600):
    for name in 'abc': os.mkdir(name)
    for name in '012': os.mkdir('b/' + name)
    os.chdir('b')
";
    let made = Command::new("python3").args(["-c", script]).current_dir(dir.path()).status();
    assert!(made.unwrap().success());
    let expected = 1 + 600 * 6;
    for args in ["--recursive --threads 1", "--recursive", "--entries", "--entries --threads 1"] {
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("ulimit -n 16; exec \"$0\" {args} tree")]);
        let outcome = run(limited.arg(program("scan-uids")).current_dir(dir.path()), b"");
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{args}");
        assert_eq!(unique(python_pairs(&outcome.stdout)).len(), expected, "{args}");
    }
}

#[test]
fn large_directories_are_read_on_where_reading_had_stopped() {
    let dir = TempDir::new().unwrap();
    let mut at = dir.path().join("tree");
    for level in 0..10 {
        // More than the walk's buffer holds, with the next level early or late in the directory.
        for number in 0..700 {
            fs::create_dir_all(at.join(format!("{number:0100}"))).unwrap();
        }
        at.push(format!("{:0100}", level * 70));
    }
    let expected = oracle(dir.path(), "tree", false);
    for threads in ["1", "8"] {
        let mut limited = Command::new("sh");
        // Reading from the start again and again would never end.
        let scan = format!("ulimit -n 16; exec timeout 30 \"$0\" -r --threads {threads} tree");
        limited.args(["-c", &scan]).arg(program("scan-uids")).current_dir(dir.path());
        let outcome = run(&mut limited, b"");
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{threads} threads");
        let found = unique(python_pairs(&outcome.stdout));
        assert!(found == expected, "{threads} threads: {} of {}", found.len(), expected.len());
    }
}

/// Starts a scan, which soon blocks because its output is not read; makes a change; reads on.
fn interrupted(dir: &Path, shell: &str, change: impl FnOnce()) -> Outcome {
    let mut scan = Command::new("sh");
    let script = format!("{shell}; exec \"$0\" --recursive --threads 1 tree");
    let mut child = scan
        .args(["-c", &script])
        .arg(program("scan-uids"))
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    // This much comes from the middle of the filler.
    let mut first = vec![0; 16 * 1024];
    child
        .stdout
        .as_mut()
        .expect("stdout")
        .read_exact(&mut first)
        .expect("the first part of the output");
    change();
    let mut outcome = Outcome::from(child.wait_with_output().expect("the end"));
    outcome.stdout.insert_str(0, std::str::from_utf8(&first).expect("ASCII"));
    outcome
}

/// Makes directories with names that fill pipes and buffers.
fn fill(tree: &Path, below: &str) {
    for number in 0..4000 {
        let name = format!("{}-{number}", "n".repeat(200));
        fs::create_dir_all(tree.join("filler").join(name).join(below)).expect("create");
    }
}

#[test]
fn new_subdirectories_do_not_hide_old_ones_from_the_link_count_rule() {
    let dir = TempDir::new().unwrap();
    let tree = dir.path().join("tree");
    // The walk's buffer holds 292 entries with names of 200 bytes: as many as the link count tells,
    // but half of those in the first buffer are new.
    let make_all = |kind: &str| {
        for victim in 0..10 {
            for number in 0..292 {
                let name = format!("v{victim}/{kind}{number:0197}");
                fs::create_dir_all(tree.join(name)).unwrap();
            }
        }
    };
    make_all("old");
    let outcome = interrupted(dir.path(), ":", || make_all("new"));
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert_eq!(outcome.stdout.matches("/old").count(), 10 * 292);
}

/// Makes a chain of directories `b`, each with two siblings.
fn make_chain_with_siblings(top: &Path, levels: usize) -> PathBuf {
    let mut at = top.to_owned();
    for _ in 0..levels {
        for name in ["a/x", "b", "c/x"] {
            fs::create_dir_all(at.join(name)).expect("create");
        }
        at.push("b");
    }
    at
}

#[test]
fn a_tree_that_is_renamed_meanwhile_is_listed_to_its_end() {
    let dir = TempDir::new().unwrap();
    let tree = dir.path().join("tree");
    fill(&make_chain_with_siblings(&tree.join("top"), 30), "x/y");
    let rename = || fs::rename(tree.join("top"), tree.join("moved")).unwrap();
    let outcome = interrupted(dir.path(), "ulimit -n 16", rename);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert_eq!(outcome.stdout.lines().count(), 2 + 2 + 30 * 5 + 1 + 4000 * 3);
}

#[test]
fn a_directory_that_is_moved_away_meanwhile_is_reported() {
    let dir = TempDir::new().unwrap();
    let tree = dir.path().join("tree");
    fill(&make_chain_with_siblings(&tree.join("top"), 30), "x/y");
    let middle = tree.join("top").join(["b"; 15].join("/"));
    let tear_apart = || {
        fs::rename(middle, tree.join("lower")).unwrap();
        fs::rename(tree.join("top"), tree.join("upper")).unwrap();
    };
    let outcome = interrupted(dir.path(), "ulimit -n 16", tear_apart);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    let expected = "scan-uids: failed to continue reading `tree/top/b";
    assert!(outcome.stderr.starts_with(expected), "{}", outcome.stderr);
}

#[test]
fn entries_that_vanish_are_counted_and_are_not_a_failure() {
    let dir = TempDir::new().unwrap();
    fill(&dir.path().join("tree"), "x");
    let remove = || fs::remove_dir_all(dir.path().join("tree/filler")).unwrap();
    let outcome = interrupted(dir.path(), "export SCAN_UIDS_SUMMARY=summary", remove);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    let summary = fs::read_to_string(dir.path().join("summary")).unwrap();
    let vanished = summary.split_once(r#""vanished":"#).unwrap().1;
    assert!(!vanished.starts_with('0') && summary.contains(r#""unreadable":0"#), "{summary}");
}

#[test]
fn if_no_thread_can_be_started_one_does_all_the_work() {
    let dir = TempDir::new().unwrap();
    fill(&dir.path().join("tree"), "");
    let mut limited = Command::new("prlimit");
    limited.args(["--nproc=1:1"]).arg(copy_program("scan-uids", dir.path()));
    if e2e::is_root() {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        limited.uid(4321).gid(4321); // The limit does not bind root.
    }
    let outcome = run(limited.args(["-r", "tree"]).current_dir(dir.path()), b"");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert_eq!(outcome.stdout.lines().count(), 4000 + 4);
}

#[test]
fn a_scan_of_a_changing_tree_stays_inside_and_prints_valid_json() {
    let dir = TempDir::new().unwrap();
    let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
    fs::create_dir_all(outside.join("secret")).unwrap();
    grow(&tree, 300, 3);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                disturb(&tree, &outside);
            }
        });
        let _stop = StopAtTheEnd(&done);
        for round in 0..60 {
            let mode = if round % 2 == 0 { "--recursive" } else { "--entries" };
            let mut scan = command("scan-uids");
            let outcome = run(scan.current_dir(dir.path()).args([mode, "tree"]), b"");
            assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{mode}");
            for (key, _) in python_pairs(&outcome.stdout) {
                assert!(key == b"tree" || key.starts_with(b"tree/"));
                assert!(!key.ends_with(b"secret"), "followed a link out of the tree");
            }
        }
    });
}

/// Stops the disturbing thread. Without it, a failed assertion would leave the test hanging.
struct StopAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Moves, removes and creates directories, and puts links to the outside in their place.
fn disturb(tree: &Path, outside: &Path) {
    for entry in fs::read_dir(tree).expect("readable").flatten() {
        let path = entry.path();
        let aside = tree.with_file_name("aside");
        // Failures are ignored: the scan must cope with any state.
        let _ = fs::rename(&path, &aside);
        let _ = symlink(outside, &path);
        std::thread::yield_now();
        let _ = fs::remove_file(&path);
        let _ = fs::create_dir(&path);
        let _ = fs::create_dir(path.join("fresh"));
        let _ = fs::remove_dir_all(&path);
        let _ = fs::rename(&aside, &path);
    }
}
