//! Runs commands and measures them from outside.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

/// What a run of a command cost.
#[derive(Clone, Copy)]
pub struct Cost {
    /// Wall-clock time, in milliseconds.
    pub millis: f64,
    /// Most memory that was resident at a time, in MB.
    pub megabytes: f64,
}

/// Runs a command by way of this program, whose own memory is small: the memory that a process
/// occupied before it became another program counts as well.
pub fn measure(dir: &Path, command: &[String]) -> io::Result<Cost> {
    let output = Command::new(std::env::current_exe()?)
        .current_dir(dir)
        .env_remove("LD_LIBRARY_PATH")
        .arg("run")
        .args(command)
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map(|number| number.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(millis), Some(megabytes)) => Ok(Cost { millis, megabytes }),
        _ => Err(io::Error::other(format!("failed to run {command:?}"))),
    }
}

/// The other end of [`measure`]: runs the command and prints what it cost.
pub fn run_and_print(command: &[String]) -> io::Result<()> {
    let (name, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let start = Instant::now();
    let status = Command::new(name).args(arguments).stdout(Stdio::null()).status()?;
    let millis = start.elapsed().as_secs_f64() * 1000.0;
    if !status.success() {
        return Err(io::Error::other(format!("{name} failed: {status}")));
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    println!("{millis} {}", usage.max_rss() as f64 / 1024.0);
    Ok(())
}

/// How many system calls a command makes, by strace.
pub fn system_calls(dir: &Path, command: &[String]) -> io::Result<u64> {
    let counts = dir.join("strace.out");
    // Cargo's own search path for libraries costs hundreds of calls.
    let status = Command::new("strace")
        .env_remove("LD_LIBRARY_PATH")
        .args(["-f", "-c", "-o"])
        .arg(&counts)
        .args(command.iter().map(OsStr::new))
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    let table = fs::read_to_string(&counts)?;
    fs::remove_file(&counts)?;
    let total = table.lines().find(|line| line.ends_with(" total"));
    let calls = total.and_then(|line| line.split_whitespace().nth(3)).and_then(|n| n.parse().ok());
    calls.filter(|_| status.success()).ok_or_else(|| io::Error::other("no total from strace"))
}
