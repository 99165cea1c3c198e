//! Starts a real slapd on free loopback ports.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::certificates::Authority;
use crate::{USERS_LDIF, free_ports, server_path, wait_for};

/// The suffix of the directory.
pub const BASE_DN: &str = "dc=example,dc=com";
/// A user that may read everything, and its password.
pub const READER: (&str, &str) = ("cn=reader,dc=example,dc=com", "r3ader-s3cret");

/// The entries that the users stand below, and the reader.
pub(crate) const ROOT_LDIF: &str = "dn: dc=example,dc=com\nobjectClass: dcObject\nobjectClass: organization\n\
    dc: example\no: Example\n\ndn: cn=reader,dc=example,dc=com\nobjectClass: organizationalRole\n\
    objectClass: simpleSecurityObject\ncn: reader\nuserPassword: r3ader-s3cret\n\n";

/// Settings of a server. By default, it serves TLS, and all users may read.
#[derive(Default)]
pub struct Setup {
    /// More entries, as LDIF.
    pub entries: String,
    /// More lines of slapd.conf for the whole server (`require authc`, say).
    pub global: String,
    /// Access rules; all users may read if `None`.
    pub access: Option<String>,
    /// Leave TLS out.
    pub without_tls: bool,
    /// The name that the certificate is for, and the address, if not `localhost`.
    pub host: Option<(&'static str, Ipv4Addr)>,
}

impl Setup {
    fn host(&self) -> (&'static str, Ipv4Addr) {
        self.host.unwrap_or(("localhost", Ipv4Addr::LOCALHOST))
    }
}

/// A running server, ended when dropped.
pub struct Slapd {
    child: Child,
    dir: TempDir,
    host: (&'static str, Ipv4Addr),
    port: u16,
    tls_port: u16,
}

impl Slapd {
    /// Starts a server with the five users, and waits until it answers.
    ///
    /// # Panics
    /// Panics if slapd is not installed or does not come up.
    pub fn start(setup: &Setup) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        configure(dir.path(), setup);
        for _ in 0..5 {
            // Another process may take a port between the choice and slapd's own listen.
            let [port, tls_port] = free_ports();
            let host = setup.host();
            if let Some(child) = launch(dir.path(), host.1, port, tls_port) {
                return Self { child, dir, host, port, tls_port };
            }
        }
        let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        panic!("slapd does not start:\n{log}");
    }

    /// `ldap://` by its address.
    pub fn url(&self) -> String {
        format!("ldap://{}:{}", self.host.1, self.port)
    }

    /// `ldaps://` by the host name that the certificate is for.
    pub fn tls_url(&self) -> String {
        format!("ldaps://{}:{}", self.host.0, self.tls_port)
    }

    /// `ldapi://` of its socket.
    pub fn socket_url(&self) -> String {
        socket_url(self.dir.path())
    }

    /// The port of `ldap://`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of `ldaps://`.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// The certificate of the authority that the server's own is signed by.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The directory of the server. The test may create files there.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// How many searches the log of the server has.
    ///
    /// # Panics
    /// Panics if the log cannot be read.
    pub fn searches(&self) -> usize {
        let log = fs::read_to_string(self.dir.path().join("log")).expect("slapd's log");
        log.matches(" SRCH base=").count()
    }

    /// Sends the server a signal: `SIGKILL` for a crash, `SIGSTOP` for a server that hangs.
    ///
    /// # Panics
    /// Panics if the server has ended.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("a running slapd");
    }

    /// Kills the server.
    ///
    /// # Panics
    /// Panics if this fails.
    pub fn crash(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("its end");
    }

    /// Starts the server again after a [`crash`](Self::crash), with a new log.
    ///
    /// # Panics
    /// Panics if the server does not come up.
    pub fn restart(&mut self) {
        let launched = launch(self.dir.path(), self.host.1, self.port, self.tls_port);
        self.child = launched.expect("slapd starts again");
    }
}

/// `count` users from UID 100000 on, as LDIF for [`Setup::entries`]: `u100000@example.com` and so on.
pub fn many_users(count: u32) -> String {
    let user = |uid| {
        format!(
            "dn: uid=u{uid},{BASE_DN}\nobjectClass: account\nobjectClass: posixAccount\n\
             objectClass: extensibleObject\ncn: u\nuid: u{uid}\nuidNumber: {uid}\ngidNumber: 1\n\
             homeDirectory: /\nmail: u{uid}@example.com\n\n"
        )
    };
    (100_000..100_000 + count).map(user).collect()
}

/// The five users and these entries, as LDIF.
pub(crate) fn users_and(entries: &str) -> String {
    let users = fs::read_to_string(USERS_LDIF).expect("users.ldif");
    format!("{}\n\n{entries}", users.replacen("version: 1\n", "", 1))
}

impl Drop for Slapd {
    fn drop(&mut self) {
        // The test may have killed it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket_url(dir: &Path) -> String {
    format!("ldapi://{}", dir.join("socket").to_str().expect("UTF-8").replace('/', "%2F"))
}

fn configure(dir: &Path, setup: &Setup) {
    fs::create_dir(dir.join("db")).expect("a database directory");
    let authority = Authority::new(dir, "ca");
    let (certificate, key) = authority.issue("server", &[setup.host().0]);
    let data = format!("{ROOT_LDIF}{}", users_and(&setup.entries));
    fs::write(dir.join("data.ldif"), data).expect("written");
    let tls = format!(
        "TLSCertificateFile {}\nTLSCertificateKeyFile {}\n",
        certificate.display(),
        key.display()
    );
    let config = format!(
        "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
         include /etc/ldap/schema/nis.schema\ninclude /etc/ldap/schema/inetorgperson.schema\n\
         modulepath /usr/lib/ldap\nmoduleload back_mdb\nidletimeout 0\n{tls}{global}\n\
         database mdb\nsuffix {BASE_DN}\ndirectory {db}\nmaxsize 1073741824\n\
         rootdn cn=admin,{BASE_DN}\nrootpw adm1n\nindex objectClass,uidNumber eq\n{access}\n",
        tls = if setup.without_tls { "" } else { &tls },
        global = setup.global,
        db = dir.join("db").display(),
        access = setup.access.as_deref().unwrap_or("access to * by * read"),
    );
    fs::write(dir.join("slapd.conf"), config).expect("written");
    let added = Command::new("slapadd")
        .env("PATH", server_path())
        .args(["-q", "-f"])
        .arg(dir.join("slapd.conf"))
        .arg("-l")
        .arg(dir.join("data.ldif"))
        .output()
        .expect("slapadd is installed (Debian package slapd)");
    assert!(added.status.success(), "slapadd: {}", String::from_utf8_lossy(&added.stderr));
}

fn launch(dir: &Path, address: Ipv4Addr, port: u16, tls_port: u16) -> Option<Child> {
    let urls = format!("ldap://{address}:{port} ldaps://{address}:{tls_port} {}", socket_url(dir));
    let mut child = Command::new("slapd")
        .env("PATH", server_path())
        .args(["-d", "stats", "-h", &urls, "-f"])
        .arg(dir.join("slapd.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(dir.join("log")).expect("a log"))
        .spawn()
        .expect("slapd is installed (Debian package slapd)");
    let mut exited = false;
    wait_for("slapd to listen", || {
        exited = child.try_wait().expect("slapd's state").is_some();
        let address = (address, port).into();
        let listens = TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok();
        exited || listens && UnixStream::connect(dir.join("socket")).is_ok()
    });
    (!exited).then_some(child)
}
