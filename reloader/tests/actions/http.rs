//! HTTP requests of `--http`: what they send, which answers are a success, and that secrets are
//! never shown.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::certificates::Authority;
use reloader::testing::Action;
use reloader::testing::HttpCall;
use reloader::testing::Stop;
use tempfile::tempdir;

use crate::server::{Server, answer};
use crate::{content, failure};

/// Long enough for a loaded machine.
const LONG: Duration = Duration::from_secs(60);

pub fn call(method: &str, url: &str) -> HttpCall {
    HttpCall::new(method, url).expect("a call").timeout(LONG)
}

fn file(directory: &Path, name: &str, text: &str) -> PathBuf {
    let file = directory.join(name);
    fs::write(&file, text).expect("written");
    file
}

#[test]
fn a_post_without_a_body_file_is_sent_once_with_an_empty_body() {
    let server = Server::answering(200, "reloaded");
    let call = call("POST", &server.url("/-/reload?token=s3cret"));
    assert_eq!(call.run(&content(), &Stop::default()).unwrap(), "answered 200");
    let received = server.received();
    assert_eq!(received.len(), 1);
    let request = &received[0];
    assert_eq!((&*request.method, &*request.path), ("POST", "/-/reload?token=s3cret"));
    assert_eq!(request.header("content-length"), Some("0"));
    assert!(request.header("user-agent").unwrap().starts_with("reloader/"));
    assert_eq!(request.header("authorization"), None);
    assert!(!format!("{} {call:?}", call.describe()).contains("s3cret"));
}

#[test]
fn files_of_headers_body_and_credentials_are_read_for_each_request() {
    let directory = tempdir().unwrap();
    let at = directory.path();
    let token = file(at, "token", "first\n");
    let body = file(at, "body", "{}");
    let key = file(at, "key", "k3y\r\n");
    let server = Server::answering(204, "");
    let call = call("PUT", &server.url("/config"))
        .header("Content-Type: application/json")
        .unwrap()
        .header_file(&format!("X-Api-Key={}", key.display()))
        .unwrap()
        .bearer(token.clone())
        .unwrap()
        .body(body.clone())
        .unwrap();
    call.run(&content(), &Stop::default()).unwrap();
    fs::write(token, "second").unwrap();
    fs::write(body, "{\"new\": 1}\n").unwrap();
    call.run(&content(), &Stop::default()).unwrap();

    let received = server.received();
    assert_eq!(received[0].header("authorization"), Some("Bearer first"));
    assert_eq!(received[0].header("x-api-key"), Some("k3y"));
    assert_eq!(received[0].header("content-type"), Some("application/json"));
    assert_eq!(received[0].body, b"{}");
    assert_eq!(received[1].header("authorization"), Some("Bearer second"));
    assert_eq!(received[1].body, b"{\"new\": 1}\n");
}

#[test]
fn basic_credentials_are_sent_as_curl_does() {
    let directory = tempdir().unwrap();
    let password = file(directory.path(), "password", "opensesame\n");
    let server = Server::answering(200, "");
    let call = call("GET", &server.url("/")).basic("Aladdin".to_owned(), password).unwrap();
    call.run(&content(), &Stop::default()).unwrap();
    // As `curl --user Aladdin:opensesame` sends it.
    let sent = Some("Basic QWxhZGRpbjpvcGVuc2VzYW1l");
    assert_eq!(server.received()[0].header("authorization"), sent);
}

#[test]
fn only_an_expected_status_is_success() {
    let ask = |status, expected: &[u16]| {
        let server = Server::answering(status, "");
        let call = call("GET", &server.url("/x")).expect(expected.to_vec()).unwrap();
        call.run(&content(), &Stop::default())
    };
    for (status, expected) in
        [(200, vec![]), (299, vec![]), (204, vec![200, 204]), (404, vec![404])]
    {
        assert!(ask(status, &expected).is_ok(), "{status}");
    }
    for (status, expected, without_effect) in [
        (200, vec![202, 204], false),
        (500, vec![], false),
        (503, vec![], false),
        (403, vec![], true),
    ] {
        let (message, is_without_effect) = failure(ask(status, &expected));
        let wanted = if expected.is_empty() { "2xx" } else { "202 or 204" };
        assert!(message.ends_with(&format!("answered {status}, not {wanted}")), "{message}");
        assert_eq!(is_without_effect, without_effect, "{message}");
    }
}

#[test]
fn a_failure_quotes_the_first_line_of_the_answer() {
    let long = "\r\n  bad \u{1b}[2J config at line 3 \nmore\n";
    let server = Server::answering(500, long);
    let (message, _) = failure(call("POST", &server.url("/")).run(&content(), &Stop::default()));
    assert!(message.ends_with(r"not 2xx: bad \u{1b}[2J config at line 3"), "{message}");

    let server = Server::start(|_, stream| answer(stream, 500, "", &"ä".repeat(100_000)));
    let (message, _) = failure(call("POST", &server.url("/")).run(&content(), &Stop::default()));
    assert!(message.ends_with(&format!(": {}…", "ä".repeat(200))), "{message:.400}");
}

#[test]
fn a_redirect_is_not_followed_and_takes_no_credential_along() {
    let directory = tempdir().unwrap();
    let token = file(directory.path(), "token", "s3cret-token");
    let other = Server::answering(200, "");
    for status in [301, 302, 303, 307, 308] {
        let location = other.url("/steal?from=s3cret-token");
        let server = Server::start(move |_, stream| {
            answer(stream, status, &format!("Location: {location}\r\n"), "")
        });
        let call = call("POST", &server.url("/")).bearer(token.clone()).unwrap();
        let (message, is_without_effect) = failure(call.run(&content(), &Stop::default()));
        let origin = other.url("");
        let expected =
            format!("answered {status}, a redirect to `{origin}`, which is not followed");
        assert!(message.ends_with(&expected), "{message}");
        assert!(!is_without_effect);
    }
    assert_eq!(other.received().len(), 0);
}

