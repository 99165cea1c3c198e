//! Failures of a directory server: each has its own message, an exit code that says whether retrying may
//! help, and no complete result. The password is never shown.

use std::fs;
use std::io::{Read, Write};
use std::process::{ChildStdout, Command, Stdio};

use e2e::certificates::Authority;
use e2e::programs::{Outcome, command, run};
use e2e::slapd::{BASE_DN, READER, Setup, Slapd};
use nix::sys::signal::Signal;

const INPUT: &[u8] = br#"{"a": 30001}"#;

fn reader(url: &str) -> Command {
    let mut resolver = command("resolver");
    resolver.args(["--url", url, "--base-dn", BASE_DN]);
    resolver.args(["--bind-dn", READER.0, "--timeout", "5"]).env("LDAP_BIND_PASS", READER.1);
    resolver
}

fn anonymous(url: &str) -> Command {
    let mut resolver = command("resolver");
    resolver.args(["--url", url, "--base-dn", BASE_DN]);
    resolver
}

/// Asserts that a run fails with `code`, one line on stderr and nothing on stdout. Returns the line.
fn failure(resolver: &mut Command, code: i32) -> String {
    let outcome = run(resolver, INPUT);
    assert_eq!(outcome.code, Some(code), "{outcome:?}");
    assert_eq!(outcome.stdout, "");
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    assert!(outcome.stderr.starts_with("resolver: "), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains(READER.1) && !outcome.stderr.contains("wr0ng"));
    outcome.stderr
}

fn success(resolver: &mut Command) -> Outcome {
    let outcome = run(resolver, INPUT);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains("alice.johnson@example.com"), "{outcome:?}");
    outcome
}

#[test]
fn six_failures_have_six_messages() {
    let slapd = Slapd::start(&Setup::default());
    let plain = Slapd::start(&Setup { without_tls: true, ..Setup::default() });
    let ca = slapd.ca_file();
    let mut wrong_base = command("resolver");
    wrong_base.args(["--url", &slapd.url(), "--base-dn", "dc=nowhere,dc=com"]);
    let mut messages = vec![
        failure(reader(&slapd.url()).env("LDAP_BIND_PASS", "wr0ng"), 2),
        failure(&mut wrong_base, 2),
        failure(&mut reader("ldap://127.0.0.1:1"), 1),
        failure(&mut reader(&slapd.tls_url()), 2),
        failure(
            reader(&format!("ldaps://127.0.0.1:{}", slapd.tls_port())).arg("--ca-file").arg(&ca),
            2,
        ),
        failure(reader(&plain.url()).arg("--starttls").arg("--ca-file").arg(&ca), 2),
    ];
    for (message, expected) in messages.iter().zip([
        "does not accept the password of `cn=reader,dc=example,dc=com`",
        "the base DN `dc=nowhere,dc=com` does not exist",
        "ldap dial after 5 retries: failed to connect to `ldap://127.0.0.1:1`: connection refused",
        "is not signed by a trusted authority",
        "is not valid for the host name `127.0.0.1`",
        "StartTLS refused: protocolError",
    ]) {
        assert!(message.contains(expected), "{expected}: {message}");
    }
    messages.sort();
    messages.dedup();
    assert_eq!(messages.len(), 6);
}

#[test]
fn missing_rights_have_different_messages() {
    let access = "access to dn.base=\"\" by * read\naccess to dn.subtree=\"dc=example,dc=com\" \
                  attrs=userPassword by anonymous auth\naccess to * by dn.base=\"cn=reader,dc=example,dc=com\" disclose \
                  by * disclose";
    let denied = Slapd::start(&Setup { access: Some(access.to_owned()), ..Setup::default() });
    let message = failure(&mut reader(&denied.url()), 2);
    assert!(message.contains("access denied: `cn=reader,dc=example,dc=com`"), "{message}");

    let no_anonymous =
        Slapd::start(&Setup { global: "disallow bind_anon".to_owned(), ..Setup::default() });
    let message = failure(&mut anonymous(&no_anonymous.url()), 2);
    assert!(message.contains("refuses anonymous access"), "{message}");
    success(&mut reader(&no_anonymous.url()));

    let named = Slapd::start(&Setup { global: "require authc".to_owned(), ..Setup::default() });
    let message = failure(&mut anonymous(&named.url()), 2);
    assert!(message.contains("refuses anonymous access"), "{message}");

    let secure = Slapd::start(&Setup { global: "security tls=1".to_owned(), ..Setup::default() });
    let message = failure(&mut reader(&secure.url()), 2);
    assert!(message.contains("demands TLS"), "{message}");
    success(reader(&secure.tls_url()).arg("--ca-file").arg(secure.ca_file()));
}

