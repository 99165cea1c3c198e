//! Starts the PostgreSQL of Debian, as the user `postgres`, on a port of loopback.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, User};

use crate::container::{new_dir, new_port, wait_for};

/// The superuser and the password that clients give.
pub const USER: (&str, &str) = ("keycloak", "s3cret of the database");

/// A running server, ended when dropped.
pub struct Postgres {
    child: Child,
    port: u16,
}

impl Postgres {
    /// Starts a server with an empty database `keycloak`, and waits until it answers.
    pub fn start() -> Self {
        let (dir, port) = (new_dir("postgres"), new_port());
        let programs = programs();
        fs::write(dir.join("password"), USER.1).expect("written");
        let owned = Command::new("chown").args(["-R", "postgres:postgres"]).arg(&dir).status();
        assert!(owned.expect("chown").success());
        let made = as_postgres(&programs.join("initdb"))
            .args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"])
            .args(["--username", USER.0, "--pgdata"])
            .arg(dir.join("data"))
            .arg(format!("--pwfile={}", dir.join("password").display()))
            .output()
            .expect("initdb");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let log = File::create(dir.join("log")).expect("a log");
        let child = as_postgres(&programs.join("postgres"))
            .arg("-D")
            .arg(dir.join("data"))
            // The data end with the test.
            .args(["-c", "fsync=off", "-c", "full_page_writes=off"])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={port}")])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", dir.display()))
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("postgres");
        let server = Self { child, port };
        let mut created = || {
            let created = as_postgres(&programs.join("createdb"))
                .args(["--host=127.0.0.1", &format!("--port={port}"), "--username", USER.0])
                .arg("keycloak")
                .env("PGPASSWORD", USER.1)
                .output()
                .expect("createdb");
            created.status.success().then_some(())
        };
        wait_for("PostgreSQL", &mut created);
        server
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its processes notice when the first of them is gone.
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// The folder of the newest installed server.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("the Debian package postgresql");
    let folders = versions.flatten().map(|version| version.path().join("bin"));
    folders.filter(|bin| bin.join("postgres").exists()).max().expect("postgres")
}

fn as_postgres(program: &Path) -> Command {
    let user = User::from_name("postgres").expect("the users").expect("the user postgres");
    let mut command = Command::new(program);
    command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).current_dir("/").env_clear();
    command
}
