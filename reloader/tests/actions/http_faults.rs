//! HTTP requests to servers that hang, trickle, send garbage, or are not there.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use reloader::testing::Action;
use reloader::testing::Stop;

use crate::http::call;
use crate::server::{Request, Server, answer, hang};
use crate::{content, failure, stopped};

/// A timeout for answers that never come.
const SHORT: Duration = Duration::from_millis(300);

type BadAnswer = fn(&Request, &mut dyn Write) -> io::Result<()>;

fn time_out(server: &Server) -> (String, bool) {
    let begun = Instant::now();
    let call = call("POST", &server.url("/")).timeout(SHORT);
    let outcome = failure(call.run(&content(), &Stop::default()));
    assert!(begun.elapsed() < Duration::from_secs(20));
    outcome
}

fn trickle(stream: &mut dyn Write) -> io::Result<()> {
    for _ in 0..1000 {
        thread::sleep(Duration::from_millis(20));
        stream.write_all(b"x")?;
        stream.flush()?;
    }
    Ok(())
}

#[test]
fn the_timeout_covers_headers_and_body() {
    let (message, is_without_effect) = time_out(&Server::start(|_, _| hang()));
    assert!(message.ends_with("no whole answer within 300ms"), "{message}");
    assert!(!is_without_effect);

    let head = Server::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nX: ")?;
        trickle(stream)
    });
    assert!(time_out(&head).0.ends_with("no whole answer within 300ms"));

    let body = Server::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        trickle(stream)
    });
    let (message, is_without_effect) = time_out(&body);
    assert!(message.contains("answered 200, but not to the end: "), "{message}");
    assert!(!is_without_effect);
}

#[test]
fn a_handshake_that_never_ends_is_without_effect() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    e2e::certificates::Authority::new(directory.path(), "ca");
    let url = format!("https://{}/", silent.local_addr().unwrap());
    let call = call("POST", &url).ca(directory.path().join("ca.pem")).timeout(SHORT);
    let (message, is_without_effect) = failure(call.run(&content(), &Stop::default()));
    assert!(message.ends_with("no whole answer within 300ms"), "{message}");
    assert!(is_without_effect);
}

#[test]
fn a_server_that_is_not_there_is_without_effect() {
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let call = call("POST", &format!("http://{gone}/"));
    let (message, is_without_effect) = failure(call.run(&content(), &Stop::default()));
    assert!(message.ends_with("connection refused"), "{message}");
    assert!(is_without_effect);
}

#[test]
fn a_stop_ends_the_wait_for_an_answer() {
    let server = Server::start(|_, _| hang());
    let call = call("POST", &server.url("/")).timeout(Duration::from_secs(600));
    let outcome = stopped(|| !server.received().is_empty(), |stop| call.run(&content(), stop));
    let (message, is_without_effect) = failure(outcome);
    assert!(message.contains("stopped while waiting"), "{message}");
    assert!(!is_without_effect);
}

#[test]
fn a_bad_answer_is_a_failure_in_doubt_and_not_retried() {
    let answers: [BadAnswer; 5] = [
        |_, stream| {
            stream.write_all(b"\x00\xff\r\n\x1b[2J\r\n\r\n")?;
            Err(io::ErrorKind::Other.into())
        },
        |_, _| Err(io::ErrorKind::Other.into()),
        |_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")?;
            Err(io::ErrorKind::Other.into())
        },
        |_, stream| answer(stream, 200, &format!("X: {}\r\n", "x".repeat(100_000)), ""),
        |_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")?;
            Err(io::ErrorKind::Other.into())
        },
    ];
    for bad in answers {
        let server = Server::start(bad);
        let call = call("POST", &server.url("/"));
        let (message, is_without_effect) = failure(call.run(&content(), &Stop::default()));
        assert!(!is_without_effect, "{message}");
        assert_eq!(server.received().len(), 1, "it is not asked again: {message}");
    }
}

#[test]
fn an_endless_answer_is_read_up_to_a_limit() {
    let server = Server::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            stream.write_all(&[b'x'; 4096])?;
        }
    });
    let call = call("GET", &server.url("/"));
    assert_eq!(call.run(&content(), &Stop::default()).unwrap(), "answered 200");
}
