//! 389 Directory Server: its limits, its certificate authority, and its silence about missing rights.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use e2e::dirsrv::{CONFIG, DATABASE, DirSrv, Setup};
use e2e::programs::run;
use e2e::slapd::READER;

use crate::listing::{assert_failure, assert_resolved, entries, listing, resolver};

/// The program, with the options to bind as the reader.
fn reader(url: &str, server: &DirSrv) -> Command {
    let mut resolver = resolver(url);
    resolver.args(["--bind-dn", READER.0]).env("LDAP_BIND_PASS", READER.1);
    resolver.env("LDAP_CA_FILE", server.ca_file());
    resolver
}

/// A listing of the five users and one unknown UID, twenty times each.
fn small_listing() -> Vec<u8> {
    let pairs: Vec<_> = (0..120).map(|n| format!("\"{n}\": {}", 30001 + n % 6)).collect();
    format!("{{{}}}", pairs.join(",")).into_bytes()
}

#[test]
#[ignore = "sets up a server: run by `make test-directories`"]
fn missing_rights_wrong_passwords_and_bad_certificates_have_different_messages() {
    let readers = Some(format!("userdn = \"ldap:///{}\"", READER.0));
    let server = DirSrv::start(&Setup { readers, ..Setup::default() });
    let input = small_listing();
    let (url, named) = (server.url(), server.named_url());

    for resolver in
        [&mut reader(&server.tls_url(), &server), reader(&named, &server).arg("--starttls")]
    {
        let outcome = run(resolver.env("LDAP_REQUIRE_TLS", "true"), &input);
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        assert_eq!(outcome.stdout.matches("alice.johnson@example.com").count(), 20);
    }
    let outcome = run(reader(&url, &server).arg("--starttls"), &input);
    assert!(assert_failure(&outcome, 2).contains("not valid for the host name `127.0.0.1`"));
    let outcome = run(reader(&server.tls_url(), &server).env_remove("LDAP_CA_FILE"), &input);
    assert!(assert_failure(&outcome, 2).contains("not signed by a trusted authority"));
    let outcome = run(reader(&url, &server).env("LDAP_BIND_PASS", "wr0ng"), &input);
    assert!(assert_failure(&outcome, 2).contains("does not accept the password"));
    let outcome = run(reader(&url, &server).env("LDAP_BASE_DN", "dc=nowhere"), &input);
    assert!(assert_failure(&outcome, 2).contains("base DN `dc=nowhere` does not exist"));

    // To a user without rights, the server answers with success and no entries.
    for mode in [&[][..], &["--enumerate"]] {
        let outcome = run(resolver(&url).args(mode), br#"{"a": 30001}"#);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(!outcome.stdout.ends_with("}\n"), "{outcome:?}");
        let message = "shows an anonymous user no entry with `uidNumber` below";
        assert!(outcome.stderr.contains(message), "{outcome:?}");
    }

    server.set(CONFIG, "nsslapd-allow-anonymous-access", "off");
    let outcome = run(&mut resolver(&url), &input);
    assert!(assert_failure(&outcome, 2).contains("refuses anonymous access"), "{outcome:?}");
}

#[test]
#[ignore = "sets up a server: run by `make test-directories`"]
fn limits_of_the_server_cost_more_searches_but_no_answers() {
    let server = DirSrv::start(&Setup { entries: entries(), ..Setup::default() });
    let (input, _) = listing();
    server.set(CONFIG, "nsslapd-sizelimit", "10");
    server.set(DATABASE, "nsslapd-idlistscanlimit", "100");
    for mode in [&[][..], &["--filter", "(objectClass=posixAccount)"], &["--enumerate"]] {
        let before = server.searches();
        let outcome = run(reader(&server.url(), &server).args(mode), input.as_bytes());
        assert_resolved(&outcome, &format!("{mode:?}"));
        let searches = server.searches() - before;
        assert!((300..1000).contains(&searches), "{mode:?}: {searches} searches");
    }
}

#[test]
#[ignore = "sets up a server: run by `make test-directories`"]
fn without_an_index_all_answers_come_or_the_limit_is_named() {
    let server = DirSrv::start(&Setup { entries: entries(), unindexed: true, ..Setup::default() });
    let (input, _) = listing();
    assert_resolved(&run(&mut reader(&server.url(), &server), input.as_bytes()), "no index");

    server.set(DATABASE, "nsslapd-lookthroughlimit", "1000");
    for mode in [&[][..], &["--enumerate"]] {
        let outcome = run(reader(&server.url(), &server).args(mode), br#"{"a": 30001}"#);
        let message = assert_failure(&outcome, 2);
        assert!(message.contains("the attribute that holds the UID needs an index"), "{message}");
    }
    server.set(DATABASE, "nsslapd-pagedlookthroughlimit", "-1");
    let outcome = run(reader(&server.url(), &server).arg("--enumerate"), input.as_bytes());
    assert_resolved(&outcome, "pages without a limit");
}

#[test]
#[ignore = "sets up a server: run by `make test-directories`"]
fn a_crash_of_the_server_loses_no_answers() {
    let mut server = DirSrv::start(&Setup { entries: entries(), ..Setup::default() });
    let (input, output) = listing();
    let mut resolver = resolver(&server.url());
    resolver.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = resolver.spawn().expect("started");
    let mut stdin = child.stdin.take().expect("stdin");
    let (first, rest) = input.split_at(input.len() / 3);
    stdin.write_all(first.as_bytes()).expect("written");
    // Wait for the first answers.
    let mut beginning = [0; 1000];
    child.stdout.as_mut().expect("stdout").read_exact(&mut beginning).expect("a beginning");
    server.crash();
    let before = server.searches();
    let outcome = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(rest.as_bytes()).expect("written"));
        let ended = scope.spawn(|| child.wait_with_output().expect("the end"));
        sleep(Duration::from_secs(1));
        server.restart();
        ended.join().expect("joined")
    });
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    assert!([&beginning[..], &outcome.stdout].concat() == output.as_bytes());
    assert!(server.searches() > before, "no search after the restart");
}
