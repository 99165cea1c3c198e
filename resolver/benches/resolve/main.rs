//! `make bench-resolver` compares the resolver with other ways to the same result.
//!
//! All commands run in turn, `BENCH_RUNS` times (5 by default); those that take minutes run once.
//! `BENCH_DIR` is the directory for the inputs, which are kept for the next time.

mod ber;
mod inputs;
mod proxy;
mod serde;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use diagnostics::stderr::print_line;
use e2e::USERS;
use e2e::measure::{self, Cost, Job, median, own_command, setting, words};
use e2e::slapd::{BASE_DN, Setup, Slapd, many_users};

/// Entries of the directory, without the five users.
const ENTRIES: u32 = 100_000;
/// Delay of the distant server in each direction.
const DELAY: Duration = Duration::from_millis(5);

/// A command to compare.
struct Contender {
    name: &'static str,
    command: Vec<String>,
    runs_once: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["run", ..] => measure::run_and_print(&arguments[1..])?,
        ["ber", address] => ber::ask(address, BASE_DN, &inputs::some_uids(ENTRIES))?,
        ["ldapsearch", url] => one_by_one(url)?,
        ["serde"] => serde::resolve(&USERS)?,
        _ => compare()?,
    }
    Ok(())
}

fn compare() -> Result<(), Box<dyn Error>> {
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-resolver");
    let dir = setting("BENCH_DIR").map_or(own, PathBuf::from);
    let runs = setting("BENCH_RUNS").map_or(Ok(5), |runs| runs.parse::<usize>())?.max(1);
    print_line("preparing the input and the server");
    let [owners, pairs] = inputs::ready(&dir, &inputs::some_uids(ENTRIES))?;
    let setup = Setup { entries: many_users(ENTRIES), ..Setup::default() };
    let slapd = Slapd::start(&setup);
    let address = format!("127.0.0.1:{}", slapd.port());
    let distant_address = format!("127.0.0.1:{}", proxy::start(address.clone(), DELAY)?);

    println!("## 20,000 UIDs of {ENTRIES} entries ({runs} runs)\n");
    let near = [
        resolver("resolver", &slapd.url()),
        contender("raw BER, encoded beforehand", own_command(&["ber", &address])),
        Contender {
            runs_once: true,
            ..contender("ldapsearch for each UID", own_command(&["ldapsearch", &slapd.url()]))
        },
    ];
    race(&dir, &owners, &near, runs)?;

    println!("\n## The same with a round trip of 10 ms ({runs} runs)\n");
    let distant = [
        resolver("resolver", &format!("ldap://{distant_address}")),
        contender("raw BER, 8 at a time", own_command(&["ber", &distant_address])),
    ];
    race(&dir, &owners, &distant, runs)?;

    println!("\n## 10,000,000 pairs, 5 UIDs, 1 GB ({runs} runs)\n");
    let streams = [
        resolver("resolver", &slapd.url()),
        contender("serde_json, borrowed keys", own_command(&["serde"])),
        Contender { runs_once: true, ..contender("jq -c .", words(&["jq", "-c", "."])) },
    ];
    let outputs = [&streams[0], &streams[1]].map(|contender| digest(&dir, &pairs, contender));
    let [ours, theirs] = outputs.map(|digest| digest.expect("both can be run"));
    assert_eq!(ours, theirs, "the outputs differ");
    race(&dir, &pairs, &streams, runs)
}

fn resolver(name: &'static str, url: &str) -> Contender {
    let own = env!("CARGO_BIN_EXE_resolver");
    contender(name, words(&[own, "--url", url, "--base-dn", BASE_DN]))
}

fn contender(name: &'static str, command: Vec<String>) -> Contender {
    Contender { name, command, runs_once: false }
}

/// Runs the commands in turn and prints their costs.
fn race(
    dir: &Path,
    input: &str,
    contenders: &[Contender],
    runs: usize,
) -> Result<(), Box<dyn Error>> {
    let mut costs: BTreeMap<usize, Vec<Cost>> = BTreeMap::new();
    // The first round only fills the caches.
    for round in 0..=runs {
        let waits = |contender: &Contender| contender.runs_once && round != 1;
        for (number, contender) in contenders.iter().enumerate().filter(|(_, c)| !waits(c)) {
            print_line(&format!("round {round} of {runs}: {}", contender.name));
            let cost = Job { dir, command: &contender.command, input: Some(input) }.measure()?;
            if round > 0 {
                costs.entry(number).or_default().push(cost);
            }
        }
    }
    println!("| | median ms | least ms | times resolver's | peak RSS, MB |");
    println!("|---|---:|---:|---:|---:|");
    let ours = median(costs[&0].iter().map(|cost| cost.millis));
    for (contender, costs) in contenders.iter().zip(costs.values()) {
        let name = contender.name;
        let millis = median(costs.iter().map(|cost| cost.millis));
        let least = costs.iter().map(|cost| cost.millis).fold(f64::INFINITY, f64::min);
        let megabytes = median(costs.iter().map(|cost| cost.megabytes));
        let times = millis / ours;
        println!("| {name} | {millis:.0} | {least:.0} | {times:.2} | {megabytes:.1} |");
    }
    Ok(())
}

/// The checksum of a command's output.
fn digest(dir: &Path, input: &str, contender: &Contender) -> Result<Vec<u8>, Box<dyn Error>> {
    let input = std::fs::File::open(dir.join(input))?;
    let (program, arguments) = contender.command.split_first().ok_or("no command")?;
    let mut child =
        Command::new(program).args(arguments).stdin(input).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let sum = Command::new("sha256sum").stdin(stdout).output()?;
    let is_done = child.wait()?.success() && sum.status.success();
    is_done.then_some(sum.stdout).ok_or_else(|| format!("{} failed", contender.name).into())
}

/// One ldapsearch after another, as a shell script would do it.
fn one_by_one(url: &str) -> Result<(), Box<dyn Error>> {
    for uid in inputs::some_uids(ENTRIES) {
        let status = Command::new("ldapsearch")
            .args(["-x", "-LLL", "-H", url, "-b", BASE_DN, &format!("(uidNumber={uid})"), "mail"])
            .stdin(Stdio::null())
            .status()?;
        if !status.success() {
            return Err("ldapsearch failed".into());
        }
    }
    Ok(())
}
