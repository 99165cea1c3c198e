//! Lookups of many UIDs at a time on real servers: batches, pages, limits, crashes and failover.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use e2e::programs::{Outcome, command, run};
use e2e::slapd::{BASE_DN, Setup, Slapd, many_users};

const USERS: u32 = 3000;

fn server(global: &str) -> Slapd {
    let entries = many_users(USERS);
    Slapd::start(&Setup { entries, global: global.to_owned(), ..Setup::default() })
}

fn resolver(url: &str) -> Command {
    let mut resolver = command("resolver");
    resolver.args(["--url", url, "--base-dn", BASE_DN]);
    resolver
}

/// Pairs with the UIDs of all users, some of them twice, and with unknown UIDs.
fn input() -> String {
    let uid = |n: u32| if n.is_multiple_of(7) { 1000 + n } else { 100_000 + n % USERS };
    let pairs: Vec<_> = (0..USERS + 500).map(|n| format!("\"/p/{n}\": {}", uid(n))).collect();
    format!("{{{}}}", pairs.join(",\n"))
}

/// The result for it.
fn expected() -> String {
    let mut out = "{".to_owned();
    for n in 0..USERS + 500 {
        let comma = if n == 0 { "" } else { "," };
        let (uid, email) = match n.is_multiple_of(7) {
            true => (1000 + n, String::new()),
            false => (100_000 + n % USERS, format!("u{}@example.com", 100_000 + n % USERS)),
        };
        write!(out, "{comma}\n  \"/p/{n}\": {{\"{uid}\": \"{email}\"}}").expect("written");
    }
    out + "\n}\n"
}

fn assert_resolved(outcome: &Outcome) {
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert!(outcome.stdout == expected(), "{:.300}", outcome.stdout);
}

#[test]
fn uids_are_looked_up_in_batches() {
    let slapd = server("");
    assert_resolved(&run(&mut resolver(&slapd.url()), input().as_bytes()));
    let searches = slapd.searches();
    assert!(searches < 200, "{searches} searches");
}

#[test]
fn a_server_with_a_low_size_limit_gets_smaller_batches() {
    let slapd = server("sizelimit 10");
    let file = slapd.dir().join("resolver.prom");
    let mut resolver = resolver(&slapd.url());
    assert_resolved(&run(resolver.arg("--metrics-file").arg(&file), input().as_bytes()));

    let metrics = fs::read_to_string(file).expect("metrics");
    let value = |name: &str| -> f64 {
        let sample = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        sample.unwrap_or_else(|| panic!("{name}: {metrics}")).parse().expect("a number")
    };
    let answered = value("resolver_ldap_queries_total{result=\"answered\"}");
    assert!(answered >= f64::from(USERS) / 10.0);
    assert_eq!(value("resolver_ldap_query_duration_seconds_count"), answered);
    assert!(value("resolver_ldap_queries_total{result=\"too_large\"}") >= 1.0);
    assert_eq!(value("resolver_paths_total"), f64::from(USERS + 500));
    assert_eq!(value("resolver_unresolved_owners_total"), f64::from((USERS + 500) / 7));
    assert!(value("resolver_last_success_timestamp_seconds") > 1e9);
}

#[test]
fn all_owners_can_be_read_in_pages() {
    let slapd = server("sizelimit size.soft=500 size.hard=500 size.prtotal=unlimited");
    assert_resolved(&run(resolver(&slapd.url()).arg("--enumerate"), input().as_bytes()));
    let searches = slapd.searches();
    assert!(searches < 20, "{searches} searches");
}

#[test]
fn the_next_server_is_used_if_the_first_cannot_be_reached() {
    let slapd = server("");
    let urls = format!("ldap://127.0.0.1:1 {}", slapd.url());
    assert_resolved(&run(&mut resolver(&urls), input().as_bytes()));
}

/// A server that answers a bind and a search after it with these result codes.
fn refusing(bind: u8, search: u8) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        for (id, operation, code) in [(1, 0x61, bind), (2, 0x65, search)] {
            // Each request is short enough to be read at once.
            let count = client.read(&mut [0; 4096]).unwrap_or(0);
            let answer = [0x30, 12, 2, 1, id, operation, 7, 10, 1, code, 4, 0, 4, 0];
            if count == 0 || client.write_all(&answer).is_err() {
                break;
            }
        }
    });
    format!("ldap://127.0.0.1:{port}")
}

