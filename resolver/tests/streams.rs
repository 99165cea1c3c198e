//! stdin and stdout: bad input, open and closed pipes, a full disk, signals.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use e2e::USERS_LDIF;
use e2e::programs::{command, ended_as_first_process, program, run};

#[test]
fn bad_input_is_reported_with_its_byte_and_leaves_the_result_open() {
    for (input, offset) in [
        (r#"{"a": 30001, "b": -1}"#, 18),
        (r#"{"a": 30001, "b": 1.5}"#, 18),
        (r#"{"a": 30001, "b": 1e3}"#, 18),
        (r#"{"a": 30001, "b": "1"}"#, 18),
        (r#"{"a": 30001, "b": 4294967296}"#, 18),
        (r#"{"a": 30001, "b": 1"#, 19),
        (r#"{"a": 30001} x"#, 13),
        ("", 0),
    ] {
        let outcome = run(command("resolver").args(["--ldif", USERS_LDIF]), input.as_bytes());
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(!outcome.stdout.ends_with("}\n"), "{outcome:?}");
        let expected = format!("resolver: bad input at byte {offset}: ");
        assert!(outcome.stderr.starts_with(&expected), "{input}: {}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1);
    }
}

#[test]
fn the_summary_of_a_failed_run_has_its_counts_and_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("summary");
    let mut resolver = command("resolver");
    resolver.args(["--ldif", USERS_LDIF, "--summary"]).arg(&file);
    let outcome = run(&mut resolver, br#"{"a": 30001, "b": 7, "c": -1}"#);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let summary = fs::read_to_string(file).expect("a summary");
    let counts = r#""counts":{"owners":2,"paths":2,"referrals":0,"unresolved":1}"#;
    assert!(summary.contains(counts), "{summary}");
    assert!(summary.contains(r#""error":"bad input at byte 26: "#), "{summary}");
}

#[test]
fn keys_are_copied_unchanged() {
    let key = r#""\u002fa\/b\t\" \udcff\ud83e\udd80 🦀""#;
    let input = format!("{{{key}:30001}}");
    let outcome = run(command("resolver").args(["--ldif", USERS_LDIF]), input.as_bytes());
    let expected = format!("{{\n  {key}: {{\"30001\": \"alice.johnson@example.com\"}}\n}}\n");
    assert_eq!((outcome.stdout, &outcome.stderr[..]), (expected, ""));
}

#[test]
fn an_answer_is_written_while_the_input_is_still_open() {
    let mut child = command("resolver")
        .args(["--ldif", USERS_LDIF])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut stdin = child.stdin.take().expect("stdin");
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout"));
    stdin.write_all(b"{\"a\": 30001,\n").expect("written");
    let mut line = String::new();
    stdout.read_line(&mut line).expect("the first line");
    assert_eq!(line, "{\n");
    stdin.write_all(b"\"b\": 7}").expect("written");
    drop(stdin);
    let rest: Vec<_> = stdout.lines().map(|line| line.expect("a line")).collect();
    assert_eq!(rest[0], r#"  "a": {"30001": "alice.johnson@example.com"},"#);
    assert_eq!(child.wait().expect("the end").code(), Some(0));
}

#[test]
fn only_the_last_program_of_a_pipe_shows_progress_and_only_if_stdout_is_a_file() {
    let dir = tempfile::tempdir().expect("a directory");
    (0..30).for_each(|n| fs::create_dir(dir.path().join(n.to_string())).expect("made"));
    let scan = format!("{} -r --max-rate=20 .", program("scan-uids").display());
    let resolver = format!("{} --ldif {USERS_LDIF}", program("resolver").display());
    for (stdout, is_shown) in [(" > /dev/null", true), (" | cat", false), ("", false)] {
        // `script` runs it on a terminal, and copies the terminal's output to its stdout.
        let mut script = Command::new("script");
        script.args(["-qec", &format!("{scan} | {resolver}{stdout}"), "/dev/null"]);
        let outcome = run(script.current_dir(dir.path()).env("TERM", "xterm"), b"");
        assert_eq!(outcome.code, Some(0), "{}", outcome.stdout);
        assert_eq!(outcome.stdout.contains(" unresolved, "), is_shown, "{:?}", outcome.stdout);
        assert!(!outcome.stdout.contains(" listed in "), "{:?}", outcome.stdout);
        assert_eq!(outcome.stdout.ends_with("\r\x1b[K"), is_shown, "{:?}", outcome.stdout);
    }
}

#[test]
fn a_closed_pipe_is_no_error_but_a_full_disk_is() {
    let pairs: Vec<_> = (0..100_000).map(|n| format!("\"{n}\": 30001")).collect();
    let input = format!("{{{}}}", pairs.join(","));
    let mut resolver = command("resolver");
    resolver.args(["--ldif", USERS_LDIF]);
    let mut child = resolver
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    drop(child.stdout.take());
    // The program may end before it has read all of this.
    let _ = child.stdin.take().expect("stdin").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("the end");
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));

    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    let mut resolver = command("resolver");
    let mut child = resolver
        .args(["--ldif", USERS_LDIF])
        .stdin(Stdio::piped())
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let _ = child.stdin.take().expect("stdin").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("the end");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr, "resolver: failed to write the output: no space left on device\n");
}

#[test]
fn as_the_first_process_of_a_container_it_ends_on_sigterm() {
    let code = ended_as_first_process("resolver", &["--ldif", e2e::USERS_LDIF]);
    assert_eq!(code, Some(128 + 15));
}
