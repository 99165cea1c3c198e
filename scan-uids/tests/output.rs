//! The output of the program: formats, order, lists of directories, the rate limit, metrics,
//! progress, help.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::programs::{command, program, python_pairs, run};
use tempfile::TempDir;

/// Paths below `tree` with all bytes that a format must escape.
const NAMES: [&[u8]; 12] = [
    b"plain",
    b"tab\there",
    b"new\nline",
    b"return\rhere",
    b"back\\slash",
    b"comma,here",
    b"comma,here/below",
    b"\"quotes\"",
    b"\"\r\n,\"\xff\r",
    b"\xff\xfe",
    b"a",
    b"a/b",
];

fn tree() -> TempDir {
    let dir = TempDir::new().expect("a temporary directory");
    for name in NAMES {
        fs::create_dir_all(dir.path().join("tree").join(OsStr::from_bytes(name)))
            .expect("create a directory");
    }
    dir
}

/// Returns what a successful scan prints, byte for byte.
fn printed(dir: &Path, args: &[&str]) -> Vec<u8> {
    let output = command("scan-uids").current_dir(dir).args(args).output().expect("run");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    output.stdout
}

/// Python's reader of CSV. Its writer must give the same bytes, so nothing is quoted without need.
const CSV_READER: &str = "import csv, io\n\
    text = data.decode('utf-8', 'surrogateescape')\n\
    header, *rows = csv.reader(io.StringIO(text, newline=''), strict=True)\n\
    assert header == ['path', 'uid'], header\n\
    again = io.StringIO(newline='')\n\
    csv.writer(again).writerows([header, *rows])\n\
    assert again.getvalue() == text\n\
    for path, uid in rows: emit(os.fsencode(path), uid)";

fn owners(pairs: impl IntoIterator<Item = (Vec<u8>, String)>) -> BTreeMap<Vec<u8>, String> {
    pairs.into_iter().collect()
}

/// Reads an output by a Python script, which calls `emit` for each record.
fn by_python(script: &str, output: &[u8]) -> BTreeMap<Vec<u8>, String> {
    let head = "import base64, json, os, sys\n\
                def emit(path, uid): sys.stdout.buffer.write(path + b'\\0%d\\0' % int(uid))\n\
                data = sys.stdin.buffer.read()\n";
    let mut python = Command::new("python3");
    python.args(["-c", &format!("{head}{script}")]).stdin(Stdio::piped());
    let read = {
        let mut child = python.stdout(Stdio::piped()).spawn().expect("python");
        let mut stdin = child.stdin.take().expect("stdin");
        stdin.write_all(output).expect("write to python");
        drop(stdin);
        child.wait_with_output().expect("python's end")
    };
    assert!(read.status.success());
    let fields: Vec<_> = read.stdout.split(|&b| b == 0).map(<[u8]>::to_vec).collect();
    owners(
        fields
            .chunks_exact(2)
            .map(|pair| (pair[0].clone(), String::from_utf8(pair[1].clone()).expect("ASCII"))),
    )
}

#[test]
fn every_format_has_the_same_paths_and_owners() {
    let dir = tree();
    let json = printed(dir.path(), &["-r", "tree"]);
    let expected = owners(python_pairs(std::str::from_utf8(&json).unwrap()));
    assert_eq!(expected.len(), NAMES.len() + 1);
    let readers = [
        (
            "--format=ndjson",
            "for line in data.splitlines():\n\
             \x20 o = json.loads(line); path = os.fsencode(o['path'])\n\
             \x20 assert path == base64.b64decode(o.get('path_b64', base64.b64encode(path)))\n\
             \x20 assert ('path_b64' in o) == (b'\\xff' in path)\n\
             \x20 emit(path, o['uid'])",
        ),
        (
            "--format=tsv",
            "for line in data.split(b'\\n')[:-1]:\n\
             \x20 path, uid = line.split(b'\\t')\n\
             \x20 for a, b in zip((b'\\\\t', b'\\\\n', b'\\\\r', b'\\\\\\\\'), b'\\t\\n\\r\\\\'):\n\
             \x20   path = path.replace(a, bytes([b]))\n\
             \x20 emit(path, uid)",
        ),
        ("--format=csv", CSV_READER),
        ("--print0", "for record in data.split(b'\\0')[:-1]: emit(*record.rsplit(b'\\t', 1))"),
    ];
    for (option, script) in readers {
        for sort in [&[][..], &["--sort"]] {
            let args = [&["-r", option, "tree"], sort].concat();
            assert_eq!(by_python(script, &printed(dir.path(), &args)), expected, "{args:?}");
        }
    }
}