#[test]
fn the_next_server_is_used_if_the_first_is_busy_or_unavailable() {
    let slapd = server("");
    for (bind, search) in [(51, 0), (52, 0), (0, 51), (0, 52)] {
        let urls = format!("{} {}", refusing(bind, search), slapd.url());
        let outcome = run(&mut resolver(&urls), br#"{"a": 100001}"#);
        let expected = "{\n  \"a\": {\"100001\": \"u100001@example.com\"}\n}\n";
        assert_eq!((outcome.code, &outcome.stdout[..]), (Some(0), expected), "{outcome:?}");
    }
    // After a wrong password no other server is tried.
    let outcome = run(
        resolver(&format!("{} {}", refusing(49, 0), slapd.url()))
            .args(["--bind-dn", "cn=x"])
            .env("LDAP_BIND_PASS", "y"),
        br#"{"a": 100001}"#,
    );
    assert_eq!((outcome.code, &outcome.stdout[..]), (Some(2), ""), "{outcome:?}");
}

/// Starts a run, writes a third of its input, and reads the first bytes of its output.
fn start(mut resolver: Command) -> (Child, String) {
    resolver.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = resolver.spawn().expect("started");
    let input = input();
    let (first, rest) = input.split_at(input.len() / 3);
    child.stdin.as_mut().expect("stdin").write_all(first.as_bytes()).expect("written");
    // Wait for the first answers.
    child.stdout.as_mut().expect("stdout").read_exact(&mut [0; 1000]).expect("a beginning");
    (child, rest.to_owned())
}

/// Writes the rest of the input, and waits for the end.
fn finish(mut child: Child, rest: &str) -> Outcome {
    let mut stdin = child.stdin.take().expect("stdin");
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(rest.as_bytes()));
        child.wait_with_output().expect("the end").into()
    })
}

/// These are more entries than the answer to one search may have.
#[test]
fn two_hundred_thousand_owners_can_be_enumerated() {
    let (entries, global) = (many_users(200_000), "sizelimit unlimited".to_owned());
    let slapd = Slapd::start(&Setup { entries, global, ..Setup::default() });
    let mut resolver = resolver(&slapd.url());
    resolver.arg("--enumerate");
    let (child, rest) = start(resolver);
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("its status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    let peak: u32 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    let outcome = finish(child, &rest);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert!(outcome.stdout == expected()[1000..], "{:.300}", outcome.stdout);
    assert_eq!(slapd.searches(), 201);
    assert!(peak < 100 * 1024, "peak RSS is {peak} KiB");
}

#[test]
fn a_crash_of_the_server_loses_no_answers_if_it_comes_back() {
    let mut slapd = server("");
    let (child, rest) = start(resolver(&slapd.url()));
    slapd.crash();
    let outcome = std::thread::scope(|scope| {
        let ended = scope.spawn(|| finish(child, &rest));
        sleep(Duration::from_secs(1));
        slapd.restart();
        ended.join().expect("joined")
    });
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert!(outcome.stdout == expected()[1000..], "{:.300}", outcome.stdout);
}

#[test]
fn a_crash_of_the_server_loses_no_answers_if_there_is_another() {
    let (mut first, second) = (server(""), server(""));
    let (child, rest) = start(resolver(&format!("{} {}", first.url(), second.url())));
    assert_eq!(second.searches(), 0);
    first.crash();
    let outcome = finish(child, &rest);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
    assert!(outcome.stdout == expected()[1000..], "{:.300}", outcome.stdout);
    assert!(second.searches() > 0);
}

#[test]
fn a_crash_of_the_only_server_leaves_the_result_open() {
    let mut slapd = server("");
    let (child, rest) = start(resolver(&slapd.url()));
    slapd.crash();
    let outcome = finish(child, &rest);
    assert_eq!(outcome.code, Some(1));
    let (expected, written) = (expected(), &outcome.stdout[..]);
    let end = written.len().saturating_sub(60);
    assert!(expected[1000..].starts_with(written), "{} bytes: {}", written.len(), &written[end..]);
    assert_ne!(1000 + written.len(), expected.len(), "the result is complete");
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    for part in ["connection lost: ", ": ldap dial after 5 retries: failed to connect to"] {
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
    }
}