#[test]
fn a_secret_that_the_server_sends_back_is_hidden() {
    let directory = tempdir().unwrap();
    let at = directory.path();
    let password = file(at, "password", "s3cret-password");
    let key = file(at, "key", "s3cret-api-key");
    let echo = Server::start(|request, stream| {
        let headers = format!("Location: {}/\r\n", request.header("x-api-key").unwrap());
        let status = if request.path == "/302" { 302 } else { 500 };
        answer(stream, status, &headers, &format!("{:?}", request.headers))
    });
    for path in ["/500", "/302"] {
        let call = call("POST", &echo.url(path))
            .header_file(&format!("X-Api-Key={}", key.display()))
            .unwrap()
            .basic("admin".to_owned(), password.clone())
            .unwrap();
        let (message, _) = failure(call.run(&content(), &Stop::default()));
        let plan = call.dry_run(&content()).unwrap();
        assert!(plan.ends_with("with 2 secrets, expecting 2xx"), "{plan}");
        assert!(message.contains("(hidden)") || path == "/302", "{message}");
        for text in [message, call.describe(), format!("{call:?}"), plan] {
            // The pair is `admin:s3cret-password` in base64.
            for secret in ["s3cret", "YWRtaW46czNjcmV0LXBhc3N3b3Jk"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }
    assert_eq!(echo.received().len(), 2);
}

#[test]
fn nothing_is_sent_if_a_secret_cannot_be_read() {
    let directory = tempdir().unwrap();
    let server = Server::answering(200, "");
    let call = call("POST", &server.url("/")).bearer(directory.path().join("token")).unwrap();
    assert!(call.dry_run(&content()).is_err());
    for text in ["", "\n", "tok\nX-Injected: 1"] {
        file(directory.path(), "token", text);
        let (message, is_without_effect) = failure(call.run(&content(), &Stop::default()));
        assert!(is_without_effect && message.contains("token` cannot be sent"), "{message}");
    }
    assert_eq!(server.received().len(), 0);
}

#[test]
fn settings_that_would_show_a_secret_or_forge_a_request_are_refused() {
    let clear = || HttpCall::new("POST", "http://app.example.com/").unwrap();
    let near = || HttpCall::new("POST", "http://127.0.0.1/").unwrap();
    let secret = PathBuf::from("/run/secret");
    let refusals = [
        clear().bearer(secret.clone()),
        clear().basic("u".to_owned(), secret.clone()),
        clear().header_file("X-Key=/run/secret"),
        near().bearer(secret.clone()).unwrap().basic("u".to_owned(), secret.clone()),
        near().basic("a:b".to_owned(), secret.clone()),
        near().basic("a\nb".to_owned(), secret.clone()),
        near().header("X: a\r\nY: b"),
        near().header("X\r\nY: b"),
        near().header("no colon"),
        near().header(": x"),
        near().header("Authorization: Bearer s3cret"),
        near().header("cookie: s3cret"),
        near().header("Content-Length: 5"),
        near().header("transfer-encoding: chunked"),
        near().header("X: 1").unwrap().header("x: 2"),
        near().expect(vec![200, 99]),
        HttpCall::new("GET", "http://h/").unwrap().body(secret.clone()),
        HttpCall::new("CONNECT", "http://h/"),
        HttpCall::new("GET / HTTP/1.1\r\nX:", "http://h/"),
        HttpCall::new("get", "http://h/"),
        HttpCall::new("", "http://h/"),
    ];
    for refusal in refusals {
        let error = refusal.expect_err("refused");
        assert_eq!(diagnostics::exit::code_of(&error), 2, "{error:#}");
        assert!(!error.to_string().contains(['\r', '\n']), "{error:#}");
        assert!(!error.to_string().contains("s3cret"), "{error:#}");
    }
    assert!(HttpCall::new("PURGE", "https://h/").unwrap().bearer(secret).is_ok());
}

#[test]
fn a_secret_is_sent_only_after_the_certificate_was_verified() {
    let directory = tempdir().unwrap();
    let at = directory.path();
    let token = file(at, "token", "s3cret");
    let (good, other) = (Authority::new(at, "good"), Authority::new(at, "other"));
    let names = ["127.0.0.1", "localhost"];
    for (issued, ca, error) in [
        (good.issue("right", &names), "good.pem", None),
        (other.issue("wrong", &names), "good.pem", Some("not signed by a trusted authority")),
        (good.issue("elsewhere", &["example.com"]), "good.pem", Some("for another host")),
        (good.issue_expired("old", &names), "good.pem", Some("has expired")),
        (good.issue("fine", &names), "token", Some("there are none in PEM form")),
        (good.issue("okay", &names), "missing", Some("no such file or directory")),
    ] {
        let server = Server::start_tls(&issued, |_, stream| answer(stream, 200, "", ""));
        let call = call("POST", &server.url("/")).ca(at.join(ca)).bearer(token.clone()).unwrap();
        let outcome = call.run(&content(), &Stop::default());
        let Some(error) = error else {
            assert_eq!(outcome.unwrap(), "answered 200");
            assert_eq!(server.received()[0].header("authorization"), Some("Bearer s3cret"));
            continue;
        };
        let (message, is_without_effect) = failure(outcome);
        assert!(message.contains(error) && is_without_effect, "{message}");
        assert_eq!(server.received().len(), 0);
    }
}