#[test]
fn csv_of_entries_comes_back_whole_and_in_order() {
    let dir = tree();
    for name in [&b"=1+1"[..], b" ", b"'", b"\n", b"\"", b"\r", b"tree\xff,", b"a/,\xc3"] {
        fs::write(dir.path().join("tree").join(OsStr::from_bytes(name)), "").unwrap();
    }
    let json = printed(dir.path(), &["--entries", "--sort", "tree"]);
    let expected = owners(python_pairs(std::str::from_utf8(&json).unwrap()));
    assert_eq!(expected.len(), NAMES.len() + 1 + 8);
    let args = ["--entries", "--format=csv", "--summary=summary", "tree"];
    assert_eq!(by_python(CSV_READER, &printed(dir.path(), &args)), expected);
    let summary = fs::read_to_string(dir.path().join("summary")).unwrap();
    assert!(summary.contains(&format!("\"entries\":{}", expected.len())), "{summary}");
    let sorted = printed(dir.path(), &["--entries", "--sort", "--format=csv", "tree"]);
    let in_order = "\nassert rows == sorted(rows, key=lambda row: os.fsencode(row[0]))";
    by_python(&format!("{CSV_READER}{in_order}"), &sorted);
    assert_eq!(by_python(CSV_READER, &sorted), expected);
}

#[test]
fn csv_without_a_record_is_the_header_alone() {
    let dir = tree();
    for sort in [&[][..], &["--sort"]] {
        let mut scan = command("scan-uids");
        scan.current_dir(dir.path()).args(["--format=csv", "--files0-from=-"]).args(sort);
        let outcome = run(&mut scan, b"");
        assert_eq!((outcome.code, &outcome.stdout[..]), (Some(0), "path,uid\r\n"));
        let outcome = run(&mut scan, b"missing\0");
        assert_eq!((outcome.code, &outcome.stdout[..]), (Some(0), "path,uid\r\n"));
        assert_eq!(outcome.stderr, "Warning: missing is not a directory, skipping\n");
    }
    let mut scan = command("scan-uids");
    let outcome = run(scan.args(["--format=csv", "--files0-from=/nowhere"]), b"");
    assert_eq!((outcome.code, &outcome.stdout[..]), (Some(2), ""));
}

#[test]
fn sorted_output_does_not_depend_on_the_number_of_threads() {
    let dir = tree();
    for n in 0..500 {
        fs::create_dir_all(dir.path().join(format!("tree/x{}/y{n}", n % 7))).unwrap();
    }
    let one = printed(dir.path(), &["--entries", "--sort", "--threads=1", "tree", "."]);
    let eight = printed(dir.path(), &["--entries", "--sort", "tree", "."]);
    assert!(one == eight, "output depends on the number of threads");
    let pairs = python_pairs(std::str::from_utf8(&one).unwrap());
    assert!(pairs.len() > 1000 && pairs.is_sorted(), "{} pairs", pairs.len());
}

