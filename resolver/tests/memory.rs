//! Memory does not grow with the input. This is a separate test program, because it measures the peak of
//! all children that its process has waited for.

use std::io::{BufWriter, Read, Write};
use std::process::Stdio;

use e2e::programs::command;
use e2e::slapd::{BASE_DN, Setup, Slapd};
use nix::sys::resource::{UsageWho, getrusage};

const PAIRS: usize = 1_000_000;
/// Most memory of the run, in KiB.
const LIMIT: i64 = 30 * 1024;

#[test]
fn a_million_pairs_of_five_owners_take_few_searches_and_little_memory() {
    let slapd = Slapd::start(&Setup::default());
    // A child that set the server up may have been larger.
    let before = peak();
    let mut child = command("resolver")
        .args(["--url", &slapd.url(), "--base-dn", BASE_DN])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut input = BufWriter::new(child.stdin.take().expect("stdin"));
    let mut output = child.stdout.take().expect("stdout");
    let written = std::thread::spawn(move || {
        input.write_all(b"{\n").expect("written");
        for n in 0..PAIRS {
            let end = if n + 1 < PAIRS { "," } else { "\n}" };
            let uid = 30001 + n % 5;
            writeln!(input, "  \"/mnt/data/projects/some-directory-{n}\": {uid}{end}")
                .expect("written");
        }
    });
    let mut lines = 0;
    let mut chunk = [0; 65536];
    loop {
        let count = output.read(&mut chunk).expect("read");
        if count == 0 {
            break;
        }
        lines += chunk[..count].iter().filter(|&&b| b == b'\n').count();
    }
    written.join().expect("all written");
    assert!(child.wait().expect("the end").success());
    assert_eq!(lines, PAIRS + 2);
    assert!(slapd.searches() <= 5, "{} searches", slapd.searches());
    assert!(before < LIMIT, "the set-up hides the measurement: {before} KiB");
    assert!(peak() < LIMIT, "peak RSS is {} KiB", peak());
}

fn peak() -> i64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage").max_rss()
}
