//! `--verify-http`: asking the application whether it uses the live version.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reloader::testing::Action;
use reloader::testing::Stop;
use reloader::testing::VerifyHttp;

use crate::http::call;
use crate::server::{Server, answer, hang};
use crate::{content, failure, stopped};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(600);

fn proof(server: &Server, text: Option<&str>, timeout: Duration) -> VerifyHttp {
    let text = text.map(str::to_owned);
    VerifyHttp::new(call("GET", &server.url("/healthz?key=s3cret")), text, timeout)
        .expect("a proof")
}

#[test]
fn it_asks_until_the_status_is_expected() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |_, stream| {
        let status = if asked.fetch_add(1, Ordering::SeqCst) < 3 { 503 } else { 200 };
        answer(stream, status, "", "starting")
    });
    let message = proof(&server, None, LONG).run(&content(), &Stop::default()).unwrap();
    assert_eq!(message, format!("GET `{}` answered 200", server.url("/healthz")));
    assert_eq!(server.received().len(), 4);
}

#[test]
fn it_asks_until_the_answer_holds_the_digest() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |_, stream| {
        let digest = if asked.fetch_add(1, Ordering::SeqCst) < 2 { "old" } else { "0123abcd" };
        answer(stream, 200, "", &format!("{{\n\"content\": \"{}\"}}", digest.repeat(8)))
    });
    let proof = proof(&server, Some("\"content\": \"{digest}\""), LONG);
    let message = proof.run(&content(), &Stop::default()).unwrap();
    assert!(message.contains(&content().digest), "{message}");
    assert_eq!(server.received().len(), 3);
}

#[test]
fn the_failure_holds_the_last_answer() {
    let ill = Server::answering(503, "no database");
    let (message, is_without_effect) =
        failure(proof(&ill, None, SHORT).run(&content(), &Stop::default()));
    let url = ill.url("/healthz");
    let expected =
        format!("not proved within 600ms: GET `{url}` answered 503, not 2xx: no database");
    assert_eq!(message, expected);
    assert!(!is_without_effect);
    assert!(ill.received().len() > 1);

    let old = Server::answering(200, "version 1");
    let (message, _) =
        failure(proof(&old, Some("version 2"), SHORT).run(&content(), &Stop::default()));
    assert!(message.ends_with("answered 200 with `version 1`, without `version 2`"), "{message}");

    let silent = Server::start(|_, _| hang());
    let (message, _) = failure(proof(&silent, None, SHORT).run(&content(), &Stop::default()));
    assert!(message.contains("no whole answer within"), "{message}");
}

#[test]
fn a_stop_ends_the_requests() {
    let server = Server::answering(503, "");
    let proof = proof(&server, None, Duration::from_secs(600));
    let outcome = stopped(|| server.received().len() > 1, |stop| proof.run(&content(), stop));
    assert!(failure(outcome).0.starts_with("stopped before the proof: "));
}

#[test]
fn an_empty_text_is_refused() {
    let call = call("GET", "http://127.0.0.1/");
    let error = VerifyHttp::new(call, Some(String::new()), LONG).unwrap_err();
    assert_eq!(diagnostics::exit::code_of(&error), 2);
}
