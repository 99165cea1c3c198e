//! Provokes each message that the guides explain, and compares it with the program's real output.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::certificates::Authority;
use e2e::programs::{Outcome, command, copy_program, program, run};
use e2e::slapd::{BASE_DN, READER, Setup, Slapd};
use e2e::{is_root, skip_unless_root};
use tempfile::TempDir;

use crate::complaints::RELOADER_MESSAGES;
use crate::tools::read;

/// A message as in the guides, with `...` for variable parts, and a function that provokes it and returns
/// the output. The output is empty if the function needs root and the test does not run as root.
pub type Symptom = (&'static str, fn() -> String);

const GUIDES: [&str; 2] = ["docs/OPERATIONS.md", "docs/BEREITSTELLUNG.de.md"];
/// The heads of the first column of tables that list messages.
const HEADS: [&str; 5] =
    ["Message goes on", "The message says", "The provisioner says", "The reloader says", "Was zu"];
/// Messages of Kubernetes, Keycloak and nginx, which are not provoked here.
const OF_OTHER_PROGRAMS: [&str; 6] = [
    "ImagePullBackOff",
    "Multi-Attach error",
    "Pending",
    "build time options have values that differ from what is persisted",
    "could not merge",
    "host not found in upstream",
];

const SCAN_MESSAGES: [Symptom; 14] = [
    ("scan-uids: failed to read `/mnt/data/project1`: permission denied", unreadable),
    ("scan-uids: failed to stat `/mnt/data/project1`: permission denied", unreachable),
    ("Warning: /mnt/data/project1 is not a directory, skipping", missing),
    // An invalid host name fails without a name server.
    ("failed to look up ...: name or service not known", || dial("ldap://-nosuch.invalid")),
    ("failed to connect to ...: connection refused", || dial("ldap://127.0.0.1:9")),
    ("... no answer within ...", silent),
    ("... does not accept the password of ...: invalidCredentials", wrong_password),
    (
        "the certificate of ... is not signed by a trusted authority (LDAP_CA_FILE names a private one)",
        untrusted,
    ),
    ("the certificate of ... is not valid for the host name ...", other_name),
    ("the base DN ... does not exist on ... (or must not be seen): noSuchObject", no_base),
    (
        "... is neither ldaps:// nor secured by StartTLS (LDAP_STARTTLS), and TLS is required \
         (LDAP_REQUIRE_TLS)",
        || ask("ldap://127.0.0.1:9", &[("LDAP_REQUIRE_TLS", "true")]),
    ),
    ("... StartTLS refused: ...", no_tls),
    (
        "UID 65534 stands for owners that are not mapped: check hostUsers and NFS id mapping where the \
         scan ran",
        unmapped,
    ),
    (
        "... no entry with ... below ...: the right to read it may be missing, or the base DN, the \
         filter or the name of the attribute is wrong",
        || ask(&directory().url(), &[("LDAP_UID_ATTR", "employeeNumber")]),
    ),
];

const PROVISIONER_MESSAGES: [Symptom; 12] = [
    ("published: ...", || Volume::default().publish(&[])),
    ("unchanged: ...", || {
        let volume = Volume::default();
        volume.publish(&[]);
        volume.publish(&[])
    }),
    ("pinned to sha256:...: not published", pinned),
    ("failed to open `/zeta-guard-provisioning`", || {
        output_of(run(
            command("provisioner").arg("--target").arg(Volume::default().path("volume")),
            b"",
        ))
    }),
    ("... is empty: --allow-empty ...", || {
        let volume = Volume::default();
        fs::remove_file(volume.path("source/file")).expect("removed");
        volume.publish(&[])
    }),
    ("... bytes free, ... less than a new version takes", full),
    ("... cannot be published: ...", || {
        let volume = Volume::default();
        std::os::unix::fs::symlink("/etc", volume.path("source/link")).expect("a link");
        volume.publish(&[])
    }),
    ("not what SHA256SUMS says: ...", || {
        let volume = Volume::default();
        let sum = "0".repeat(64);
        fs::write(volume.path("source/SHA256SUMS"), format!("{sum}  file\n")).expect("a file");
        volume.publish(&[])
    }),
    ("there is no ...SHA256SUMS", || Volume::default().publish(&["--require-checksums"])),
    ("the check `...` refused the tree: ...", || Volume::default().publish(&["--check", "false"])),
    ("failed to run the check `...`", || {
        Volume::default().publish(&["--check", "/usr/local/bin/no-such-check"])
    }),
    ("failed to create ...: permission denied", not_permitted),
];

fn output_of(outcome: Outcome) -> String {
    outcome.stdout + &outcome.stderr
}

/// A temporary directory with a source, which holds a file, and an empty volume.
struct Volume(TempDir);

impl Default for Volume {
    fn default() -> Self {
        let place = TempDir::new().expect("a directory");
        for dir in ["source", "volume"] {
            fs::create_dir(place.path().join(dir)).expect("a directory");
        }
        fs::write(place.path().join("source/file"), "first\n").expect("a file");
        Self(place)
    }
}

impl Volume {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn call(&self, program: &mut Command, args: &[&str]) -> String {
        program.args(args).args(["--grace", "0", "--target"]).arg(self.path("volume"));
        output_of(run(program, b""))
    }

    fn publish(&self, args: &[&str]) -> String {
        self.call(command("provisioner").arg("--source").arg(self.path("source")), args)
    }
}

fn pinned() -> String {
    let volume = Volume::default();
    volume.publish(&[]);
    fs::write(volume.path("source/file"), "second\n").expect("a file");
    volume.publish(&[]);
    volume.call(&mut command("provisioner"), &["rollback"]);
    volume.publish(&[])
}

/// A command that unshares the namespaces in `options`, and the user namespace unless root runs it.
pub fn unshare(options: &[&str]) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(options).args(if is_root() { &[][..] } else { &["--map-root-user"] });
    unshare
}

