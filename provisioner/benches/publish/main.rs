//! `make bench-provisioner`: publications beside cp and rsync, run by turns.
//!
//! `BENCH_DIR` is where sources and targets are made, on the file system to be measured;
//! `BENCH_RUNS` how often each command runs (9).

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use diagnostics::stderr::tell;
use e2e::measure::{self, Cost, Job, median, setting, words};

/// Sources: their names, how many files, and of how many bytes each.
const SOURCES: [(&str, usize, usize); 2] = [("small", 2_000, 4 << 10), ("large", 20, 10 << 20)];

/// What a target is like before a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Empty,
    Same,
    /// One file of the source is another.
    OneChanged,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "run") {
        return Ok(measure::run_and_print(&arguments[1..])?);
    }
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-provisioner");
    let dir = setting("BENCH_DIR").map_or(own, PathBuf::from);
    let runs = setting("BENCH_RUNS").map_or(Ok(9), |runs| runs.parse::<usize>())?.max(1);
    for (name, files, bytes) in SOURCES {
        tell(&format!("preparing {name}"));
        make_source(&dir.join(name), files, bytes)?;
        for (before, what) in [
            (Before::Empty, "first publication"),
            (Before::Same, "nothing has changed"),
            (Before::OneChanged, "one file has changed"),
        ] {
            println!("\n## {files} files of {} KiB: {what} ({runs} runs)\n", bytes >> 10);
            race(&dir, name, before, runs)?;
        }
    }
    Ok(())
}

fn contenders(source: &str) -> Vec<(&'static str, Vec<String>)> {
    let shell = |command: &str| words(&["sh", "-c", &command.replace("SOURCE", source)]);
    let own = env!("CARGO_BIN_EXE_provisioner");
    let ours = ["--source", source, "--target", "target-3", "--grace", "0"];
    vec![
        ("cp -r", shell("cp -r SOURCE/. target-0/")),
        ("cp -r, sync -f", shell("cp -r SOURCE/. target-1/ && sync -f target-1")),
        ("rsync -a --delete --checksum", shell("rsync -a --delete --checksum SOURCE/ target-2/")),
        ("provisioner", words(&[&[own], &ours[..]].concat())),
    ]
}

fn race(dir: &Path, source: &str, before: Before, runs: usize) -> Result<(), Box<dyn Error>> {
    let contenders = contenders(source);
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); contenders.len()];
    // The first round is for the caches, and fills the targets.
    for round in 0..=runs {
        for (number, (name, command)) in contenders.iter().enumerate() {
            tell(&format!("round {round} of {runs}: {name}"));
            let target = dir.join(format!("target-{number}"));
            if round == 0 || before == Before::Empty {
                let _ = fs::remove_dir_all(&target);
                fs::create_dir_all(&target)?;
            } else if before == Before::OneChanged {
                let mut content = vec![0; 4096];
                File::open("/dev/urandom")?.read_exact(&mut content)?;
                let changed = dir.join(source).join("00/0");
                let rest = fs::read(&changed)?.split_off(content.len());
                fs::write(changed, [content, rest].concat())?;
            }
            // What came before is not to be paid for now.
            nix::unistd::sync();
            let cost = Job { dir, command, input: None }.measure()?;
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

/// Fills a directory with files of random bytes, fifty in each directory, unless it is there.
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
