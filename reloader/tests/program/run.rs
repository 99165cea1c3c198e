//! Runs the program on a directory, and reads its output and metrics.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use e2e::programs::command;
use e2e::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::{TempDir, tempdir};

/// A reloader that is killed when dropped.
pub struct Reloader {
    child: Child,
    dir: TempDir,
}

impl Reloader {
    /// Starts reloader with short times.
    pub fn start(args: &[&str], directory: &Path) -> Self {
        Self::start_with_debounce("0.2", args, directory)
    }

    /// Starts reloader with another debounce, in seconds.
    pub fn start_with_debounce(debounce: &str, args: &[&str], directory: &Path) -> Self {
        let mut reloader = command("reloader");
        reloader.args(["--debounce", debounce, "--cooldown", "0", "--listen", "127.0.0.1:0"]);
        reloader.args(args).arg(directory);
        Self::run(reloader)
    }

    /// Starts a command that runs reloader.
    pub fn run(mut command: Command) -> Self {
        let dir = tempdir().expect("a directory");
        let file = |name: &str| File::create(dir.path().join(name)).expect("created");
        let child = command.stdout(file("stdout")).stderr(file("stderr")).spawn();
        Self { child: child.expect("started"), dir }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        fs::read_to_string(self.dir.path().join("stdout")).expect("read")
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).expect("read")
    }

    /// The status and the body of a response.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut address = None;
        wait_for("the address", || {
            let text = self.stdout();
            address =
                text.lines().find_map(|line| line.strip_prefix("listening at ")).map(str::to_owned);
            address.is_some()
        });
        let mut stream = TcpStream::connect(address.expect("one")).expect("connected");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.split(' ').nth(1).expect("a status").parse().expect("a number"), body.to_owned())
    }

    /// The value of a metric, named with its labels.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse().expect("a number"))
    }

    pub fn reloads(&self) -> u32 {
        self.metric("reloader_reloads_total{result=\"success\"}").expect("there") as u32
    }

    /// Waits for `count` more scans that begin from now on. SIGHUP starts each.
    pub fn wait_for_scans(&self, count: usize) {
        let scans = || {
            let of = |result| {
                let name = format!("reloader_scans_total{{result=\"{result}\"}}");
                self.metric(&name).expect("there")
            };
            of("success") + of("failure")
        };
        // One more, since a scan may be under way.
        for _ in 0..=count {
            let before = scans();
            self.signal(Signal::SIGHUP);
            wait_for("a scan", || scans() > before);
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("sent");
    }

    /// Waits for the end; returns the exit code.
    pub fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        wait_for("the end", || {
            status = self.child.try_wait().expect("a state");
            status.is_some()
        });
        status.expect("one").code()
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("stdout: {}stderr: {}", self.stdout(), self.stderr());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory to watch with one file, and a command that records the content of the file.
pub struct Fixture {
    dir: TempDir,
}

impl Fixture {
    pub fn new() -> Self {
        let fixture = Self { dir: tempdir().expect("a directory") };
        fs::create_dir(fixture.data()).expect("made");
        fs::write(fixture.file(), "one").expect("written");
        fixture
    }

    /// The watched directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The file in it.
    pub fn file(&self) -> PathBuf {
        self.data().join("file")
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command that appends the content of the file to a log.
    pub fn record_command(&self) -> String {
        format!(
            "sh -c 'cat {} >>{log}; echo >>{log}'",
            self.file().display(),
            log = self.at("log").display()
        )
    }

    /// The recorded contents.
    pub fn recorded(&self) -> Vec<String> {
        let log = fs::read_to_string(self.at("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    pub fn wait_for_record(&self, text: &str) {
        wait_for(text, || self.recorded().last().is_some_and(|last| last == text));
    }
}
