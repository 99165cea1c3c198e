//! Starts a real 389 Directory Server on free loopback ports.
//!
//! `dscreate` sets it up from a file, as people do. What it writes, it writes below paths that
//! `defaults.inf` names; a copy of that file, found through `PREFIX`, moves all of them into a
//! temporary directory. One file is left outside: a semaphore in `/dev/shm`, named after the
//! instance, which is named after the directory and so the only one of this name.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::programs::run;
use crate::slapd::{BASE_DN, ROOT_LDIF, users_and};
use crate::{free_ports, server_path, wait_for};

/// The file in which the Debian package lists all paths.
const DEFAULTS: &str = "/usr/share/dirsrv/inf/defaults.inf";
/// The user that may change settings, and its password.
const MANAGER: (&str, &str) = ("cn=Directory Manager", "adm1n-s3cret");

/// The entry that holds most settings.
pub const CONFIG: &str = "cn=config";
/// The entry that holds the settings of databases.
pub const DATABASE: &str = "cn=config,cn=ldbm database,cn=plugins,cn=config";

/// Settings of a server. By default, they are those of `dscreate`, and all users may read.
#[derive(Default)]
pub struct Setup {
    /// More entries, as LDIF.
    pub entries: String,
    /// The users that may read (`userdn = "ldap:///..."`); all if `None`.
    pub readers: Option<String>,
    /// Leave out the index on UIDs that new servers have.
    pub unindexed: bool,
}

/// A running server, ended when dropped.
pub struct DirSrv {
    child: Child,
    dir: TempDir,
    port: u16,
    tls_port: u16,
}

impl DirSrv {
    /// Starts a server with the five users, and waits until it answers.
    ///
    /// # Panics
    /// Panics if 389 Directory Server is not installed, this is not root, or it does not come up.
    pub fn start(setup: &Setup) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        create(dir.path());
        import(dir.path(), setup);
        let dse = config_dir(dir.path()).join("dse.ldif");
        let created = fs::read_to_string(&dse).expect("the configuration");
        for _ in 0..5 {
            // Another process may take a port between the choice and the server's own listen.
            let [port, tls_port] = free_ports();
            fs::write(&dse, configured(&created, setup, port, tls_port)).expect("written");
            if let Some(child) = launch(dir.path(), port) {
                return Self { child, dir, port, tls_port };
            }
        }
        let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        panic!("ns-slapd does not start:\n{log}");
    }

    /// `ldap://` on loopback.
    pub fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    /// `ldap://` by the host name that the certificate is for.
    pub fn named_url(&self) -> String {
        format!("ldap://localhost:{}", self.port)
    }

    /// `ldaps://` by the host name that the certificate is for.
    pub fn tls_url(&self) -> String {
        format!("ldaps://localhost:{}", self.tls_port)
    }

    /// The certificate of the authority that `dscreate` made and signed the server's own with.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("etc/dirsrv/ssca/ca.crt")
    }

    /// Changes a setting of [`CONFIG`] or [`DATABASE`], as its administrators do.
    ///
    /// # Panics
    /// Panics if the server refuses.
    pub fn set(&self, entry: &str, name: &str, value: &str) {
        let change = format!("dn: {entry}\nchangetype: modify\nreplace: {name}\n{name}: {value}\n");
        let mut modify = Command::new("ldapmodify");
        modify.args(["-x", "-H", &self.url(), "-D", MANAGER.0, "-w", MANAGER.1]);
        let outcome = run(&mut modify, change.as_bytes());
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    }

    /// How many searches the log of the server has.
    ///
    /// # Panics
    /// Panics if the log cannot be read.
    pub fn searches(&self) -> usize {
        let log = fs::read_to_string(log_dir(self.dir.path()).join("access"));
        log.expect("the access log").matches(&format!(" SRCH base=\"{BASE_DN}\" scope=2")).count()
    }

    /// Kills the server.
    ///
    /// # Panics
    /// Panics if this fails.
    pub fn crash(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("its end");
    }

    /// Starts the server again after a [`crash`](Self::crash).
    ///
    /// # Panics
    /// Panics if the server does not come up.
    pub fn restart(&mut self) {
        self.child = launch(self.dir.path(), self.port).expect("ns-slapd starts again");
    }
}

impl Drop for DirSrv {
    fn drop(&mut self) {
        // The test may have killed it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A killed server leaves this file behind.
        let _ = fs::remove_file(format!("/dev/shm/sem.{}.stats", instance(self.dir.path())));
    }
}

/// The name of the instance, as far as files go.
fn instance(dir: &Path) -> String {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    format!("slapd-e2e{}", name.trim_start_matches('.'))
}

fn config_dir(dir: &Path) -> PathBuf {
    dir.join("etc/dirsrv").join(instance(dir))
}

fn log_dir(dir: &Path) -> PathBuf {
    dir.join("var/log/dirsrv").join(instance(dir))
}

