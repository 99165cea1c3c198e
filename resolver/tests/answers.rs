//! The answers for every kind of entry. A real slapd and an LDIF export with the same data must give the
//! same bytes, and the same addresses as `ldapsearch`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use e2e::programs::{Outcome, command, run};
use e2e::slapd::{BASE_DN, Setup, Slapd};
use e2e::{USERS, USERS_LDIF};

/// Entries for each rule that chooses an entry or an address.
const SPECIAL: &str = "\
dn: ou=special,dc=example,dc=com
objectClass: organizationalUnit
ou: special

dn: uid=twice-b,ou=special,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: posixAccount
cn: b
sn: b
uid: twice-b
uidNumber: 40001
gidNumber: 1
homeDirectory: /
mail: b@example.com

dn: UID=Twice-A, ou=special,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: posixAccount
cn: a
sn: a
uid: Twice-A
uidNumber: 40001
gidNumber: 1
homeDirectory: /
mail: a@example.com

dn: uid=aaa-without,ou=special,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: posixAccount
cn: c
sn: c
uid: aaa-without
uidNumber: 40001
gidNumber: 1
homeDirectory: /

dn: uid=many,ou=special,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: posixAccount
cn: many
sn: many
uid: many
uidNumber: 40002
gidNumber: 1
homeDirectory: /
mail: zeta@example.com
mail: Beta@example.com
mail: alpha@example.com
title: title@example.com
employeeType: guest

dn: uid=none,ou=special,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: posixAccount
cn: none
sn: none
uid: none
uidNumber: 40003
gidNumber: 1
homeDirectory: /
title: title@example.com

dn: uid=nobody,ou=special,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: posixAccount
cn: nobody
sn: nobody
uid: nobody
uidNumber: 65534
gidNumber: 1
homeDirectory: /
mail:: bm9ib2R5QGV4YW1wbGUuY29t

dn: cn=alias,ou=special,dc=example,dc=com
objectClass: alias
objectClass: extensibleObject
cn: alias
aliasedObjectName: uid=alice,dc=example,dc=com
uidNumber: 40004

dn: ou=remote,dc=example,dc=com
objectClass: referral
objectClass: extensibleObject
ou: remote
ref: ldap://127.0.0.1:1/ou=remote,dc=example,dc=com
uidNumber: 40005

dn: uid=quote\\22\\0a,ou=special,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: posixAccount
cn: quote
sn: quote
uid:: cXVvdGUiCg==
uidNumber: 40006
gidNumber: 1
homeDirectory: /
mail: a.very.long.address.that.an.export.folds.because.it.is.longer.than.seventy-
 six.characters@example.com
";

const UIDS: &str = r#"{"a": 40001, "b": 40002, "c": 40003, "d": 65534, "e": 40004, "f": 40005, "g": 40006,
    "h": 4294967295, "i": 30001, "j": 99, "k": [30002, 99, 30003], "l": [], "a": 40001}"#;

struct Sources {
    slapd: Slapd,
    ldif: PathBuf,
}

impl Sources {
    fn new() -> Self {
        let slapd = Slapd::start(&Setup { entries: SPECIAL.to_owned(), ..Setup::default() });
        let ldif = slapd.dir().join("export.ldif");
        let users = fs::read_to_string(USERS_LDIF).expect("users.ldif");
        fs::write(&ldif, format!("{users}\n\n{SPECIAL}")).expect("written");
        Self { slapd, ldif }
    }

    /// Runs the program with each source, and asserts that both give the same stdout and exit code.
    /// Returns the outcome with the server.
    fn resolve(&self, args: &[&str], input: &str) -> Outcome {
        let mut from_server = command("resolver");
        from_server.env("LDAP_URL", self.slapd.url()).args(args);
        if !args.contains(&"--base-dn") {
            from_server.env("LDAP_BASE_DN", BASE_DN);
        }
        let server = run(&mut from_server, input.as_bytes());
        let mut from_file = command("resolver");
        from_file.arg("--ldif").arg(&self.ldif).args(args);
        let file = run(&mut from_file, input.as_bytes());
        assert_eq!(server.stdout, file.stdout, "{} {}", server.stderr, file.stderr);
        assert_eq!(server.code, file.code);
        server
    }
}

fn lines(outcome: &Outcome) -> Vec<&str> {
    outcome.stdout.lines().map(|line| line.trim().trim_end_matches(',')).collect()
}