#[test]
fn directories_are_read_from_a_list() {
    let dir = tree();
    let list = b"tree/new\nline\0tree/\xff\xfe\0missing\0tree/a";
    fs::write(dir.path().join("list"), list).unwrap();
    let expected: [&[u8]; 3] = [b"tree/new\nline", b"tree/\xff\xfe", b"tree/a"];
    for source in ["list", "-"] {
        let mut scan = command("scan-uids");
        scan.current_dir(dir.path()).arg(format!("--files0-from={source}"));
        let outcome = run(&mut scan, if source == "-" { &list[..] } else { b"" });
        assert_eq!(outcome.code, Some(0));
        assert_eq!(outcome.stderr, "Warning: missing is not a directory, skipping\n");
        let keys: Vec<_> = python_pairs(&outcome.stdout).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, expected);
    }
    let failing = [
        ("nowhere", 2, "scan-uids: failed to open `nowhere`: no such file or directory\n"),
        ("tree", 2, "scan-uids: `tree` is a directory, not a list of directories\n"),
    ];
    for (source, code, message) in failing {
        let mut scan = command("scan-uids");
        let outcome = run(scan.current_dir(dir.path()).args(["--files0-from", source]), b"");
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(code), message));
    }
}

#[test]
fn snapshot_directories_are_left_out_unless_asked_for() {
    let dir = TempDir::new().unwrap();
    for name in [".snapshot/hourly", ".zfs/snapshot", "sub/.snapshot/x", ".snapshots"] {
        fs::create_dir_all(dir.path().join("tree").join(name)).unwrap();
    }
    fs::write(dir.path().join("tree/sub/.zfs"), "no directory").unwrap();
    let keys = |args: &[&str]| {
        let json = String::from_utf8(printed(dir.path(), args)).unwrap();
        let pairs = python_pairs(&json).into_iter();
        pairs.map(|(key, _)| String::from_utf8(key).unwrap()).collect::<Vec<_>>()
    };
    let all = ["tree", "tree/.snapshots", "tree/sub", "tree/sub/.zfs"];
    assert_eq!(keys(&["--entries", "--sort", "tree"]), all);
    assert_eq!(keys(&["-r", "--snapshots", "tree"]).len(), 9);
    assert_eq!(
        keys(&["-r", "--sort", "tree/.snapshot"]),
        ["tree/.snapshot", "tree/.snapshot/hourly"]
    );
}

#[test]
fn names_from_stdin_are_scanned_before_the_list_ends() {
    let dir = tree();
    // Without the timeout, a name that is held back would block the test for ever.
    let mut scan = Command::new("timeout");
    scan.arg("30").arg(program("scan-uids")).args(["--files0-from=-", "--format=tsv"]);
    scan.current_dir(dir.path());
    let mut child = scan.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut names = child.stdin.take().unwrap();
    let mut records = BufReader::new(child.stdout.take().unwrap()).lines();
    // The first record is written at once in any case.
    for name in ["tree/plain", "tree/a", "tree/a/b"] {
        names.write_all(&[name.as_bytes(), b"\0"].concat()).unwrap();
        let record = records.next().unwrap().unwrap();
        assert!(record.starts_with(&format!("{name}\t")), "{record}");
    }
    drop(names);
    assert!(records.next().is_none() && child.wait().unwrap().success());
}

#[test]
fn the_rate_limit_is_not_exceeded() {
    let dir = TempDir::new().unwrap();
    for n in 0..30 {
        fs::create_dir_all(dir.path().join(format!("tree/d{n}/e"))).unwrap();
    }
    let start = Instant::now();
    let json = printed(dir.path(), &["-r", "--max-rate=60", "tree"]);
    // The first of 61 entries does not wait.
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(python_pairs(std::str::from_utf8(&json).unwrap()).len(), 61);
}

/// The number of records in each piece of output, as the reader of a pipe gets them.
fn records_by_write(scan: &mut Command) -> Vec<usize> {
    let mut child = scan.stdout(Stdio::piped()).spawn().expect("start the scan");
    let mut stdout = child.stdout.take().expect("stdout");
    let (mut buffer, mut records) = ([0; 4096], Vec::new());
    while let count @ 1.. = stdout.read(&mut buffer).expect("read") {
        records.push(buffer[..count].iter().filter(|&&byte| byte == b'\n').count());
    }
    assert!(child.wait().expect("the end of the scan").success());
    records
}