/// Makes an instance in `dir` that does not run.
///
/// `dscreate` starts it for a while, on all addresses: it has networks and processes of its own
/// meanwhile, which end with it.
fn create(dir: &Path) {
    let defaults = fs::read_to_string(DEFAULTS).expect("389-ds-base is installed (Debian package)");
    fs::create_dir_all(dir.join("share/dirsrv/inf")).expect("a directory");
    fs::write(dir.join("share/dirsrv/inf/defaults.inf"), moved(&defaults, dir)).expect("written");
    fs::create_dir_all(dir.join("etc/dirsrv")).expect("a directory");
    for name in ["run", "tmp"] {
        fs::create_dir(dir.join(name)).expect("a directory");
    }
    for name in ["config", "schema"] {
        let copied = Command::new("cp")
            .arg("-r")
            .arg(Path::new("/etc/dirsrv").join(name))
            .arg(dir.join("etc/dirsrv"))
            .status();
        assert!(copied.expect("cp").success());
    }
    let settings = format!(
        "[general]\nfull_machine_name = localhost\nselinux = False\nsystemd = False\n\
         start = False\n[slapd]\ninstance_name = {}\nroot_password = {}\n\
         [backend-userroot]\nsuffix = {BASE_DN}\n",
        instance(dir).trim_start_matches("slapd-"),
        MANAGER.1
    );
    fs::write(dir.join("instance.inf"), settings).expect("written");
    let created = Command::new("unshare")
        .env("PATH", server_path())
        .env("PREFIX", dir)
        .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"])
        .args(["ip link set lo up && exec dscreate from-file \"$0\""])
        .arg(dir.join("instance.inf"))
        .output()
        .expect("unshare");
    let (stdout, stderr) = (&created.stdout, String::from_utf8_lossy(&created.stderr));
    let stdout = String::from_utf8_lossy(stdout);
    assert!(created.status.success(), "dscreate (as root?): {stdout}{stderr}");
}

/// `defaults.inf` with every path that is written to moved into `dir`.
fn moved(defaults: &str, dir: &Path) -> String {
    let dir = dir.display();
    let moved = |line: &str| match line.split_once(" = ") {
        Some(("with_systemd", _)) => "with_systemd = 0\n".to_owned(),
        // The temporary directory is this user's alone.
        Some((name @ ("user" | "group"), _)) => format!("{name} = root\n"),
        Some((name, path))
            if ["/etc", "/var", "/run", "/dev", "/tmp"].iter().any(|p| path.starts_with(p)) =>
        {
            format!("{name} = {dir}{path}\n")
        }
        _ => format!("{line}\n"),
    };
    defaults.lines().map(moved).collect()
}

/// Loads the entries while the server does not run, which is fast.
fn import(dir: &Path, setup: &Setup) {
    // Without a rule, no user may read.
    let rule = format!(
        "aci: (targetattr = \"*\")(version 3.0; acl \"readers\"; allow (read, search, compare) {};)",
        setup.readers.as_deref().unwrap_or("userdn = \"ldap:///anyone\"")
    );
    let first_line = format!("dn: {BASE_DN}\n");
    let root = ROOT_LDIF.replacen(&first_line, &format!("{first_line}{rule}\n"), 1);
    let file = dir.join("data.ldif");
    fs::write(&file, format!("{root}{}", users_and(&setup.entries))).expect("written");
    let imported = Command::new("ns-slapd")
        .env("PATH", server_path())
        .args(["ldif2db", "-n", "userroot", "-D"])
        .arg(config_dir(dir))
        .arg("-i")
        .arg(&file)
        .output()
        .expect("ns-slapd is installed (Debian package 389-ds-base)");
    let log = String::from_utf8_lossy(&imported.stderr);
    assert!(imported.status.success() && !log.contains("Skipping entry"), "{log}");
}

/// The configuration that `dscreate` made, for these ports of loopback.
fn configured(created: &str, setup: &Setup, port: u16, tls_port: u16) -> String {
    let loopback = Ipv4Addr::LOCALHOST;
    let settings = format!(
        "nsslapd-port: {port}\nnsslapd-secureport: {tls_port}\nnsslapd-listenhost: {loopback}\n\
         nsslapd-securelistenhost: {loopback}\nnsslapd-accesslog-logbuffering: off"
    );
    let is_changed = |line: &&str| {
        let name = line.split_once(':').map_or(*line, |(name, _)| name).to_ascii_lowercase();
        settings.lines().any(|setting| setting.starts_with(&format!("{name}:")))
    };
    // What is missing is made again after the default.
    let is_index = |entry: &str| {
        ["index", "default indexes"]
            .iter()
            .any(|parent| entry.starts_with(&format!("dn: cn=uidnumber,cn={parent},")))
    };
    let entries = created.split("\n\n").filter(|entry| !setup.unindexed || !is_index(entry));
    let changed = entries.map(|entry| match entry.starts_with("dn: cn=config\n") {
        true => {
            let kept: Vec<_> = entry.lines().filter(|line| !is_changed(line)).collect();
            format!("{}\n{settings}", kept.join("\n"))
        }
        false => entry.to_owned(),
    });
    changed.collect::<Vec<_>>().join("\n\n")
}

fn launch(dir: &Path, port: u16) -> Option<Child> {
    let mut child = Command::new("ns-slapd")
        .env("PATH", server_path())
        // With a level for debugging, if only of 0, it stays in the foreground.
        .args(["-d", "0", "-D"])
        .arg(config_dir(dir))
        .arg("-i")
        .arg(dir.join("pid"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(dir.join("log")).expect("a log"))
        .spawn()
        .expect("ns-slapd is installed (Debian package 389-ds-base)");
    let mut exited = false;
    wait_for("ns-slapd to listen", || {
        exited = child.try_wait().expect("its state").is_some();
        let address = (Ipv4Addr::LOCALHOST, port).into();
        exited || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
    });
    (!exited).then_some(child)
}
