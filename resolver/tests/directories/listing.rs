//! A listing, the entries for it, and the result that every source must give.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use e2e::USERS_LDIF;
use e2e::programs::{Outcome, command};
use e2e::slapd::{BASE_DN, many_users};

/// Enough for many batches, and for more than two pages of 1000 entries.
pub const USERS: u32 = 3000;
/// One path in this many has an unknown UID.
const MISSES: u32 = 7;

/// Accounts with unusual names and addresses.
const SPECIAL: &str = r"dn: ou=Special Accounts,dc=example,dc=com
objectClass: organizationalUnit
ou: Special Accounts

dn: uid=twice-b,ou=Special Accounts,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: posixAccount
cn: b
sn: b
uid: twice-b
uidNumber: 40001
gidNumber: 1
homeDirectory: /
mail: b@example.com

dn: UID=Twice-A, OU=Special  Accounts,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: posixAccount
cn: a
sn: a
uid: Twice-A
uidNumber: 40001
gidNumber: 1
homeDirectory: /
mail: a@example.com

dn: uid=aaa-without,ou=Special Accounts,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: posixAccount
cn: c
sn: c
uid: aaa-without
uidNumber: 40001
gidNumber: 1
homeDirectory: /

dn: uid=none,ou=Special Accounts,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: posixAccount
cn: none
sn: none
uid: none
uidNumber: 40003
gidNumber: 1
homeDirectory: /

dn: uid=nobody,ou=Special Accounts,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: posixAccount
cn: nobody
sn: nobody
uid: nobody
uidNumber: 65534
gidNumber: 1
homeDirectory: /
mail: nobody@example.com

dn: uid=J\C3\BCrgen \22Q\22\, the \2B \3C3rd\3E,ou=Special Accounts,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: posixAccount
cn: Q
sn: Q
uid:: SsO8cmdlbiAiUSIsIHRoZSArIDwzcmQ+
uidNumber: 40006
gidNumber: 1
homeDirectory: /
mail: a.very.long.address.that.an.export.folds.because.it.is.longer.than.seventy-
 six.characters@example.com

";

/// The other pairs of the listing, with the value of each in the result.
const PAIRS: [(&str, &str, &str); 11] = [
    ("two accounts", "40001", r#"{"40001": "a@example.com"}"#),
    ("no address", "40003", r#"{"40003": ""}"#),
    ("not mapped", "65534", r#"{"65534": "nobody@example.com"}"#),
    (
        "a long address",
        "40006",
        r#"{"40006": "a.very.long.address.that.an.export.folds.because.it.is.longer.than.seventy-six.characters@example.com"}"#,
    ),
    ("no user", "4294967295", r#"{"4294967295": ""}"#),
    ("root", "0", r#"{"0": ""}"#),
    ("none", "[]", "{}"),
    (
        "several",
        "[30002, 99, 30003, 40001]",
        r#"{"30002": "bob.smith@example.com", "99": "", "30003": "charlie.brown@example.com", "40001": "a@example.com"}"#,
    ),
    (r#"\"quoted\"\n\\ \/ \u0000\u001b[31m"#, "30001", r#"{"30001": "alice.johnson@example.com"}"#),
    (r"not UTF-8: \udcff\udc80, (uid=*), *", "30004", r#"{"30004": "diana.prince@example.com"}"#),
    ("\u{1f980} \u{202e} $(reboot)", "30005", r#"{"30005": "teamlead@example.com"}"#),
];

/// The entries of a server, without the five users, as LDIF.
pub fn entries() -> String {
    format!("{SPECIAL}{}", many_users(USERS))
}

/// All entries of a server, as an export.
pub fn export() -> String {
    let users = fs::read_to_string(USERS_LDIF).expect("users.ldif");
    format!("{users}\n\n{}", entries())
}

/// The listing, and its result.
pub fn listing() -> (String, String) {
    let (mut input, mut output) = ("{".to_owned(), "{".to_owned());
    let mut pair = |name: &str, uids: &str, answer: &str| {
        let comma = if output.len() == 1 { "" } else { "," };
        write!(input, "{comma}\n  \"{name}\": {uids}").expect("written");
        write!(output, "{comma}\n  \"{name}\": {answer}").expect("written");
    };
    PAIRS.iter().for_each(|(name, uids, answer)| pair(name, uids, answer));
    for n in 0..USERS + 500 {
        let (uid, mail) = match n.is_multiple_of(MISSES) {
            true => (1000 + n, String::new()),
            false => (100_000 + n % USERS, format!("u{}@example.com", 100_000 + n % USERS)),
        };
        pair(&format!("/p/{n}"), &uid.to_string(), &format!("{{\"{uid}\": \"{mail}\"}}"));
    }
    (input + "\n}\n", output + "\n}\n")
}

/// The program, with the options for this server.
pub fn resolver(url: &str) -> Command {
    let mut resolver = command("resolver");
    resolver.env("LDAP_URL", url).env("LDAP_BASE_DN", BASE_DN);
    resolver
}

/// Asserts that a run gave the whole result.
pub fn assert_resolved(outcome: &Outcome, what: &str) {
    assert_eq!(outcome.code, Some(0), "{what}: {}", outcome.stderr);
    let (_, expected) = listing();
    let differ = outcome.stdout.lines().zip(expected.lines()).find(|(got, wanted)| got != wanted);
    assert!(outcome.stdout == expected, "{what}: {differ:?}");
}

/// Asserts that a run failed with `code`, one line on stderr and nothing on stdout. Returns the line.
pub fn assert_failure(outcome: &Outcome, code: i32) -> &str {
    assert_eq!((outcome.code, &outcome.stdout[..]), (Some(code), ""), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    assert!(outcome.stderr.starts_with("resolver: "), "{}", outcome.stderr);
    &outcome.stderr
}
