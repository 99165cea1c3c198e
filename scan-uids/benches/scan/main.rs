//! `make bench-scan`: compares scan-uids with other walkers on the same trees, in turn.
//!
//! Settings: `BENCH_DIR` (where the trees are made and kept), `BENCH_TREES` (which of them to scan;
//! default all), `BENCH_RUNS` (runs of each command; default 5), `BENCH_COLD=1` (drop the kernel's
//! caches before each run; needs root).

mod contenders;
mod kernel;
mod strace;
mod trees;
mod walkers;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use contenders::{Contender, Work, contenders};
use diagnostics::stderr::print_line;
use e2e::measure::{self, Cost, median, setting};
use kernel::Calls;
use trees::TREES;

/// The comparisons: what to list, on which tree.
const RACES: [(Work, &str); 5] = [
    (Work::Directories, "many"),
    (Work::Directories, "deep"),
    (Work::Entries, "many"),
    (Work::Entries, "wide"),
    (Work::Entries, "deep"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["run", ..] => measure::run_and_print(&arguments[1..])?,
        ["kernel", calls, tree] => {
            let calls = match calls {
                "names" => Calls::Names,
                "owners" => Calls::Owners,
                _ => Calls::Links,
            };
            kernel::walk(Path::new(tree), calls)?;
        }
        ["walkdir", what, tree] => walkers::walkdir(Path::new(tree), what == "entries")?,
        ["ignore", what, tree] => walkers::ignore(Path::new(tree), what == "entries"),
        _ => compare()?,
    }
    Ok(())
}

fn compare() -> Result<(), Box<dyn Error>> {
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-scan");
    let dir = setting("BENCH_DIR").map_or(own, PathBuf::from);
    let runs = setting("BENCH_RUNS").map_or(Ok(5), |runs| runs.parse::<usize>())?.max(1);
    let is_cold = setting("BENCH_COLD").is_some();
    let wanted = setting("BENCH_TREES");
    let is_wanted =
        |name: &str| wanted.as_ref().is_none_or(|names| names.split(' ').any(|n| n == name));
    println!("Trees:\n");
    for tree in TREES.iter().filter(|tree| is_wanted(tree.name)) {
        print_line(&format!("preparing {}", tree.name));
        tree.prepare(&dir)?;
        println!("- {}: {}", tree.name, tree.shape);
    }
    for (work, tree) in RACES.into_iter().filter(|(_, tree)| is_wanted(tree)) {
        let contenders = contenders(work, tree);
        let what = if work == Work::Directories { "directory" } else { "entry" };
        let state = if is_cold { "cold" } else { "warm" };
        println!("\n## The owner of every {what}: {tree} ({state}, {runs} runs)\n");
        print_race(&contenders, &race(&dir, &contenders, runs, is_cold)?);
    }
    if is_wanted("small") {
        print_system_calls(&dir)?;
    }
    Ok(())
}

/// Runs all contenders in turn; returns the costs of each one's runs.
fn race(
    dir: &Path,
    contenders: &[Contender],
    runs: usize,
    is_cold: bool,
) -> Result<Vec<Vec<Cost>>, Box<dyn Error>> {
    let mut costs = vec![Vec::new(); contenders.len()];
    // Round 0 fills the kernel's caches.
    for round in usize::from(is_cold)..=runs {
        for (contender, costs) in contenders.iter().zip(&mut costs) {
            print_line(&format!("round {round} of {runs}: {}", contender.name));
            if is_cold {
                nix::unistd::sync();
                fs::write("/proc/sys/vm/drop_caches", "3")?;
            }
            let cost = contender.job(dir).measure()?;
            if round > 0 {
                costs.push(cost);
            }
        }
    }
    Ok(costs)
}

fn print_race(contenders: &[Contender], costs: &[Vec<Cost>]) {
    println!("| | median ms | least ms | share of find | peak RSS, MB |");
    println!("|---|---:|---:|---:|---:|");
    let first = median(costs[0].iter().map(|cost| cost.millis));
    for (contender, costs) in contenders.iter().zip(costs) {
        let millis = median(costs.iter().map(|cost| cost.millis));
        let least = costs.iter().map(|cost| cost.millis).fold(f64::INFINITY, f64::min);
        let megabytes = median(costs.iter().map(|cost| cost.megabytes));
        let share = millis / first;
        println!("| {} | {millis:.0} | {least:.0} | {share:.3} | {megabytes:.1} |", contender.name);
    }
}

/// Prints the system calls on the small tree, from the start of the process to its end.
fn print_system_calls(dir: &Path) -> Result<(), Box<dyn Error>> {
    println!("\n## System calls: small\n\n| | a directory | an entry |\n|---|---:|---:|");
    let mut rows: BTreeMap<&str, [Option<u64>; 2]> = BTreeMap::new();
    for (column, work) in [Work::Directories, Work::Entries].into_iter().enumerate() {
        for contender in contenders(work, "small") {
            // This run fills the kernel's caches.
            contender.job(dir).measure()?;
            let calls = strace::system_calls(dir, &contender.command)?;
            rows.entry(contender.name).or_default()[column] = Some(calls);
        }
    }
    for (name, calls) in rows {
        let counts = [1_011.0, 11_011.0];
        let ratio = |column: usize| match calls[column] {
            Some(calls) => format!("{:.2}", calls as f64 / counts[column]),
            None => String::new(),
        };
        println!("| {name} | {} | {} |", ratio(0), ratio(1));
    }
    Ok(())
}
