//! Measures the time and the memory of commands, for benchmarks.
//!
//! A benchmark passes its arguments to [`run_and_print`] when the first of them is `run`.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

/// A command to measure.
pub struct Job<'j> {
    /// The working directory.
    pub dir: &'j Path,
    /// The program and its arguments.
    pub command: &'j [String],
    /// The file for stdin: a path in `dir`, or an absolute one.
    pub input: Option<&'j str>,
}

/// The time and the memory of one run.
#[derive(Clone, Copy)]
pub struct Cost {
    /// Wall-clock time, in milliseconds.
    pub millis: f64,
    /// The peak of resident memory, in MB.
    pub megabytes: f64,
}

impl Job<'_> {
    /// Runs the command and measures it.
    ///
    /// This program starts itself, and that process starts the command. Its memory is small, which
    /// matters because the peak of a child includes the memory of the process that it was forked from.
    ///
    /// # Errors
    /// Fails if the command cannot be run or fails.
    pub fn measure(&self) -> io::Result<Cost> {
        let output = Command::new(std::env::current_exe()?)
            .current_dir(self.dir)
            .env_remove("LD_LIBRARY_PATH")
            .args(["run", self.input.unwrap_or("/dev/null")])
            .args(self.command)
            .stderr(Stdio::inherit())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut numbers = text.split_whitespace().map(|number| number.parse().ok());
        match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(millis), Some(megabytes)) => Ok(Cost { millis, megabytes }),
            _ => Err(io::Error::other(format!("failed to run {:?}", self.command))),
        }
    }
}

/// The part of [`Job::measure`] that the started process does: runs a command with a file as its
/// stdin, and prints the time and the memory.
///
/// # Errors
/// Fails if the command cannot be run or fails.
pub fn run_and_print(arguments: &[String]) -> io::Result<()> {
    let [input, name, arguments @ ..] = arguments else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let input = File::open(input)?;
    let start = Instant::now();
    let status = Command::new(name).args(arguments).stdin(input).stdout(Stdio::null()).status()?;
    let millis = start.elapsed().as_secs_f64() * 1000.0;
    if !status.success() {
        return Err(io::Error::other(format!("{name} failed: {status}")));
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    println!("{millis} {}", usage.max_rss() as f64 / 1024.0);
    Ok(())
}

/// The median of the values. There must be one at least.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value of an environment variable, unless it is unset or empty.
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The command that runs this program with other arguments.
///
/// # Panics
/// Panics if the path of this program is unknown.
pub fn own_command(arguments: &[&str]) -> Vec<String> {
    let own = std::env::current_exe().expect("our own path");
    words(&[&[own.to_str().expect("UTF-8")], arguments].concat())
}

/// The words of a command as owned strings.
pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
