//! Requests of `--then-post`: what they hold, where they go, and how they fail.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use e2e::certificates::Authority;
use e2e::programs::Outcome;
use e2e::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Places;
use super::server::{Answer, Server, has_connected, tls};

const OK: Answer = Answer::Text("HTTP/1.1 204 No Content\r\n\r\n");
const BUSY: Answer =
    Answer::Text("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy");

/// Asserts that a run has published, but could not notify the server.
fn assert_not_notified(places: &Places, outcome: &Outcome, why: &str) {
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stdout.starts_with("published: "), "{outcome:?}");
    assert!(outcome.stderr.contains(why), "{outcome:?}");
    assert!(!outcome.stderr.contains("in-the-url"), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    assert_eq!((places.pending(), &places.read("volume/a")[..]), (1, "one"));
}

#[test]
fn a_post_is_repeated_by_later_runs_until_the_server_accepts_it() {
    let places = Places::filled();
    let server = Server::start(vec![BUSY, BUSY, OK, OK], None);
    let url = server.url("http");
    // No proxy listens there; a request through it would fail.
    let run = |args: &[&str]| {
        let mut run = places.provisioner(&[args, &["--then-post", &url]].concat());
        run.env("http_proxy", "http://127.0.0.1:1").env("ALL_PROXY", "http://127.0.0.1:1");
        e2e::programs::run(&mut run, b"")
    };
    let outcome = run(&[]);
    let why =
        format!("failed to post to `http://127.0.0.1:{}`: it answers with status 503", server.port);
    assert_not_notified(&places, &outcome, &why);
    let first = server.request();
    let digest = super::digest_of(&outcome.stdout);
    assert!(first.head.starts_with("POST /hook?key=in-the-url HTTP/1.1\r\n"), "{}", first.head);
    assert!(first.head.to_ascii_lowercase().contains("\r\ncontent-type: application/json\r\n"));
    assert!(!first.head.to_ascii_lowercase().contains("authorization"), "{}", first.head);
    let target = fs::canonicalize(places.path("volume")).expect("a path");
    let expected = serde_json::json!({
        "digest": digest,
        "target": target,
        "counts": {"added": 1, "changed": 0, "removed": 0, "unchanged": 0, "repaired": 0, "bytes": 3},
    });
    assert_eq!(serde_json::from_str::<serde_json::Value>(&first.body).expect("JSON"), expected);
    // Nothing has changed; the pending message is sent as it was.
    for code in [1, 0] {
        let outcome = run(&[]);
        assert_eq!(outcome.code, Some(code), "{outcome:?}");
        assert!(outcome.stdout.starts_with("unchanged: "), "{outcome:?}");
        assert_eq!(server.request().body, first.body);
    }
    assert_eq!(places.pending(), 0);
    assert_eq!(run(&[]).code, Some(0));
    server.assert_quiet();
    places.write("two");
    assert_eq!(run(&[]).code, Some(0));
    assert!(server.request().body.contains(r#""changed":1"#));
}

#[test]
fn each_listener_is_notified_independently() {
    let places = Places::filled();
    let server = Server::start(vec![BUSY, OK], None);
    let url = server.url("http");
    let args = ["--then-post", &url, "--then", "sh -c 'echo x >> calls'"];
    assert_not_notified(&places, &places.run(&args), "status 503");
    assert_eq!(places.read("calls"), "x\n");
    places.publishes(&args);
    assert_eq!(places.read("calls"), "x\n", "it was notified already");
    assert_eq!(server.request().body, server.request().body);
}

#[test]
fn a_token_is_sent_over_tls_and_never_shown() {
    let places = Places::filled();
    let authority = Authority::new(&places.path(""), "ca");
    let pair = authority.issue("server", &["127.0.0.1"]);
    let server = Server::start(vec![OK, BUSY], Some(tls(pair)));
    fs::write(places.path("token"), "s3cret-t0ken\n").expect("written");
    fs::write(places.path("log"), "").expect("written");
    let url = server.url("https");
    let args = ["--then-post", &url, "--then-ca=ca.pem", "--then-token-file=token"];
    let more = ["--termination-log=log", "--metrics-file=x.prom"];
    places.publishes(&[&args[..], &more].concat());
    let head = server.request().head.to_ascii_lowercase();
    assert!(head.contains("\r\nauthorization: bearer s3cret-t0ken\r\n"), "{head}");
    places.write("two");
    let outcome = places.run(&[&args[..], &more].concat());
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let files = [places.read("log"), places.read("x.prom"), format!("{outcome:?}")].concat();
    assert!(files.contains("status 503") && !files.contains("s3cret"), "{files}");
}

#[test]
fn a_server_with_a_wrong_certificate_gets_no_request() {
    let cases: [(&str, &[&str], &str); 2] = [
        ("other", &["127.0.0.1"], "not signed by a trusted authority (--then-ca names"),
        ("ca", &["elsewhere.example.com"], "for another host"),
    ];
    for (trusted, subjects, why) in cases {
        let places = Places::filled();
        Authority::new(&places.path(""), "other");
        let files = Authority::new(&places.path(""), "ca").issue("server", subjects);
        let server = Server::start(vec![OK], Some(tls(files)));
        fs::write(places.path("token"), "s3cret-t0ken").expect("written");
        let (url, ca) = (server.url("https"), format!("--then-ca={trusted}.pem"));
        let outcome = places.run(&["--then-post", &url, &ca, "--then-token-file=token"]);
        assert_not_notified(&places, &outcome, why);
        server.assert_quiet();
    }
}

#[test]
fn a_redirect_is_not_followed() {
    for answer in [
        Answer::Text("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"),
        Answer::Text(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
        ),
    ] {
        let places = Places::filled();
        let server = Server::start(vec![answer, OK], None);
        let outcome = places.run(&["--then-post", &server.url("http")]);
        assert_not_notified(&places, &outcome, ", and redirects are not followed");
        server.request();
        server.assert_quiet();
    }
}

#[test]
fn servers_that_hang_or_send_garbage_are_given_up() {
    let trickle = |out: &mut dyn Write| {
        let _ = out.write_all(b"HTTP/1.1 200 OK\r\nX: ");
        while out.write_all(b"x").and_then(|()| out.flush()).is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    };
    let hang = |_: &mut dyn Write| thread::sleep(Duration::from_secs(600));
    let flood = |out: &mut dyn Write| {
        let _ = out.write_all(b"HTTP/1.1 200 OK\r\nX: ");
        while out.write_all(&[b'x'; 4096]).is_ok() {}
    };
    for (answer, why) in [
        (Answer::Act(trickle), "no answer within 1s"),
        (Answer::Act(hang), "no answer within 1s"),
        (Answer::Act(flood), "failed to post to"),
        (Answer::Text("\x1b[2JSSH-2.0-x\r\n\r\n"), "failed to post to"),
        (Answer::Act(|_| ()), "failed to post to"),
    ] {
        let places = Places::filled();
        let server = Server::start(vec![answer], None);
        let args = ["--then-post", &server.url("http"), "--then-timeout=1"];
        let outcome = places.run(&args);
        assert_not_notified(&places, &outcome, why);
        assert!(!outcome.stderr.contains('\x1b'), "{outcome:?}");
    }
    // A port where nothing listens.
    let places = Places::filled();
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = closed.local_addr().expect("an address").port();
    drop(closed);
    let outcome = places.run(&["--then-post", &format!("http://127.0.0.1:{port}/in-the-url")]);
    assert_not_notified(&places, &outcome, "connection refused");
}

#[test]
fn sigterm_ends_the_wait_for_an_answer() {
    let places = Places::filled();
    let server =
        Server::start(vec![Answer::Act(|_| thread::sleep(Duration::from_secs(600)))], None);
    let url = server.url("http");
    let mut child = places.provisioner(&["--then-post", &url, "--then-timeout=600"]);
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    server.request();
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("sent");
    let outcome = child.wait_with_output().expect("its end").into();
    assert_not_notified(&places, &outcome, "interrupted by a signal");
}

#[test]
fn unsafe_settings_are_refused_before_anything_is_published() {
    let places = Places::filled();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    for (name, content) in [("token", "s3cret"), ("two", "s3\ncret"), ("empty", "\n"), ("no", "x")]
    {
        fs::write(places.path(name), content).expect("written");
    }
    let https = format!("https://127.0.0.1:{port}/");
    for (args, why) in [
        (vec!["--then-post", "ftp://s3cret@x/"], "neither http:// nor https://"),
        (vec!["--then-post", "http://s3cret:x@127.0.0.1/"], "holds credentials"),
        (vec!["--then-post", "s3cret"], "neither http:// nor https://"),
        (vec!["--then-post", "http://192.0.2.1/s3cret", "--then-token-file=token"], "needs https"),
        (vec!["--then-post", &https, "--then-token-file=two"], "it is not a single word"),
        (vec!["--then-post", &https, "--then-token-file=empty"], "it is not a single word"),
        (vec!["--then-post", &https, "--then-token-file=nowhere"], "no such file"),
        (vec!["--then-post", &https, "--then-token-file=/dev/zero"], "larger than"),
        (vec!["--then-post", &https, "--then-ca=no"], "there are none in PEM form"),
        (vec!["--then-post", &https, "--then-ca=nowhere"], "no such file"),
        (vec!["--then-ca=no"], "--then-post"),
    ] {
        let outcome = places.run(&args);
        assert_eq!((outcome.code, &outcome.stdout[..]), (Some(2), ""), "{args:?}: {outcome:?}");
        assert!(outcome.stderr.contains(why), "{args:?}: {outcome:?}");
        assert!(!outcome.stderr.contains("s3cret"), "{args:?}: {outcome:?}");
        places.assert_empty();
    }
    assert!(!has_connected(&listener));
    // Loopback needs no TLS.
    let server =
        Server::start(vec![Answer::Text("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")], None);
    places.publishes(&["--then-post", &server.url("http"), "--then-token-file=token"]);
    assert!(server.request().head.contains("Bearer s3cret"));
    wait_for("the pending notification to be removed", || places.pending() == 0);
}
