//! A running reloader, and what it says.

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

/// A reloader that is ended when it is dropped.
pub struct Reloader {
    child: Child,
    dir: TempDir,
}

impl Reloader {
    /// Starts it with settings for people without patience.
    pub fn start(args: &[&str], directory: &Path) -> Self {
        Self::start_with_debounce("0.2", args, directory)
    }

    /// Starts it with another debounce, in seconds.
    pub fn start_with_debounce(debounce: &str, args: &[&str], directory: &Path) -> Self {
        let mut reloader = command("reloader");
        reloader.args(["--debounce", debounce, "--cooldown", "0", "--listen", "127.0.0.1:0"]);
        reloader.args(args).arg(directory);
        Self::run(reloader)
    }

    /// Starts a command that is one, or becomes one.
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

    /// What an HTTP client gets to see: the status and the body.
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

    /// The value of a metric, with its labels.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse().expect("a number"))
    }

    pub fn reloads(&self) -> u32 {
        self.metric("reloader_reloads_total{result=\"success\"}").expect("there") as u32
    }

    /// Waits until the directory has been looked at so many more times, from the beginning to
    /// the end. SIGHUP asks for a look.
    pub fn wait_for_looks(&self, count: usize) {
        let looks = || {
            let of = |result| {
                let name = format!("reloader_scans_total{{result=\"{result}\"}}");
                self.metric(&name).expect("there")
            };
            of("success") + of("failure")
        };
        // One may be under way.
        for _ in 0..=count {
            let before = looks();
            self.signal(Signal::SIGHUP);
            wait_for("a look", || looks() > before);
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("sent");
    }

    /// Waits for its end; the exit code.
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

/// A directory to watch, and a command that writes down what was in it each time.
pub struct Place {
    dir: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let place = Self { dir: tempdir().expect("a directory") };
        fs::create_dir(place.data()).expect("made");
        fs::write(place.file(), "one").expect("written");
        place
    }

    /// What is watched.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A file in it.
    pub fn file(&self) -> PathBuf {
        self.data().join("file")
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command that writes down what is in the file.
    pub fn note(&self) -> String {
        format!(
            "sh -c 'cat {} >>{log}; echo >>{log}'",
            self.file().display(),
            log = self.at("log").display()
        )
    }

    /// What it has written.
    pub fn noted(&self) -> Vec<String> {
        let log = fs::read_to_string(self.at("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    pub fn wait_for_note(&self, text: &str) {
        wait_for(text, || self.noted().last().is_some_and(|last| last == text));
    }
}
