//! Starts a real nginx on a free loopback port, with all its files in a temporary directory.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::{free_ports, is_root, server_path, wait_for};

/// Settings of a server.
pub struct Setup {
    /// The number of worker processes.
    pub workers: usize,
    /// Lines of the `server` block.
    pub server: String,
    /// More lines of the main block (`working_directory /x;`).
    pub main: String,
    /// The user of all processes, for tests that root runs. If `None`, the master runs as the user of
    /// the test, and the workers of a master of root run as the user `nobody`.
    pub user: Option<u32>,
}

/// Two workers that answer `first`.
impl Default for Setup {
    fn default() -> Self {
        Self { workers: 2, server: "return 200 first;".into(), main: String::new(), user: None }
    }
}

/// A running server, ended when dropped.
pub struct Nginx {
    child: Child,
    dir: TempDir,
    port: u16,
    user: Option<u32>,
}

impl Nginx {
    /// Starts a server and waits until it answers and has its workers.
    ///
    /// # Panics
    /// Panics if nginx is not installed or does not come up.
    pub fn start(setup: &Setup) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("readable by all");
        chown(dir.path(), setup.user, None).expect("given to the user");
        for _ in 0..5 {
            // Another process may take the port between the choice and nginx's own listen.
            let [port, _] = free_ports();
            configure(dir.path(), port, setup);
            let mut child = launch(dir.path(), setup.user);
            if comes_up(&mut child, dir.path(), port) {
                let nginx = Self { child, dir, port, user: setup.user };
                let is_alone = setup.main.contains("master_process off");
                let workers = if is_alone { 0 } else { setup.workers };
                wait_for("nginx's workers", || nginx.workers().len() == workers);
                return nginx;
            }
        }
        panic!("nginx does not start:\n{}", error_log(dir.path()));
    }

    /// Writes another configuration. nginx reads it at the next reload.
    ///
    /// # Panics
    /// Panics if this fails.
    pub fn configure(&self, setup: &Setup) {
        configure(self.dir.path(), self.port, setup);
    }

    /// Writes a configuration that is wrong.
    ///
    /// # Panics
    /// Panics if this fails.
    pub fn break_configuration(&self) {
        fs::write(self.dir.path().join("nginx.conf"), "events { nonsense }\n").expect("written");
    }

    /// The body of the answer to a GET.
    ///
    /// # Errors
    /// Fails if the server does not answer.
    pub fn get(&self, path: &str) -> io::Result<String> {
        let mut stream = self.connect()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
        Ok(body.to_owned())
    }

    /// Connects to the server.
    ///
    /// # Errors
    /// Fails if the server does not listen.
    pub fn connect(&self) -> io::Result<TcpStream> {
        let stream = connect(self.port)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(stream)
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The id of its master process.
    pub fn master(&self) -> u32 {
        self.child.id()
    }

    /// How the title of its master begins, and that of no other server.
    pub fn title(&self) -> String {
        format!("nginx: master process nginx -p {}", self.dir.path().display())
    }

    /// The file with the id of its master.
    pub fn pid_file(&self) -> PathBuf {
        self.dir.path().join("nginx.pid")
    }

    /// Its directory, free for other files of the test. Its workers can read there.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The ids of its worker processes, those that are shutting down too.
    pub fn workers(&self) -> Vec<u32> {
        let master = self.master();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
        let children = children.unwrap_or_default();
        let is_worker = |pid: &u32| {
            let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            title.starts_with(b"nginx: worker process")
        };
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_worker).collect()
    }

    /// Sends a signal to its master: `SIGSTOP` for one that hangs.
    ///
    /// # Panics
    /// Panics if it is gone.
    pub fn signal(&self, signal: Signal) {
        kill(pid(self.master()), signal).expect("a running nginx");
    }

    /// Its error log.
    pub fn error_log(&self) -> String {
        error_log(self.dir.path())
    }

    /// Ends it, and all of its processes.
    pub fn stop(&mut self) {
        // All of its processes are in one group, and none of them is to be asked.
        let _ = killpg(pid(self.master()), Signal::SIGKILL);
        let _ = self.child.wait();
    }

    /// Starts it again after a [`stop`](Self::stop), and waits for nothing.
    ///
    /// # Panics
    /// Panics if it cannot be started.
    pub fn launch(&mut self) {
        self.child = launch(self.dir.path(), self.user);
    }

    /// Waits until it listens; whether it does. Otherwise it has ended.
    ///
    /// # Panics
    /// Panics if it does neither.
    pub fn comes_up(&mut self) -> bool {
        comes_up(&mut self.child, self.dir.path(), self.port)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.stop();
    }
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(id.cast_signed())
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let address = (Ipv4Addr::LOCALHOST, port).into();
    TcpStream::connect_timeout(&address, Duration::from_secs(30))
}

/// Waits until a server listens, or has ended.
fn comes_up(child: &mut Child, dir: &Path, port: u16) -> bool {
    let mut has_ended = false;
    wait_for("nginx to listen", || {
        has_ended = child.try_wait().expect("its state").is_some();
        // The file may be that of an earlier one.
        let id = fs::read_to_string(dir.join("nginx.pid")).unwrap_or_default();
        has_ended || id.trim() == child.id().to_string() && connect(port).is_ok()
    });
    !has_ended
}

fn error_log(dir: &Path) -> String {
    fs::read_to_string(dir.join("error.log")).unwrap_or_default()
}

fn configure(dir: &Path, port: u16, setup: &Setup) {
    let user = if is_root() && setup.user.is_none() { "user nobody nogroup;" } else { "" };
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("  {name}_temp_path {}/{name};\n", dir.display()))
        .concat();
    let text = format!(
        "daemon off;\n{user}\nworker_processes {workers};\npid {dir}/nginx.pid;\n\
         error_log {dir}/error.log notice;\n{main}\nevents {{}}\nhttp {{\n  access_log off;\n{paths}\
         \x20 server {{\n    listen 127.0.0.1:{port};\n    {server}\n  }}\n}}\n",
        workers = setup.workers,
        dir = dir.display(),
        main = setup.main,
        server = setup.server,
    );
    fs::write(dir.join("nginx.conf"), text).expect("written");
}

fn launch(dir: &Path, user: Option<u32>) -> Child {
    let mut nginx = Command::new("nginx");
    nginx.env("PATH", server_path()).arg("-p").arg(dir).args(["-c", "nginx.conf", "-e"]);
    nginx.arg(dir.join("error.log"));
    if let Some(user) = user {
        nginx.uid(user).gid(user);
    }
    nginx
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(dir.join("stderr")).expect("a file"))
        .spawn()
        .expect("nginx is installed (Debian package nginx)")
}
