//! Starts a real Samba domain controller for Active Directory, in a private network namespace.
//!
//! Samba serves LDAP on the ports 389 and 636 and no others. So it has a network namespace with
//! nothing in it but loopback, which programs that ask it must [enter](Samba::run).

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use tempfile::TempDir;

use crate::certificates::Authority;
use crate::programs::{Outcome, run};
use crate::slapd::users_and;
use crate::{server_path, wait_for};

/// The root of the domain.
pub const BASE_DN: &str = "DC=example,DC=com";
/// A user without special rights, and its password; bound by the principal name, as administrators
/// of Active Directory do.
pub const READER: (&str, &str) = ("reader@example.com", "r3ader-s3cret");
/// The same user by its DN.
pub const READER_DN: &str = "CN=reader,CN=Users,DC=example,DC=com";

/// `ldap://` within the server's network.
pub const URL: &str = "ldap://localhost";
/// `ldaps://` within the server's network.
pub const TLS_URL: &str = "ldaps://localhost";

/// Adds entries to the database of a domain controller that does not run, in one transaction,
/// and the reader.
const LOAD: &str = "\
import sys
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB
configuration, name, password = sys.argv[1:]
parameters = LoadParm()
parameters.load(configuration)
url = parameters.private_path('sam.ldb')
database = SamDB(url=url, session_info=system_session(), lp=parameters)
database.newuser(name, password)
database.transaction_start()
database.add_ldif(sys.stdin.read())
database.transaction_commit()
";

/// A running server, ended when dropped.
pub struct Samba {
    child: Child,
    dir: TempDir,
    network: File,
}

impl Samba {
    /// Starts a server with the five users and these entries more, which are given as slapd
    /// would take them, and waits until it answers.
    ///
    /// # Panics
    /// Panics if Samba is not installed, this is not root, or it does not come up.
    pub fn start(entries: &str) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        provision(dir.path());
        load(dir.path(), &as_active_directory(&users_and(entries)));
        // A namespace belongs to a thread, and to what that starts.
        let launched = std::thread::scope(|scope| scope.spawn(|| launch(dir.path())).join());
        let (child, network) = launched.expect("samba starts");
        Self { child, dir, network }
    }

    /// Runs a command in the server's network to its end, with `input` on its stdin.
    ///
    /// # Panics
    /// Panics if it cannot be started or waited for.
    pub fn run(&self, command: &mut Command, input: &[u8]) -> Outcome {
        let inside = || {
            setns(&self.network, CloneFlags::CLONE_NEWNET).expect("the network, as root");
            run(command, input)
        };
        std::thread::scope(|scope| scope.spawn(inside).join()).expect("run")
    }

    /// The certificate of the authority that the server's own is signed by.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }
}

impl Drop for Samba {
    fn drop(&mut self) {
        // All of it is one process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn smb_conf(dir: &Path) -> PathBuf {
    dir.join("etc/smb.conf")
}

/// Makes a domain in `dir`, with the zones for DNS that refer to each other in every domain.
fn provision(dir: &Path) {
    let authority = Authority::new(dir, "ca");
    let (_, key) = authority.issue("server", &["localhost"]);
    // Samba uses no key that others may read.
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).expect("chmod");
    let here = dir.display();
    let settings = format!(
        "[global]\ninterfaces = lo\nbind interfaces only = yes\nserver services = ldap\n\
         pid directory = {here}/run\nncalrpc dir = {here}/run/ncalrpc\n\
         winbindd socket directory = {here}/run/winbindd\nusershare path = {here}/run\n\
         logging = file\nlog file = {here}/log\ntls certfile = {here}/server.crt\n\
         tls keyfile = {here}/server.key\ntls cafile = {here}/ca.pem\n"
    );
    fs::create_dir(dir.join("run")).expect("a directory");
    let file = dir.join("settings.conf");
    fs::write(&file, settings).expect("written");
    let provisioned = Command::new("samba-tool")
        .args(["domain", "provision", "--use-rfc2307", "--server-role=dc"])
        .args(["--realm=EXAMPLE.COM", "--domain=EXAMPLE", "--host-name=dc"])
        .args(["--dns-backend=SAMBA_INTERNAL", "--host-ip=127.0.0.1"])
        .args([format!("--targetdir={here}"), format!("--configfile={}", file.display())])
        .output()
        .expect("samba-tool is installed (Debian package samba-common-bin)");
    let log = String::from_utf8_lossy(&provisioned.stderr);
    assert!(provisioned.status.success(), "samba-tool (as root?): {log}");
}

/// The same entries as Active Directory keeps them: accounts are of the class `user` and named by
/// `cn`, which a user has one of.
fn as_active_directory(ldif: &str) -> String {
    let mut entries = String::new();
    for entry in ldif.split("\n\n").filter(|entry| !entry.trim().is_empty()) {
        if !entry.contains("objectClass: posixAccount") {
            entries.push_str(&format!("{}\n\n", entry.trim_start()));
            continue;
        }
        for line in entry.trim_start().lines() {
            match line.split_once(": ") {
                Some(("dn", dn)) => {
                    let name = dn.split_once('=').map_or(dn, |(_, name)| name);
                    entries.push_str(&format!("dn: CN={name}\nobjectClass: user\n"));
                }
                Some(("objectClass" | "cn", _)) => {}
                _ => entries.push_str(&format!("{line}\n")),
            }
        }
        entries.push('\n');
    }
    entries
}

fn load(dir: &Path, entries: &str) {
    // The system's Python is the one that has Samba's modules.
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", LOAD]).arg(smb_conf(dir)).args(["reader", READER.1]);
    let outcome = run(&mut python, entries.as_bytes());
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
}

/// Starts the server in a new network, which this thread stays in.
fn launch(dir: &Path) -> (Child, File) {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network of its own, as root");
    let network = File::open("/proc/thread-self/ns/net").expect("the network");
    let up = Command::new("ip")
        .env("PATH", server_path())
        .args(["link", "set", "lo", "up"])
        .status()
        .expect("ip is installed (Debian package iproute2)");
    assert!(up.success());
    let mut child = Command::new("samba")
        .env("PATH", server_path())
        .args(["--interactive", "--model=single", "--debug-stdout", "--configfile"])
        .arg(smb_conf(dir))
        // It ends when this ends, even if the test is killed.
        .stdin(Stdio::piped())
        .stdout(File::create(dir.join("out")).expect("a log"))
        .stderr(Stdio::null())
        .spawn()
        .expect("samba is installed (Debian package samba)");
    wait_for("samba to listen", || {
        let exited = child.try_wait().expect("its state");
        let log = || fs::read_to_string(dir.join("out")).unwrap_or_default();
        assert!(exited.is_none(), "samba does not start:\n{}", log());
        let address = (Ipv4Addr::LOCALHOST, 636).into();
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
    });
    (child, network)
}
