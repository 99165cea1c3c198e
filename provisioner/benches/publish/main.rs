//! `make bench-provisioner`: compares provisioner with cp and rsync, which run by turns.
//!
//! * `BENCH_DIR`: directory for sources and targets, on the file system to measure. Without it, root
//!   measures on a new ext4 with the defaults of `mkfs.ext4`. An ext4 without a journal, as in some
//!   virtual machines, does not reuse an inode for a minute (`recently_deleted` in
//!   `fs/ext4/ialloc.c`), so each run would pay for the files that were removed before it.
//! * `BENCH_RUNS`: how often each command runs (9).
//!
//! An update is measured until it prints its result: then the version is live and on the disk. The
//! time to archive and remove the version before is not included.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use diagnostics::stderr::print_line;
use e2e::is_root;
use e2e::measure::{self, Cost, Job, median, setting, words};
use e2e::mounts::{in_private_mounts, mount_image, sh};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The name of the contender that is measured until it prints its result.
const OURS: &str = "provisioner";
/// Sources: name, number of files, and size of each file in bytes.
const SOURCES: [(&str, usize, usize); 2] = [("small", 2_000, 4 << 10), ("large", 20, 10 << 20)];

/// The target before a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Empty,
    Same,
    /// One file of the source has changed since.
    OneChanged,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "run") {
        return Ok(measure::run_and_print(&arguments[1..])?);
    }
    let runs = setting("BENCH_RUNS").map_or(Ok(9), |runs| runs.parse::<usize>())?.max(1);
    if let Some(dir) = setting("BENCH_DIR") {
        return compare(Path::new(&dir), runs);
    }
    if !is_root() {
        return compare(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-provisioner"), runs);
    }
    in_private_mounts(|place| {
        mount_image(place, "disk", "4G", "mkfs.ext4 -q -F");
        // Without direct I/O, all bytes would be cached twice, and written at any later time.
        sh(place, "losetup --direct-io=on \"$(losetup -n -O NAME -j disk.img)\"");
        compare(&place.join("disk/bench"), runs).expect("a comparison");
        sh(place, "umount disk");
    });
    Ok(())
}

/// Runs all comparisons in a directory.
fn compare(dir: &Path, runs: usize) -> Result<(), Box<dyn Error>> {
    for (name, files, bytes) in SOURCES {
        print_line(&format!("preparing {name}"));
        make_source(&dir.join(name), files, bytes)?;
        for (before, what) in [
            (Before::Empty, "first publication"),
            (Before::Same, "nothing has changed"),
            (Before::OneChanged, "one file has changed"),
        ] {
            println!("\n## {files} files of {} KiB: {what} ({runs} runs)\n", bytes >> 10);
            race(dir, name, before, runs)?;
        }
    }
    Ok(())
}

fn contenders(source: &str) -> Vec<(&'static str, Vec<String>)> {
    let shell = |command: &str| words(&["sh", "-c", &command.replace("SOURCE", source)]);
    let own = env!("CARGO_BIN_EXE_provisioner");
    let ours = ["--source", source, "--target", "target-3", "--keep", "0"];
    vec![
        ("cp -r", shell("cp -r SOURCE/. target-0/")),
        ("cp -r, sync -f", shell("cp -r SOURCE/. target-1/ && sync -f target-1")),
        ("rsync -a --delete --checksum", shell("rsync -a --delete --checksum SOURCE/ target-2/")),
        (OURS, words(&[&[own], &ours[..]].concat())),
    ]
}

fn race(dir: &Path, source: &str, before: Before, runs: usize) -> Result<(), Box<dyn Error>> {
    let contenders = contenders(source);
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); contenders.len()];
    // The first round warms the caches and fills the targets; it is not counted.
    for round in 0..=runs {
        let targets = (0..contenders.len()).map(|number| dir.join(format!("target-{number}")));
        for target in targets.filter(|_| round == 0 || before == Before::Empty) {
            let _ = fs::remove_dir_all(&target);
            fs::create_dir_all(&target)?;
        }
        for (number, (name, command)) in contenders.iter().enumerate() {
            print_line(&format!("round {round} of {runs}: {name}"));
            if round > 0 && before == Before::OneChanged {
                change(&dir.join(source).join("00/0"))?;
            }
            // No run pays for the writes of the one before.
            nix::unistd::sync();
            let cost = if *name == OURS && round > 0 && before == Before::OneChanged {
                until_result(dir, command)?
            } else {
                Job { dir, command, input: None }.measure()?
            };
            if round > 0 {
                costs[number].push(cost);
            }
        }
    }
    println!("| | median ms | least ms | times provisioner's | peak RSS, MB |");
    println!("|---|---:|---:|---:|---:|");
    let time = |costs: &[Cost]| median(costs.iter().map(|cost| cost.millis));
    let ours = costs.last().map_or(1.0, |costs| time(costs));
    for ((name, _), costs) in contenders.iter().zip(&costs) {
        let least = costs.iter().map(|cost| cost.millis).fold(f64::INFINITY, f64::min);
        let megabytes = median(costs.iter().map(|cost| cost.megabytes));
        let (millis, times) = (time(costs), time(costs) / ours);
        println!("| {name} | {millis:.0} | {least:.0} | {times:.2} | {megabytes:.1} |");
    }
    Ok(())
}

/// Replaces the first bytes of a file.
fn change(path: &Path) -> io::Result<()> {
    let mut content = vec![0; 4096];
    File::open("/dev/urandom")?.read_exact(&mut content)?;
    let rest = fs::read(path)?.split_off(content.len());
    fs::write(path, [content, rest].concat())
}

/// Measures a publication until it prints its result. Then removes the version before.
fn until_result(dir: &Path, command: &[String]) -> io::Result<Cost> {
    let start = Instant::now();
    let mut ours = Command::new(&command[0]);
    ours.args(&command[1..]).current_dir(dir);
    let mut run = ours.stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(run.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?).read_line(&mut line)?;
    let millis = start.elapsed().as_secs_f64() * 1000.0;
    let status = fs::read_to_string(format!("/proc/{}/status", run.id()))?;
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let most = most.and_then(|most| most.split_whitespace().next()?.parse::<f64>().ok());
    kill(Pid::from_raw(run.id() as i32), Signal::SIGTERM)?;
    let is_done = run.wait()?.success() && ours.args(["--grace", "0"]).status()?.success();
    match most {
        Some(kilobytes) if is_done => Ok(Cost { millis, megabytes: kilobytes / 1024.0 }),
        _ => Err(io::Error::other(format!("{OURS} failed: {line}"))),
    }
}

/// Creates a source of random files, fifty in each directory, unless it exists.
fn make_source(source: &Path, files: usize, bytes: usize) -> io::Result<()> {
    if source.exists() {
        return Ok(());
    }
    let unfinished = source.with_extension("new");
    let _ = fs::remove_dir_all(&unfinished);
    let mut random = File::open("/dev/urandom")?;
    let mut content = vec![0; bytes];
    for number in 0..files {
        let directory = unfinished.join(format!("{:02}", number / 50));
        fs::create_dir_all(&directory)?;
        random.read_exact(&mut content)?;
        fs::write(directory.join(number.to_string()), &content)?;
    }
    fs::rename(unfinished, source)
}