fn full() -> String {
    let volume = Volume::default();
    fs::write(volume.path("source/file"), vec![b'x'; 300_000]).expect("it");
    let mut small = unshare(&["--mount"]);
    let script =
        "mount -t tmpfs -o size=64k tmpfs \"$3\" && exec \"$1\" --source \"$2\" --target \"$3\"";
    small.args(["sh", "-c", script, "sh"]).arg(program("provisioner"));
    output_of(run(small.arg(volume.path("source")).arg(volume.path("volume")), b""))
}

/// A program as an unprivileged user: user 65534 if root runs the test, otherwise the same user.
pub fn without_rights(name: &str, place: &Path) -> Command {
    fs::set_permissions(place, Permissions::from_mode(0o755)).expect("its mode");
    let program = copy_program(name, place);
    if !is_root() {
        return Command::new(program);
    }
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
    setpriv
}

fn not_permitted() -> String {
    let volume = Volume::default();
    fs::set_permissions(volume.path("volume"), Permissions::from_mode(0o555)).expect("its mode");
    let mut other = without_rights("provisioner", volume.0.path());
    volume.call(other.arg("--source").arg(volume.path("source")), &[])
}

/// The message of scan-uids about a directory of mode 000, or about `inner` inside that directory.
fn forbidden(inner: &str, options: &[&str]) -> String {
    let place = TempDir::new().expect("a directory");
    let dir = place.path().join("closed");
    fs::create_dir_all(dir.join(inner)).expect("directories");
    fs::set_permissions(&dir, Permissions::from_mode(0o000)).expect("its mode");
    let mut scan = without_rights("scan-uids", place.path());
    let shown = if inner.is_empty() { dir.clone() } else { dir.join(inner) };
    let output_of = output_of(run(scan.args(options).arg(&shown), b""));
    // The temporary directory must be removable.
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).expect("its mode");
    output_of.replace(&shown.display().to_string(), "/mnt/data/project1")
}

fn unreadable() -> String {
    forbidden("", &["--recursive"])
}

fn unreachable() -> String {
    forbidden("project1", &[])
}

fn missing() -> String {
    output_of(run(command("scan-uids").arg("/mnt/data/project1"), b""))
}

/// Resolves one UID by a server and returns the output.
fn ask(url: &str, settings: &[(&str, &str)]) -> String {
    let mut resolver = command("resolver");
    resolver.env("LDAP_URL", url).env("LDAP_BASE_DN", BASE_DN).envs(settings.iter().copied());
    output_of(run(&mut resolver, b"{\"/mnt/data\": 30001}"))
}