#[test]
fn server_and_export_agree_on_every_rule() {
    let sources = Sources::new();
    let outcome = sources.resolve(&[], UIDS);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let long = "a.very.long.address.that.an.export.folds.because.it.is.longer.than.\
                seventy-six.characters@example.com";
    let expected = [
        "{".to_owned(),
        r#""a": {"40001": "a@example.com"}"#.to_owned(),
        r#""b": {"40002": "Beta@example.com"}"#.to_owned(),
        r#""c": {"40003": ""}"#.to_owned(),
        r#""d": {"65534": "nobody@example.com"}"#.to_owned(),
        r#""e": {"40004": ""}"#.to_owned(),
        r#""f": {"40005": ""}"#.to_owned(),
        format!(r#""g": {{"40006": "{long}"}}"#),
        r#""h": {"4294967295": ""}"#.to_owned(),
        r#""i": {"30001": "alice.johnson@example.com"}"#.to_owned(),
        r#""j": {"99": ""}"#.to_owned(),
        r#""k": {"30002": "bob.smith@example.com", "99": "", "30003": "charlie.brown@example.com"}"#
            .to_owned(),
        r#""l": {}"#.to_owned(),
        r#""a": {"40001": "a@example.com"}"#.to_owned(),
        "}".to_owned(),
    ];
    assert_eq!(lines(&outcome), expected);

    let warnings: Vec<_> = outcome.stderr.lines().collect();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert!(warnings[0].starts_with("Warning: UID 40001 belongs to several entries"));
    assert!(warnings[0].contains("wice-A") && warnings[0].contains("uid=twice-b,"));
    assert!(warnings[0].ends_with("and 1 more"), "{}", warnings[0]);
    assert!(warnings[1].contains("UID 65534 stands for owners that are not mapped"));
    assert!(warnings[2].contains("UID 4294967295"));
    let log = fs::read_to_string(sources.slapd.dir().join("log")).expect("slapd's log");
    assert!(log.contains("uidNumber=40001") && !log.contains("4294967295"), "it was looked up");
    assert_eq!(warnings[3], "Warning: 1 referrals to other servers were not followed");
}

#[test]
fn every_option_means_the_same_for_server_and_export() {
    let sources = Sources::new();
    let input = r#"{"b": 40002, "c": 40003, "i": 30001}"#;
    let emails = |args: &[&str]| {
        let outcome = sources.resolve(args, input);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        let lines = lines(&outcome);
        lines[1..4].iter().map(|line| (*line).to_owned()).collect::<Vec<_>>().join(" ")
    };
    let titles = emails(&["--mail-attr", "title,mail"]);
    assert_eq!(
        titles,
        r#""b": {"40002": "title@example.com"} "c": {"40003": "title@example.com"} "i": {"30001": "alice.johnson@example.com"}"#
    );
    let no_guests = emails(&["--filter", "(!(employeeType=GUEST))"]);
    assert!(no_guests.contains(r#""40002": """#) && no_guests.contains("alice"), "{no_guests}");
    // The alias below this base points to alice, who is not below it.
    let special = emails(&["--base-dn", "OU=special, dc=example,dc=com"]);
    assert!(special.contains("Beta@") && special.contains(r#""30001": """#), "{special}");
    let by_group = emails(&["--uid-attr", "gidNumber"]);
    assert!(by_group.contains("alice") && by_group.contains(r#""40002": """#), "{by_group}");
    let objects = emails(&["--format", "object"]);
    assert!(
        objects.ends_with(r#""i": {"uid": 30001, "email": "alice.johnson@example.com"}"#),
        "{objects}"
    );
}

#[test]
fn several_owners_become_an_array_of_objects() {
    let mut resolver = command("resolver");
    resolver.args(["--format", "object", "--ldif", USERS_LDIF]);
    let outcome = run(&mut resolver, br#"{"k": [30001, 7], "l": []}"#);
    assert_eq!(
        outcome.stdout,
        "{\n  \"k\": [{\"uid\": 30001, \"email\": \"alice.johnson@example.com\"}, \
         {\"uid\": 7, \"email\": \"\"}],\n  \"l\": []\n}\n"
    );
}

#[test]
fn every_url_scheme_gives_the_addresses_of_ldapsearch() {
    let slapd = Slapd::start(&Setup::default());
    let input = r#"{"1": 30001, "2": 30002, "3": 30003, "4": 30004, "5": 30005}"#;
    let urls = [slapd.url(), slapd.tls_url(), slapd.socket_url()];
    // The first server is down; the next one answers.
    let several = format!("ldap://127.0.0.1:1 {}", slapd.url());
    for url in urls.iter().chain([&several]) {
        let mut resolver = command("resolver");
        resolver.env("LDAP_URL", url).env("LDAP_BASE_DN", BASE_DN);
        resolver.env("LDAP_CA_FILE", slapd.ca_file());
        let outcome = run(&mut resolver, input.as_bytes());
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{url}");
        for (uid, mail) in USERS {
            assert!(outcome.stdout.contains(&format!("\"{uid}\": \"{mail}\"")), "{url}");
            assert_eq!(ldapsearch(&slapd, uid), mail);
        }
    }
}

fn ldapsearch(slapd: &Slapd, uid: u32) -> String {
    let output = Command::new("ldapsearch")
        .args(["-LLL", "-x", "-o", "ldif_wrap=no", "-H", &slapd.url(), "-b", BASE_DN])
        .args([&format!("(uidNumber={uid})"), "mail"])
        .output()
        .expect("ldapsearch is installed (Debian package ldap-utils)");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().find_map(|line| line.strip_prefix("mail: ")).unwrap_or_default().to_owned()
}

#[test]
fn each_uid_is_looked_up_once() {
    let slapd = Slapd::start(&Setup::default());
    let pairs: Vec<_> = (0..1000).map(|path| format!("\"{path}\": {}", 30001 + path % 5)).collect();
    let mut resolver = command("resolver");
    resolver.args(["--url", &slapd.url(), "--base-dn", BASE_DN]);
    let outcome = run(&mut resolver, format!("{{{}}}", pairs.join(",")).as_bytes());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!((1..=5).contains(&slapd.searches()), "{} searches", slapd.searches());
}

#[test]
fn twenty_uids_without_any_entry_give_a_warning() {
    let resolve = |count: usize, known: bool| {
        let mut uids: Vec<_> = (0..count).map(|n| format!("\"{n}\": {n}")).collect();
        uids.extend(known.then(|| "\"x\": 30001".to_owned()));
        let mut resolver = command("resolver");
        resolver.args(["--ldif", USERS_LDIF]);
        run(&mut resolver, format!("{{{}}}", uids.join(",")).as_bytes())
    };
    assert!(resolve(20, false).stderr.contains("none of 20 UIDs has an entry"));
    assert_eq!(resolve(19, false).stderr, "");
    assert_eq!(resolve(20, true).stderr, "");
}
