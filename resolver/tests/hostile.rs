//! Servers that lie: whatever they send, a run ends soon, on one line, in little memory.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use e2e::programs::{Outcome, command, run};
use nix::sys::resource::{UsageWho, getrusage};

/// Most memory that a run may occupy, in KiB.
const LIMIT: i64 = 100 * 1024;

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("small");
    [&[tag, 0x84], &length.to_be_bytes()[..], content].concat()
}

fn message(id: u8, operation: u8, content: &[u8]) -> Vec<u8> {
    element(0x30, &[element(2, &[id]), element(operation, content)].concat())
}

fn success() -> Vec<u8> {
    [element(0x0a, &[0]), element(4, b""), element(4, b"")].concat()
}

/// An entry that answers the search, message 2.
fn entry(dn: &[u8], uid: &[u8], mail: &[u8]) -> Vec<u8> {
    let attribute = |name: &[u8], value: &[u8]| {
        element(0x30, &[element(4, name), element(0x31, &element(4, value))].concat())
    };
    let attributes = [attribute(b"uidNumber", uid), attribute(b"mail", mail)].concat();
    message(2, 0x64, &[element(4, dn), element(0x30, &attributes)].concat())
}

/// Reads one request.
fn read_request(stream: &mut TcpStream) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("a request");
    let count = usize::from(head[1].saturating_sub(0x80));
    let mut digits = vec![0; count];
    stream.read_exact(&mut digits).expect("its length");
    let long = digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit));
    let mut rest = vec![0; if count == 0 { head[1].into() } else { long }];
    stream.read_exact(&mut rest).expect("all of it");
}

/// A run against a server that accepts the bind and lets `answer` do the rest.
fn asked(answer: impl FnOnce(&mut TcpStream) + Send + 'static) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ldap://{}", listener.local_addr().expect("its number"));
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        drop(listener);
        read_request(&mut stream);
        stream.write_all(&message(1, 0x61, &success())).expect("accepted");
        read_request(&mut stream);
        answer(&mut stream);
    });
    let mut resolver = command("resolver");
    resolver.args(["--url", &url, "--base-dn", "dc=example,dc=com", "--timeout", "3"]);
    let outcome = run(&mut resolver, br#"{"a": 30001}"#);
    server.join().expect("the server");
    outcome
}

/// A run that fails as it should; what it says.
fn refused(answer: impl FnOnce(&mut TcpStream) + Send + 'static) -> String {
    let outcome = asked(answer);
    assert_eq!((outcome.code, &outcome.stdout[..]), (Some(1), ""), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage").max_rss();
    assert!(peak < LIMIT, "peak RSS is {peak} KiB");
    outcome.stderr
}

/// As [`refused`], with an answer of these bytes.
fn refused_bytes(bytes: Vec<u8>) -> String {
    // The client may close the connection before it has taken everything.
    refused(move |stream| drop(stream.write_all(&bytes)))
}

#[test]
fn what_is_not_ldap_is_refused() {
    // Of indefinite length, and as deep as a message of the greatest length can be.
    let endless = b"\x30\x80".repeat(200_000);
    let mut heads: Vec<[u8; 5]> = Vec::new();
    for depth in 0..200_000u32 {
        let [_, a, b, c] = (depth * 5).to_be_bytes();
        heads.push([0x30, 0x83, a, b, c]);
    }
    heads.reverse();
    let deep = message(2, 0x64, &heads.concat());
    let truncated = b"\x30\x0c\x02\x01\x02\x65\x07\x0a\x01\x00\x04\x7f\x04\x00".to_vec();
    for bytes in [
        deep,
        endless,
        b"\x30\x00".to_vec(),
        truncated,
        entry(b"uid=\xff", b"30001", b"a@x"),
        message(2, 0x64, b""),
    ] {
        let message = refused_bytes(bytes);
        assert!(message.ends_with("the server sent what is not LDAP\n"), "{message}");
    }
}

#[test]
fn sizes_are_bounded() {
    let message = refused_bytes(b"\x30\x84\xff\xff\xff\xff\x02\x01\x02".to_vec());
    assert!(message.contains("sent a message of 4294967301 bytes"), "{message}");
    let message = refused(|stream| {
        let head = b"\x30\x84\x0b\xeb\xc2\x00\x02\x01\x02";
        let sent = stream
            .write_all(head)
            .and_then(|()| (0..200).try_for_each(|_| stream.write_all(&vec![b'a'; 1024 * 1024])));
        assert!(sent.is_err(), "200 MB of mail were taken");
    });
    assert!(message.contains("sent a message of 200000006 bytes"), "{message}");
    let message = refused(|stream| {
        let entries = entry(b"uid=a", b"30001", b"a@x").repeat(1000);
        while stream.write_all(&entries).is_ok() {}
    });
    assert!(message.contains("sent more than 100000 entries for one question"), "{message}");
}

#[test]
fn a_server_that_stops_in_the_middle_is_not_waited_for() {
    let message = refused(|stream| {
        let bytes = entry(b"uid=a", b"30001", b"a@x");
        stream.write_all(&bytes[..bytes.len() / 2]).expect("sent");
        // Until the client gives up.
        let _ = stream.read(&mut [0; 64]);
    });
    assert!(message.contains("no answer in time"), "{message}");
    let message = refused_bytes(message_of_another_question());
    assert!(message.ends_with("the server answered what was not asked\n"), "{message}");
}

fn message_of_another_question() -> Vec<u8> {
    message(7, 0x65, &success())
}

#[test]
fn an_answer_about_somebody_else_is_passed_over() {
    let outcome = asked(|stream| {
        let stray = entry(b"uid=mallory", b"30002", b"mallory@x");
        let right = entry(b"uid=alice", b"30001", b"alice@x");
        stream.write_all(&[stray, right, message(2, 0x65, &success())].concat()).expect("sent");
        let _ = stream.read(&mut [0; 64]);
    });
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert_eq!(outcome.stdout, "{\n  \"a\": {\"30001\": \"alice@x\"}\n}\n");
}