fn dial(url: &str) -> String {
    let output = ask(url, &[]);
    assert!(output.contains("ldap dial after 5 retries: "), "{output}");
    output
}

fn silent() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ldaps://{}", listener.local_addr().expect("an address"));
    ask(&url, &[("LDAP_TIMEOUT", "1")])
}

fn directory() -> Slapd {
    Slapd::start(&Setup::default())
}

fn wrong_password() -> String {
    let account = [("LDAP_BIND_DN", READER.0), ("LDAP_BIND_PASS", "change-me")];
    ask(&directory().url(), &account)
}

fn untrusted() -> String {
    let place = TempDir::new().expect("a directory");
    Authority::new(place.path(), "other");
    let file = place.path().join("other.pem");
    ask(&directory().tls_url(), &[("LDAP_CA_FILE", file.to_str().expect("UTF-8"))])
}

fn other_name() -> String {
    let slapd = directory();
    let url = format!("ldaps://127.0.0.1:{}", slapd.tls_port());
    ask(&url, &[("LDAP_CA_FILE", slapd.ca_file().to_str().expect("UTF-8"))])
}

fn no_base() -> String {
    ask(&directory().url(), &[("LDAP_BASE_DN", "ou=nobody,dc=example,dc=com")])
}

fn unmapped() -> String {
    let place = TempDir::new().expect("a directory");
    let users = place.path().join("users.ldif");
    fs::write(&users, "dn: uid=a\nuidNumber: 30001\nmail: a@example.com\n").expect("a file");
    let mut resolver = command("resolver");
    output_of(run(resolver.arg("--ldif").arg(users), b"{\"/mnt/data\": 65534}"))
}

fn no_tls() -> String {
    let slapd = Slapd::start(&Setup { without_tls: true, ..Setup::default() });
    ask(&slapd.url(), &[("LDAP_STARTTLS", "true")])
}

/// Whether a text contains the parts of a message in order.
fn is_in(message: &str, text: &str) -> bool {
    let mut rest = text;
    message.split("...").all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

fn symptoms() -> impl Iterator<Item = &'static Symptom> {
    SCAN_MESSAGES.iter().chain(&PROVISIONER_MESSAGES).chain(&RELOADER_MESSAGES)
}

fn try_all(symptoms: &[Symptom]) {
    let guides = GUIDES.map(read).concat();
    for (message, real) in symptoms {
        // A message may be broken across lines.
        let guides = guides.replace('\n', " ");
        assert!(guides.contains(message), "no guide explains: {message}");
        let real = real();
        if real.is_empty() && skip_unless_root("provokes a message as another user") {
            continue;
        }
        assert!(is_in(message, &real), "{message}\nreal output:\n{real}");
    }
}

#[test]
fn the_guides_quote_real_messages_of_scans() {
    try_all(&SCAN_MESSAGES);
}

#[test]
fn the_guides_quote_real_messages_of_provisioner() {
    try_all(&PROVISIONER_MESSAGES);
}

#[test]
fn the_guides_quote_real_messages_of_reloader() {
    try_all(&RELOADER_MESSAGES);
}

/// The first code span in a table cell.
fn code(cell: &str) -> Option<&str> {
    let (_, rest) = cell.split_once('`')?;
    match rest.strip_prefix('`') {
        Some(rest) => rest.split("``").next().map(str::trim),
        None => rest.split('`').next(),
    }
}

#[test]
fn every_message_in_the_guides_is_provoked() {
    let mut count = 0;
    for guide in GUIDES {
        let content = read(guide);
        let mut is_message_table = false;
        for line in content.lines() {
            let Some(row) = line.strip_prefix("| ") else {
                is_message_table &= line.starts_with('|');
                continue;
            };
            let cell = row.split(" | ").next().expect("a cell");
            is_message_table |= HEADS.iter().any(|head| cell.starts_with(head));
            let message = code(cell).filter(|message| !OF_OTHER_PROGRAMS.contains(message));
            if let Some(message) = message.filter(|_| is_message_table) {
                count += 1;
                let is_tried = symptoms().any(|(tried, _)| tried == &message);
                assert!(is_tried, "{guide}: {message}");
            }
        }
    }
    assert!(count > 30, "{count}");
}
