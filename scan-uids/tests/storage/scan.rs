//! Runs the program within limits and parses its output.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use e2e::programs::{Outcome, command, python_pairs};

/// A scan that takes longer hangs, in seconds.
const DEADLINE: u32 = 120;
/// A scan that prints more would never end, in bytes.
const MAX_OUTPUT: u64 = 256 * 1024 * 1024;
/// How many bytes of a wrong text a failed test prints.
const EXCERPT: usize = 500;

/// The UID of each path, as JSON.
pub type Owners = BTreeMap<Vec<u8>, String>;

/// `scan-uids`, ended at a deadline, as the last part of a shell script that starts with `setup`.
pub fn limited(setup: &str) -> Command {
    let scan = command("scan-uids");
    let mut limited = Command::new("sh");
    let script = format!("{setup} timeout --kill-after=1 {DEADLINE} \"$@\"");
    limited.args(["-c", &script, "sh"]).arg(scan.get_program());
    for (variable, _) in scan.get_envs() {
        limited.env_remove(variable);
    }
    limited
}

/// Runs a scan with these arguments in `dir`.
pub fn scan(dir: &Path, args: &[&str]) -> Outcome {
    output(limited("exec").current_dir(dir).args(args))
}

/// Runs a scan that must succeed; returns the owners of all paths.
pub fn scanned(dir: &Path, args: &[&str]) -> Owners {
    let outcome = scan(dir, args);
    assert_eq!((outcome.code, excerpt(&outcome.stderr)), (Some(0), ""), "{args:?}");
    owners(&outcome.stdout)
}

/// Parses the JSON of a run.
pub fn pairs(json: &str) -> Vec<(Vec<u8>, String)> {
    if let Some(line) = malformed_line(json) {
        panic!("not JSON: {}", excerpt(line));
    }
    python_pairs(json)
}

/// Parses the JSON of a run; panics if a path is listed twice.
pub fn owners(json: &str) -> Owners {
    let pairs = pairs(json);
    let count = pairs.len();
    let owners: Owners = pairs.into_iter().collect();
    assert_eq!(owners.len(), count, "a path is listed twice");
    owners
}

/// Returns the first line that breaks the contract of the output. Python's reader would print the
/// whole output in its error.
fn malformed_line(json: &str) -> Option<&str> {
    let Some(lines) = json.strip_prefix("{\n").and_then(|rest| rest.strip_suffix("\n}\n")) else {
        return Some(json);
    };
    let count = lines.split('\n').count();
    let mut numbered = lines.split('\n').enumerate();
    let is_bad = |&(index, line): &(usize, &str)| {
        let pair = if index + 1 < count { line.strip_suffix(',') } else { Some(line) };
        let pair = pair.and_then(|pair| pair.strip_prefix("  \"")?.rsplit_once("\": "));
        !pair.is_some_and(|(key, uid)| is_string(key) && uid.parse::<u32>().is_ok())
    };
    numbered.find(is_bad).map(|(_, line)| line)
}

/// Whether the text is valid between the quotes of a JSON string.
fn is_string(key: &str) -> bool {
    let mut bytes = key.bytes();
    while let Some(byte) = bytes.next() {
        let is_good = match byte {
            b'\\' => match bytes.next() {
                Some(b'u') => (0..4).all(|_| bytes.next().is_some_and(|b| b.is_ascii_hexdigit())),
                escaped => escaped.is_some_and(|b| br#""\/bfnrt"#.contains(&b)),
            },
            _ => byte >= b' ' && byte != b'"',
        };
        if !is_good {
            return false;
        }
    }
    true
}

/// The end of a run.
pub struct Ended {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Its standard error.
    pub stderr: String,
}

/// Runs a command and calls `each` for each line of its output, which may be too large to keep.
pub fn stream(command: &mut Command, mut each: impl FnMut(&[u8])) -> Ended {
    finish(command, |stdout| {
        let mut lines = BufReader::with_capacity(1024 * 1024, stdout);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).expect("read") > 0 {
            each(line.strip_suffix(b"\n").unwrap_or(&line));
            line.clear();
        }
    })
}

/// Runs a command and keeps its output.
pub fn output(command: &mut Command) -> Outcome {
    interrupted(command, "", || {})
}

/// Runs a command, calls `change` when its output contains `mark`, and reads on. The command is
/// blocked meanwhile if it has more to print than pipes and buffers hold.
pub fn interrupted(command: &mut Command, mark: &str, change: impl FnOnce()) -> Outcome {
    let mut stdout = Vec::new();
    let ended = finish(command, |mut pipe| {
        let mut goes_on = true;
        while goes_on && !String::from_utf8_lossy(&stdout).contains(mark) {
            goes_on = pipe.by_ref().take(4096).read_to_end(&mut stdout).expect("read") > 0;
        }
        change();
        pipe.take(MAX_OUTPUT).read_to_end(&mut stdout).expect("read");
    });
    assert!((stdout.len() as u64) < MAX_OUTPUT, "the output does not end");
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    Outcome { code: ended.code, stdout, stderr: ended.stderr }
}

fn finish(command: &mut Command, read: impl FnOnce(ChildStdout)) -> Ended {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    let stdout = child.stdout.take().expect("stdout");
    let stderr = child.stderr.take().expect("stderr");
    std::thread::scope(|scope| {
        let errors = scope.spawn(|| {
            let mut errors = Vec::new();
            stderr.take(MAX_OUTPUT).read_to_end(&mut errors).expect("read");
            String::from_utf8_lossy(&errors).into_owned()
        });
        read(stdout);
        let stderr = errors.join().expect("the reader of stderr");
        Ended { code: child.wait().expect("the end").code(), stderr }
    })
}

/// Returns the start of a text that may be long.
pub fn excerpt(text: &str) -> &str {
    &text[..text.floor_char_boundary(EXCERPT)]
}
