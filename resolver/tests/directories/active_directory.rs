//! Active Directory, with Samba as the server: names to bind with, referrals from the root of the
//! domain, filters on bits.

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use e2e::samba::{BASE_DN, READER, READER_DN, Samba, TLS_URL, URL};
use tempfile::NamedTempFile;

use crate::listing::{assert_failure, assert_resolved, entries, listing, resolver};

const INPUT: &[u8] = br#"{"a": 30001, "b": 100005, "c": 7}"#;
/// The result for it.
const OUTPUT: &str = "{\n  \"a\": {\"30001\": \"alice.johnson@example.com\"},\n  \
    \"b\": {\"100005\": \"u100005@example.com\"},\n  \"c\": {\"7\": \"\"}\n}\n";
/// The output for it if the filter matches no account: the object stays open.
const NO_ACCOUNTS: &str =
    "{\n  \"a\": {\"30001\": \"\"},\n  \"b\": {\"100005\": \"\"},\n  \"c\": {\"7\": \"\"}";

/// The server, which all tests share, since its start takes long. The first test starts it; it ends
/// when no test uses it any more.
pub fn samba() -> Arc<Samba> {
    static SHARED: Mutex<Weak<Samba>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().expect("the server started");
    shared.upgrade().unwrap_or_else(|| {
        let samba = Arc::new(Samba::start(&entries()));
        *shared = Arc::downgrade(&samba);
        samba
    })
}

/// The program, with the options to bind as the reader.
pub fn reader(url: &str, samba: &Samba) -> Command {
    let mut resolver = resolver(url);
    resolver.env("LDAP_BIND_DN", READER.0).env("LDAP_BIND_PASS", READER.1);
    resolver.env("LDAP_CA_FILE", samba.ca_file());
    resolver
}

#[test]
#[ignore = "sets up a server: run by `make test-directories`"]
fn a_user_binds_by_principal_name_dn_or_domain_and_only_over_tls() {
    let samba = samba();
    for name in [READER.0, READER_DN, r"EXAMPLE\reader"] {
        let outcome = samba.run(reader(TLS_URL, &samba).env("LDAP_BIND_DN", name), INPUT);
        assert_eq!((outcome.code, &outcome.stdout[..]), (Some(0), OUTPUT), "{name}: {outcome:?}");
    }
    let outcome = samba.run(reader(URL, &samba).arg("--starttls"), INPUT);
    assert_eq!((outcome.code, &outcome.stdout[..]), (Some(0), OUTPUT), "{outcome:?}");

    let outcome = samba.run(&mut reader(URL, &samba), INPUT);
    assert!(assert_failure(&outcome, 2).contains("`ldap://localhost` demands TLS"), "{outcome:?}");
    let outcome = samba.run(reader(TLS_URL, &samba).env("LDAP_BIND_PASS", "wr0ng"), INPUT);
    let message = assert_failure(&outcome, 2);
    assert!(message.contains("does not accept the password of `reader@example.com`"), "{message}");
    for url in [URL, TLS_URL] {
        let mut anonymous = reader(url, &samba);
        let anonymous = anonymous.env_remove("LDAP_BIND_DN").env_remove("LDAP_BIND_PASS");
        let outcome = samba.run(anonymous, INPUT);
        assert!(assert_failure(&outcome, 2).contains("refuses anonymous access"), "{outcome:?}");
    }
    for base in ["OU=x,DC=example,DC=com", "DC=nowhere,DC=com"] {
        let outcome = samba.run(reader(TLS_URL, &samba).env("LDAP_BASE_DN", base), INPUT);
        let message = assert_failure(&outcome, 2);
        assert!(message.contains(&format!("the base DN `{base}` does not exist")), "{message}");
    }
}

#[test]
#[ignore = "sets up a server: run by `make test-directories`"]
fn referrals_of_the_domain_root_are_counted_and_not_followed() {
    let samba = samba();
    let summary = NamedTempFile::new().expect("a file");
    let referrals = |base: &str, mode: &[&str], input: &str| {
        let mut resolver = reader(TLS_URL, &samba);
        resolver.env("LDAP_BASE_DN", base).args(mode).arg("--summary").arg(summary.path());
        let outcome = samba.run(&mut resolver, input.as_bytes());
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{base} {mode:?}");
        let summary = fs::read_to_string(summary.path()).expect("the summary");
        let summary: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
        (summary["counts"]["referrals"].as_u64(), outcome)
    };
    let (input, _) = listing();
    for mode in [&[][..], &["--enumerate"]] {
        let (count, outcome) = referrals(BASE_DN, mode, &input);
        assert_resolved(&outcome, &format!("{mode:?}"));
        assert_eq!(count, Some(counted_by_ldapsearch(&samba)), "{mode:?}");

        let below = format!("OU=Special Accounts,{BASE_DN}");
        let (count, outcome) = referrals(&below, mode, r#"{"a": 40001, "b": 30001}"#);
        assert_eq!(count, Some(0), "{mode:?}");
        let expected =
            "{\n  \"a\": {\"40001\": \"a@example.com\"},\n  \"b\": {\"30001\": \"\"}\n}\n";
        assert_eq!(outcome.stdout, expected);
    }
}

/// How many referrals `ldapsearch` gets from the root of the domain: at least those to the configuration
/// and to the two DNS zones.
fn counted_by_ldapsearch(samba: &Samba) -> u64 {
    let mut ldapsearch = Command::new("ldapsearch");
    // ldapsearch verifies the machine's name instead of `localhost`; the certificate is not for it.
    ldapsearch.env("LDAPTLS_REQCERT", "never").args(["-x", "-H", TLS_URL, "-b", BASE_DN]);
    ldapsearch.args(["-D", READER.0, "-w", READER.1, "(uidNumber=30001)", "mail"]);
    let outcome = samba.run(&mut ldapsearch, b"");
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let count = outcome.stdout.lines().filter(|line| line.starts_with("ref: ")).count();
    assert!(count >= 3, "{}", outcome.stdout);
    count as u64
}

#[test]
#[ignore = "sets up a server: run by `make test-directories`"]
fn filters_and_attributes_of_active_directory_work() {
    let samba = samba();
    // Only the reader has a password, so all other accounts are disabled.
    let disabled = "(userAccountControl:1.2.840.113556.1.4.803:=2)";
    for (filter, expected) in [
        ("(objectClass=user)", OUTPUT),
        ("(&(objectCategory=person)(objectClass=user))", OUTPUT),
        ("(objectClass=computer)", NO_ACCOUNTS),
        (disabled, OUTPUT),
        (&format!("(!{disabled})"), NO_ACCOUNTS),
    ] {
        let outcome = samba.run(reader(TLS_URL, &samba).args(["--filter", filter]), INPUT);
        let code = if expected == OUTPUT { 0 } else { 2 };
        assert_eq!((outcome.code, &outcome.stdout[..]), (Some(code), expected), "{filter}");
    }
    for (attributes, first) in [
        (
            ["--mail-attr", "userPrincipalName,MAIL"],
            r#""a": {"30001": "alice.johnson@example.com"}"#,
        ),
        (["--mail-attr", "distinguishedName"], r#""a": {"30001": "CN=alice,DC=example,DC=com"}"#),
        (["--mail-attr", "objectClass,mail"], r#""a": {"30001": "organizationalPerson"}"#),
    ] {
        let outcome = samba.run(reader(TLS_URL, &samba).args(attributes), INPUT);
        assert!(outcome.stdout.contains(first), "{attributes:?}: {outcome:?}");
    }
}