#[test]
fn nothing_is_held_back_while_the_rate_limit_makes_a_scan_wait() {
    let dir = TempDir::new().unwrap();
    for name in ["tree/a", "tree/b", "tree/c", "tree/d"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    for args in [&["-r", "tree"][..], &["tree", "tree/a", "tree/b", "tree/c", "tree/d"]] {
        let mut scan = command("scan-uids");
        scan.current_dir(dir.path()).args(["--max-rate=1", "--format=tsv"]).args(args);
        let records = records_by_write(&mut scan);
        assert_eq!(records.iter().sum::<usize>(), 5, "{records:?}");
        // The first is written at once. A record that waits for the next comes together with it.
        // On a busy machine a reader may miss the second between two writes, but not each time.
        assert!(records[1..].contains(&1), "{args:?}: {records:?}");
    }
}

#[test]
fn metrics_and_summary_count_directories_by_result() {
    let dir = tree();
    let args = ["-r", "--metrics-file", "x.prom", "--summary", "summary", "tree", "missing"];
    printed(dir.path(), &args);
    let metrics = fs::read_to_string(dir.path().join("x.prom")).unwrap();
    let listed = NAMES.len() + 1;
    for sample in [
        &format!("scan_uids_directories_scanned_total{{result=\"listed\"}} {listed}\n")[..],
        "scan_uids_directories_scanned_total{result=\"skipped\"} 1\n",
        "scan_uids_directories_scanned_total{result=\"unreadable\"} 0\n",
        "scan_uids_directories_scanned_total{result=\"vanished\"} 0\n",
        "scan_uids_last_run_duration_seconds 0.",
        "scan_uids_last_success_timestamp_seconds 1",
    ] {
        assert!(metrics.contains(sample), "{sample}: {metrics}");
    }
    let summary = fs::read_to_string(dir.path().join("summary")).unwrap();
    let counts = r#""skipped":1,"unreadable":0,"vanished":0}"#;
    let counts = format!("\"counts\":{{\"directories\":{listed},{counts}");
    assert!(summary.contains(&counts), "{summary}");

    let outcome = run(command("scan-uids").args(["--metrics-file", "/nowhere/x", "/"]), b"");
    let message =
        "scan-uids: failed to write the metrics to `/nowhere/x`: no such file or directory\n";
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(1), message));
}

#[test]
fn progress_is_shown_on_a_terminal_only_if_stdout_is_a_file() {
    let dir = tree();
    for (stdout, is_shown) in [(" > out", true), ("", false)] {
        let scan = format!("{} -r --max-rate=20 tree{stdout}", program("scan-uids").display());
        // script(1) runs it on a new terminal and prints what it writes there.
        let mut script = Command::new("script");
        script.args(["-qec", &scan, "/dev/null"]).current_dir(dir.path()).env("TERM", "xterm");
        let outcome = run(&mut script, b"");
        assert_eq!(outcome.code, Some(0), "{}", outcome.stdout);
        assert_eq!(outcome.stdout.contains(" listed in "), is_shown, "{:?}", outcome.stdout);
        if is_shown {
            assert!(outcome.stdout.ends_with("\r\x1b[K"), "{:?}", outcome.stdout);
        }
    }
}

#[test]
fn short_help_fits_on_one_screen_and_long_help_has_every_option() {
    let help = |flag| run(command("scan-uids").arg(flag).env("COLUMNS", "80"), b"").stdout;
    let short = help("-h");
    assert!(short.lines().count() <= 24, "{short}");
    assert!(short.lines().all(|line| line.chars().count() <= 80), "{short}");
    for part in ["Usage: ", "Example: scan-uids ", "--recursive", "--format", "--help"] {
        assert!(short.contains(part), "{part}: {short}");
    }
    let long = help("--help");
    let groups = ["Options:", "What to scan:", "Output:", "Scan speed:", "Examples:"];
    for part in groups.iter().chain(&["[env: SCAN_UIDS_TRUST_NLINK=]", "[default: 8]"]) {
        assert!(long.contains(part), "{part}: {long}");
    }
    let options = |help: &str| {
        let words = help.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        words.filter(|word| word.starts_with("--")).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert!(options(&short).is_subset(&options(&long)));
    assert_eq!(options(&long).len(), 18, "{:?}", options(&long));
}
