//! The program on real directories: what it lists, what it skips, what it reports. GNU find and
//! Python's JSON reader are the oracles.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::is_root;
use e2e::programs::{Outcome, command, copy_program, ended_as_first_process, python_pairs, run};
use tempfile::TempDir;

/// The UID and GID of an unprivileged user.
const UNPRIVILEGED: u32 = 65534;

fn scan(dir: &Path, args: &[&str]) -> Outcome {
    run(command("scan-uids").current_dir(dir).args(args), b"")
}

/// File names that break careless programs.
fn hostile_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        &b"with space"[..],
        b"quote\"",
        b"back\\slash",
        b"new\nline",
        b"\x01\x1b[31m\x7f",
        "emoji \u{1f980}".as_bytes(),
        b"\xff",
        b"a\xe9z",
        b"\xed\xb3\xbf",
        b"\xc0\xaf",
        b"\\udcff",
        b"-r",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    names.push(vec![b'\xfe'; 255]);
    names
}

#[test]
fn keys_come_in_argument_order_and_as_given() {
    let dir = TempDir::new().unwrap();
    for name in ["b", "a", "a/c"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    symlink("a", dir.path().join("link")).unwrap();
    let outcome = scan(dir.path(), &["b", "a/", "./a//c", "link", "link/../b", "b"]);
    let uid = fs::metadata(dir.path().join("a")).unwrap().uid();
    let expected: Vec<_> = ["b", "a/", "./a//c", "link", "link/../b", "b"]
        .map(|key| format!("  \"{key}\": {uid}"))
        .to_vec();
    assert_eq!(outcome.stdout, format!("{{\n{}\n}}\n", expected.join(",\n")));
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
}

#[test]
fn the_owner_is_that_of_the_directory_and_not_of_a_link_to_it() {
    let dir = TempDir::new().unwrap();
    let owned = dir.path().join("owned");
    fs::create_dir(&owned).unwrap();
    symlink("owned", dir.path().join("link")).unwrap();
    // Root gives a directory away; others have a link to a directory that is not theirs.
    symlink("/", dir.path().join("to-root")).unwrap();
    if is_root() {
        chown(&owned, Some(30001), None).unwrap();
    }
    let uid = fs::metadata(&owned).unwrap().uid();
    let outcome = scan(dir.path(), &["owned", "link", "to-root"]);
    let expected = format!(r#"{{"owned": {uid}, "link": {uid}, "to-root": 0}}"#);
    assert_eq!(python_pairs(&outcome.stdout), python_pairs(&expected));
}

#[test]
fn an_argument_that_is_not_a_directory_is_skipped_with_the_original_warning() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    let outcome = scan(dir.path(), &["file", ".", "missing", "dangling", "file/x", "new\nline"]);
    let warnings: Vec<_> = ["file", "missing", "dangling", "file/x", "new\\nline"]
        .map(|name| format!("Warning: {name} is not a directory, skipping\n"))
        .to_vec();
    assert_eq!(outcome.stderr, warnings.concat());
    assert_eq!(outcome.code, Some(0));
    assert_eq!(outcome.stdout.lines().count(), 3);
    assert_eq!(scan(dir.path(), &["file"]).stdout, "{}\n");
}

#[test]
fn hostile_names_survive_json_byte_for_byte() {
    let dir = TempDir::new().unwrap();
    let mut expected = Vec::new();
    for name in hostile_names() {
        fs::create_dir(dir.path().join(OsStr::from_bytes(&name))).unwrap();
        expected.push(name);
    }
    let names = expected.iter().map(|name| OsStr::from_bytes(name));
    let outcome = run(command("scan-uids").current_dir(dir.path()).arg("--").args(names), b"");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    let keys = keys(&outcome);
    assert_eq!(keys, expected);

    let recursive = scan(dir.path(), &["-r", "."]);
    let mut keys: Vec<_> =
        python_pairs(&recursive.stdout).into_iter().map(|(key, _)| key).collect();
    keys.sort();
    let mut expected: Vec<_> = expected.iter().map(|name| [&b"./"[..], name].concat()).collect();
    expected.push(b".".to_vec());
    expected.sort();
    assert_eq!(keys, expected);
}

/// A tree with links, files and, if root runs the test, several owners.
fn tree() -> TempDir {
    let dir = TempDir::new().expect("a directory");
    let root = dir.path();
    for (number, path) in ["a/b/c/d", "a/skip/x", "a/keep/skip", "e", "skip"].iter().enumerate() {
        fs::create_dir_all(root.join(path)).expect("create a directory");
        if is_root() {
            let uid = 30001 + u32::try_from(number).expect("small");
            chown(root.join(path), Some(uid), None).expect("chown");
        }
    }
    fs::write(root.join("a/file"), "").expect("write a file");
    symlink("..", root.join("a/b/loop")).expect("create a link");
    symlink("../e", root.join("a/link")).expect("create a link");
    dir
}

/// The directories below `dir` with their owners, according to find.
fn find(dir: &Path, args: &[&str]) -> BTreeMap<Vec<u8>, String> {
    let output = Command::new("find")
        .current_dir(dir)
        .args(args)
        .args(["-type", "d", "-printf", r"%p\0%U\0"])
        .output()
        .expect("find is installed");
    assert!(output.status.success());
    let mut fields = output.stdout.split(|&b| b == 0);
    let mut found = BTreeMap::new();
    while let (Some(path), Some(uid)) = (fields.next(), fields.next()) {
        found.insert(path.to_vec(), String::from_utf8_lossy(uid).into_owned());
    }
    found
}

fn scanned(dir: &Path, args: &[&str]) -> BTreeMap<Vec<u8>, String> {
    let outcome = scan(dir, args);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    python_pairs(&outcome.stdout).into_iter().collect()
}

#[test]
fn a_recursive_scan_equals_find() {
    let dir = tree();
    assert_eq!(scanned(dir.path(), &["-r", "."]), find(dir.path(), &["."]));
    assert_eq!(scanned(dir.path(), &["-r", "a/", "e"]), find(dir.path(), &["a/", "e"]));
    assert_eq!(scanned(dir.path(), &["-r", "a/link"]), find(dir.path(), &["-H", "a/link"]));
    for depth in ["0", "1", "2"] {
        let depth_limited = scanned(dir.path(), &["-r", "--max-depth", depth, "."]);
        assert_eq!(depth_limited, find(dir.path(), &[".", "-maxdepth", depth]));
    }
    let usr = scanned(Path::new("/"), &["-r", "/usr/share/doc"]);
    assert_eq!(usr, find(Path::new("/"), &["/usr/share/doc"]));
}

#[test]
fn excluded_directories_are_neither_listed_nor_entered() {
    let dir = tree();
    let keys = |args: &[&str]| scanned(dir.path(), args).into_keys().collect::<Vec<_>>();
    let by_name = find(dir.path(), &[".", "-name", "skip", "-prune", "-o"]);
    assert_eq!(keys(&["-r", "--exclude", "skip", "."]), by_name.into_keys().collect::<Vec<_>>());
    let by_path = find(dir.path(), &[".", "-path", "./a/skip", "-prune", "-o"]);
    let excluded = keys(&["-r", "--exclude", "./a/s*", "--exclude", "nothing", "."]);
    assert_eq!(excluded, by_path.into_keys().collect::<Vec<_>>());
    // Arguments are never excluded.
    assert_eq!(keys(&["-r", "--exclude", "skip", "skip"]), [b"skip".to_vec()]);
}

fn keys(outcome: &Outcome) -> Vec<Vec<u8>> {
    python_pairs(&outcome.stdout).into_iter().map(|(key, _)| key).collect()
}

#[test]
fn an_unreadable_directory_is_reported_and_the_rest_is_listed() {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    for path in ["open", "shut/inside", "tree/locked/inside"] {
        fs::create_dir_all(dir.path().join(path)).unwrap();
    }
    for path in ["shut", "tree/locked"] {
        fs::set_permissions(dir.path().join(path), Permissions::from_mode(0o000)).unwrap();
    }
    // This user may have no access to the build directory.
    let copy = copy_program("scan-uids", dir.path());
    let as_unprivileged = |args: &[&str]| {
        let mut scan = Command::new(&copy);
        if is_root() {
            scan.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
        }
        run(scan.current_dir(dir.path()).args(args), b"")
    };
    let outcome = as_unprivileged(&["shut/inside", "open"]);
    assert_eq!(outcome.code, Some(1));
    assert_eq!(outcome.stderr, "scan-uids: failed to stat `shut/inside`: permission denied\n");
    let uid = fs::metadata(dir.path()).unwrap().uid();
    assert_eq!(outcome.stdout, format!("{{\n  \"open\": {uid}\n}}\n"));

    let outcome = as_unprivileged(&["-r", "tree", "open"]);
    assert_eq!(outcome.code, Some(1));
    assert_eq!(outcome.stderr, "scan-uids: failed to read `tree/locked`: permission denied\n");
    let keys = keys(&outcome);
    assert_eq!(keys, [&b"tree"[..], b"tree/locked", b"open"]);

    for path in ["shut", "tree/locked"] {
        fs::set_permissions(dir.path().join(path), Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_directory_is_listed_and_reported_with_every_mode_that_forbids_to_read_it() {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let modes = [0o000, 0o111, 0o444, 0o711];
    let path = |mode: u32| dir.path().join(format!("tree/m{mode:03o}"));
    for mode in modes {
        fs::create_dir_all(path(mode).join("below")).unwrap();
        fs::set_permissions(path(mode), Permissions::from_mode(mode)).unwrap();
    }
    let mut scan = Command::new(copy_program("scan-uids", dir.path()));
    if is_root() {
        scan.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
    }
    let outcome = run(scan.current_dir(dir.path()).args(["--entries", "--sort", "tree"]), b"");
    for mode in modes {
        fs::set_permissions(path(mode), Permissions::from_mode(0o755)).unwrap();
    }
    assert_eq!(outcome.code, Some(1));
    let keys = keys(&outcome);
    let mut listed = vec!["tree", "tree/m000", "tree/m111", "tree/m444", "tree/m711"];
    let mut errors = vec![
        "scan-uids: failed to read `tree/m000`: permission denied",
        "scan-uids: failed to read `tree/m111`: permission denied",
        "scan-uids: failed to stat `tree/m444/below`: permission denied",
    ];
    if is_root() {
        errors.insert(2, "scan-uids: failed to read `tree/m711`: permission denied");
    } else {
        listed.push("tree/m711/below"); // The owner may read it.
    }
    let mut reported: Vec<_> = outcome.stderr.lines().collect();
    reported.sort_unstable();
    assert_eq!(reported, errors);
    assert!(keys.iter().map(Vec::as_slice).eq(listed.iter().map(|path| path.as_bytes())));
}

#[test]
fn a_summary_takes_the_place_of_warnings() {
    let dir = TempDir::new().unwrap();
    let outcome = scan(dir.path(), &["--summary", "summary", ".", "missing"]);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    let summary = fs::read_to_string(dir.path().join("summary")).unwrap();
    assert!(summary.contains("missing is not a directory, skipping"), "{summary}");
    assert!(summary.contains(r#""directories":1"#) && summary.contains(r#""skipped":1"#));
}

#[test]
fn an_unwritable_stderr_does_not_fail_the_scan() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command("scan-uids").args(["/nowhere", "/"]).stderr(full).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "{\n  \"/\": 0\n}\n");
}

#[test]
fn an_empty_argument_is_not_a_directory() {
    let dir = TempDir::new().unwrap();
    let outcome = scan(dir.path(), &["", "."]);
    assert_eq!(outcome.stderr, "Warning:  is not a directory, skipping\n");
    assert_eq!((outcome.code, outcome.stdout.lines().count()), (Some(0), 3));
}

#[test]
fn usage_errors_are_one_line_on_stderr_and_exit_2() {
    let dir = TempDir::new().unwrap();
    let cases: [&[&str]; 4] =
        [&[], &["--max-depth", "1", "."], &["-r", "--exclude", "a[", "."], &["--no-such", "."]];
    for args in cases {
        let outcome = scan(dir.path(), args);
        assert_eq!((outcome.code, &outcome.stdout[..]), (Some(2), ""), "{args:?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
        assert!(outcome.stderr.starts_with("scan-uids: "), "{}", outcome.stderr);
    }
}

#[test]
fn a_closed_stdout_ends_the_program_quietly_and_a_full_disk_is_an_error() {
    let mut child = command("scan-uids")
        .args(["-r", "/usr"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));

    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command("scan-uids").arg("/").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "scan-uids: failed to write the output: no space left on device\n");
}

#[test]
fn a_path_longer_than_one_system_call_takes_is_scanned() {
    let dir = TempDir::new().unwrap();
    let long = [&b"x/"[..]; 3000].concat();
    let make = "import os\nfor _ in range(3000): os.mkdir('x'); os.chdir('x')\nos.mkdir('end')";
    let made = Command::new("python3").args(["-c", make]).current_dir(dir.path()).status();
    assert!(made.unwrap().success());
    let deep = OsString::from_vec([&long[..], b"end"].concat());
    let missing = OsString::from_vec([&long[..], b"missing"].concat());
    let mut scan = command("scan-uids");
    let outcome = run(scan.current_dir(dir.path()).arg(&deep).arg(&missing), b"");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains("x/end\": "), "{outcome:?}");
    assert!(outcome.stderr.ends_with("x/missing is not a directory, skipping\n"));
    // TempDir removes by path, which does not reach this deep.
    assert!(Command::new("rm").arg("-rf").arg(dir.path()).status().unwrap().success());
}

#[test]
fn as_process_1_of_a_container_it_ends_on_sigterm() {
    assert_eq!(ended_as_first_process("scan-uids", &["--files0-from", "-"]), Some(128 + 15));
}