/// Asserts that a run fails with 2 and leaves the result open, since `""` might be wrong in it. Returns
/// its stderr.
fn refused_result(resolver: &mut Command) -> String {
    let outcome = run(resolver, INPUT);
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(!outcome.stdout.ends_with("}\n"), "{outcome:?}");
    outcome.stderr
}

#[test]
fn hidden_attributes_are_not_mistaken_for_missing_ones() {
    let start = |rule: &str| {
        let access = format!("access to {rule}\naccess to * by * read");
        Slapd::start(&Setup { access: Some(access), ..Setup::default() })
    };
    for (rule, hides) in [
        ("attrs=uidNumber by * search", "uidNumber"),
        ("attrs=uidNumber by * none", "uidNumber"),
        ("attrs=mail by * search", "mail"),
        ("attrs=mail by * none", "mail"),
    ] {
        let slapd = start(rule);
        for mode in [&[][..], &["--enumerate"]] {
            let message = refused_result(anonymous(&slapd.url()).args(mode));
            let expected = format!(
                "` shows an anonymous user no entry with `{hides}` below `dc=example,dc=com`"
            );
            assert!(message.contains(&expected), "{rule}, {mode:?}: {message}");
        }
    }
    // A single hidden entry among others gives a warning.
    let slapd = start("dn.sub=\"uid=alice,dc=example,dc=com\" attrs=uidNumber by * search");
    let outcome = run(&mut anonymous(&slapd.url()), br#"{"a": 30001, "b": 30002}"#);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stderr.contains("1 matching entries do not show their UID"), "{outcome:?}");
}

#[test]
fn an_unknown_uid_is_an_answer_if_the_server_shows_other_accounts() {
    let slapd = Slapd::start(&Setup::default());
    for mode in [&[][..], &["--enumerate"]] {
        let outcome = run(anonymous(&slapd.url()).args(mode), br#"{"a": 7}"#);
        let expected = "{\n  \"a\": {\"7\": \"\"}\n}\n";
        assert_eq!((outcome.code, &outcome.stdout[..]), (Some(0), expected), "{outcome:?}");
    }
    for arguments in [["--mail-attr", "maill"], ["--filter", "(objectClass=robot)"]] {
        let message = refused_result(anonymous(&slapd.url()).args(arguments));
        assert!(message.contains("the name of the attribute is wrong"), "{message}");
    }
}

#[test]
fn an_alias_of_an_attribute_is_refused() {
    let slapd = Slapd::start(&Setup::default());
    for alias in ["rfc822Mailbox", "0.9.2342.19200300.100.1.3"] {
        let message = failure(anonymous(&slapd.url()).args(["--mail-attr", alias]), 2);
        assert!(message.contains("answers with the attribute `mail`"), "{message}");
    }
}

#[test]
fn starttls_and_ldaps_protect_the_password() {
    let slapd = Slapd::start(&Setup::default());
    let localhost = format!("ldap://localhost:{}", slapd.port());
    for url in [&localhost, &slapd.tls_url()] {
        let outcome =
            success(reader(url).env("LDAP_STARTTLS", "true").env("LDAP_CA_FILE", slapd.ca_file()));
        assert_eq!(outcome.stderr, "");
    }
    // A certificate of another authority is not trusted.
    Authority::new(slapd.dir(), "other");
    let other = slapd.dir().join("other.pem");
    let message = failure(reader(&localhost).arg("--starttls").arg("--ca-file").arg(other), 2);
    assert!(message.contains("not signed by a trusted authority"), "{message}");

    let unverified = success(reader(&slapd.tls_url()).env("LDAP_SKIP_TLS_VERIFY", "true"));
    assert!(unverified.stderr.contains("certificates are not verified"), "{unverified:?}");
    let message = failure(reader(&slapd.url()).env("LDAP_REQUIRE_TLS", "true"), 2);
    assert!(message.contains("TLS is required"), "{message}");
    success(&mut reader(&slapd.url()));
}

#[test]
fn a_password_sent_to_another_machine_in_the_clear_gets_a_warning() {
    let slapd = Slapd::start(&Setup::default());
    // In a network namespace, the same directory is served at an address that is not loopback.
    let script = "ip link set lo up && ip address add 192.0.2.1/32 dev lo || exit 9
        slapd -d 0 -h ldap://192.0.2.1:3890 -f \"$0\" & server=$!
        printf '{\"a\": 30001}' | \"$@\"; code=$?
        kill $server; wait; exit $code";
    let mut namespace = Command::new("unshare");
    namespace.args(if e2e::is_root() { &["--net"][..] } else { &["--net", "-r"] });
    namespace.args(["sh", "-c", script]).arg(slapd.dir().join("slapd.conf"));
    namespace.arg(e2e::programs::program("resolver"));
    namespace.args(["--url", "ldap://192.0.2.1:3890", "--base-dn", BASE_DN]);
    namespace.args(["--bind-dn", READER.0]).env("LDAP_BIND_PASS", READER.1);
    let path = std::env::var("PATH").expect("PATH");
    let outcome = run(namespace.env("PATH", format!("{path}:/usr/sbin:/sbin")), b"");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains("alice.johnson@example.com"));
    let warning = "Warning: the password goes to `ldap://192.0.2.1:3890` unencrypted: use \
                   ldaps:// or LDAP_STARTTLS\n";
    assert_eq!(outcome.stderr, warning);
}

#[test]
fn a_ca_file_without_certificates_is_an_error_of_configuration() {
    let message = failure(reader("ldaps://localhost").args(["--ca-file", "/dev/null"]), 2);
    assert!(message.contains("failed to read certificates from `/dev/null`"), "{message}");
    let message = failure(reader("ldaps://localhost").args(["--ca-file", "/no/such"]), 2);
    assert!(message.contains("no such file or directory"), "{message}");
}

#[test]
fn invalid_values_in_the_environment_are_refused() {
    let outcome = run(anonymous("ldap://127.0.0.1:1").env("LDAP_STARTTLS", "ture"), INPUT);
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.contains("ture"), "{outcome:?}");
    // Empty means "not set", as in a ConfigMap.
    let outcome =
        run(command("resolver").env("LDAP_STARTTLS", "").args(["--ldif", e2e::USERS_LDIF]), INPUT);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

#[test]
fn a_password_from_a_file_is_used_and_never_shown() {
    let slapd = Slapd::start(&Setup::default());
    let file = slapd.dir().join("password");
    fs::write(&file, format!("{}\n", READER.1)).expect("written");
    let mut resolver = anonymous(&slapd.url());
    resolver.args(["--bind-dn", READER.0]).arg("--bind-pass-file").arg(&file);
    let mut child = resolver
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut stdin = child.stdin.take().expect("stdin");
    let mut stdout = child.stdout.take().expect("stdout");
    // After the first answer it has bound; its input is still open.
    stdin.write_all(b"{\"a\": 30001,").expect("written");
    read_until(&mut stdout, "alice");
    let proc = format!("/proc/{}", child.id());
    for name in ["cmdline", "environ"] {
        let seen = fs::read(format!("{proc}/{name}")).expect("readable");
        assert!(!String::from_utf8_lossy(&seen).contains(READER.1), "{name}");
    }
    drop((stdin, stdout));
    let outcome = child.wait_with_output().expect("the end");
    assert_eq!(outcome.status.code(), Some(1), "its input was cut off");
    assert!(!String::from_utf8_lossy(&outcome.stderr).contains(READER.1));
    let log = fs::read_to_string(slapd.dir().join("log")).expect("the log");
    assert!(log.contains(&format!("BIND dn=\"{}\"", READER.0)), "no bind");
}

#[test]
fn a_server_that_dies_or_hangs_in_the_middle_leaves_the_result_open() {
    for (signal, args, expected) in [
        (Signal::SIGKILL, ["--timeout", "30"], "connection lost"),
        (Signal::SIGSTOP, ["--timeout", "5"], "no answer in time"),
    ] {
        let slapd = Slapd::start(&Setup::default());
        let mut resolver = anonymous(&slapd.url());
        let mut child = resolver
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut stdin = child.stdin.take().expect("stdin");
        stdin.write_all(b"{\"a\": 30001,").expect("written");
        read_until(child.stdout.as_mut().expect("stdout"), "alice");
        slapd.signal(signal);
        stdin.write_all(b" \"b\": 30002}").expect("written");
        drop(stdin);
        let outcome = Outcome::from(child.wait_with_output().expect("the end"));
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains(expected), "{outcome:?}");
        assert!(!outcome.stdout.ends_with("}\n"), "{outcome:?}");
    }
}

/// Reads until `text` has been read.
fn read_until(stdout: &mut ChildStdout, text: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        let mut chunk = [0; 1024];
        let count = stdout.read(&mut chunk).expect("read");
        assert_ne!(count, 0, "the output ended early");
        seen.extend_from_slice(&chunk[..count]);
    }
}
