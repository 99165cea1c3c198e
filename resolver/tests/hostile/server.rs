//! A server that sends the bytes of a test, and a run of the program against it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use e2e::certificates::Authority;
use e2e::programs::{Outcome, command, run};
use nix::sys::resource::{UsageWho, getrusage};

/// Most memory of a run, in KiB.
const MEMORY: i64 = 100 * 1024;
/// Longest time of a run: far above all timeouts, so that a loaded machine does not fail the test.
const TIME: Duration = Duration::from_secs(180);

/// The request at which the server starts to misbehave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// StartTLS, message 1.
    StartTls,
    /// The bind, message 1.
    Bind,
    /// The search for an owner, message 2.
    Search,
    /// The search for the first page of all owners, message 2.
    Enumerate,
}

impl Phase {
    pub const ALL: [Self; 4] = [Self::StartTls, Self::Bind, Self::Search, Self::Enumerate];

    /// The ID of the request, and the operation of its answer.
    pub fn request(self) -> (u8, u8) {
        match self {
            Self::StartTls => (1, 0x78),
            Self::Bind => (1, 0x61),
            Self::Search | Self::Enumerate => (2, 0x65),
        }
    }
}

pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("small");
    [&[tag, 0x84], &length.to_be_bytes()[..], content].concat()
}

pub fn message(id: u8, operation: u8, content: &[u8]) -> Vec<u8> {
    message_with(&[id], operation, content, b"")
}

/// A message with these bytes as its ID, and with `more` behind the operation.
pub fn message_with(id: &[u8], operation: u8, content: &[u8], more: &[u8]) -> Vec<u8> {
    element(0x30, &[&element(2, id), &element(operation, content), more].concat())
}

/// A result with this code and these texts.
pub fn result(code: u8, matched: &[u8], text: &[u8]) -> Vec<u8> {
    [element(0x0a, &[code]), element(4, matched), element(4, text)].concat()
}

pub fn success() -> Vec<u8> {
    result(0, b"", b"")
}

/// An entry that answers message 2.
pub fn entry(dn: &[u8], uid: &[u8], mail: &[u8]) -> Vec<u8> {
    entry_of(&[2], dn, &[(b"uidNumber", uid), (b"mail", mail)])
}

pub fn entry_of(id: &[u8], dn: &[u8], attributes: &[(&[u8], &[u8])]) -> Vec<u8> {
    let attribute = |&(name, value): &(&[u8], &[u8])| {
        element(0x30, &[element(4, name), element(0x31, &element(4, value))].concat())
    };
    let attributes: Vec<_> = attributes.iter().flat_map(attribute).collect();
    message_with(id, 0x64, &[element(4, dn), element(0x30, &attributes)].concat(), b"")
}

/// The end of a search with a paging control of this value, if any.
pub fn end_of_page(id: &[u8], value: Option<&[u8]>) -> Vec<u8> {
    let value = value.map(|value| element(4, value)).unwrap_or_default();
    let control = [element(4, b"1.2.840.113556.1.4.319"), value].concat();
    message_with(id, 0x65, &success(), &element(0xa0, &element(0x30, &control)))
}

/// Reads one request and returns the bytes of its ID; `None` at the end.
pub fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let mut digits = vec![0; usize::from(head[1].saturating_sub(0x80))];
    stream.read_exact(&mut digits).ok()?;
    let long = digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit));
    let mut rest = vec![0; if digits.is_empty() { head[1].into() } else { long }];
    stream.read_exact(&mut rest).ok()?;
    Some(rest[2..2 + usize::from(rest[1])].to_vec())
}

/// Runs the program against a server that behaves well until `phase`; after the request of that phase,
/// `answer` takes over. Asserts that the run ends in time and in little memory.
pub fn resolve(phase: Phase, answer: impl FnOnce(&mut TcpStream) + Send + 'static) -> Outcome {
    resolve_with_timeout("2", phase, answer)
}

fn resolve_with_timeout(
    seconds: &str,
    phase: Phase,
    answer: impl FnOnce(&mut TcpStream) + Send + 'static,
) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ldap://{}", listener.local_addr().expect("its number"));
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        drop(listener);
        read_request(&mut stream).expect("a request");
        if let Phase::Search | Phase::Enumerate = phase {
            stream.write_all(&message(1, 0x61, &success())).expect("accepted");
            read_request(&mut stream).expect("another");
        }
        answer(&mut stream);
    });
    let dir = tempfile::tempdir().expect("a directory");
    let mut resolver = command("resolver");
    resolver.args(["--url", &url, "--base-dn", "dc=example,dc=com", "--timeout", seconds]);
    match phase {
        Phase::StartTls => {
            Authority::new(dir.path(), "ca");
            resolver.arg("--starttls").arg("--ca-file").arg(dir.path().join("ca.pem"));
        }
        Phase::Enumerate => drop(resolver.arg("--enumerate")),
        Phase::Bind | Phase::Search => {}
    }
    let start = Instant::now();
    let outcome = run(&mut resolver, br#"{"a": 30001}"#);
    let took = start.elapsed();
    server.join().expect("the server");
    assert!(took < TIME, "{phase:?} took {took:?}: {}", outcome.stderr);
    // The peak of all runs so far, including this one.
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage").max_rss();
    assert!(peak < MEMORY, "{phase:?}: peak RSS is {peak} KiB: {}", outcome.stderr);
    outcome
}

/// As [`resolve`]. Asserts that the run fails with one line on stderr and nothing on stdout. Returns the
/// line.
pub fn refused(phase: Phase, answer: impl FnOnce(&mut TcpStream) + Send + 'static) -> String {
    check_refused(phase, resolve(phase, answer))
}

/// As [`refused`], for an answer that must reach a limit on its size before the one on its time, on a
/// loaded machine too.
pub fn refused_for_size(
    phase: Phase,
    answer: impl FnOnce(&mut TcpStream) + Send + 'static,
) -> String {
    check_refused(phase, resolve_with_timeout("15", phase, answer))
}

fn check_refused(phase: Phase, outcome: Outcome) -> String {
    let Outcome { code, stdout, stderr } = outcome;
    assert_eq!(stdout, "", "{phase:?}: {stderr}");
    assert!(matches!(code, Some(1 | 2)), "{phase:?}: {code:?}: {stderr}");
    let is_line = stderr.ends_with('\n') && stderr.lines().count() == 1 && stderr.len() < 1000;
    assert!(is_line && stderr.starts_with("resolver: "), "{phase:?}: {stderr:.2000}");
    stderr
}

/// As [`refused`], with an answer of these bytes.
pub fn refused_bytes(phase: Phase, bytes: Vec<u8>) -> String {
    // The client may close the connection before it has taken everything.
    refused(phase, move |stream| drop(stream.write_all(&bytes)))
}
