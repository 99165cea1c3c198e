//! `make bench-reloader`: time from a change until nginx serves it, and the cost of waiting, compared
//! with loops around inotifywait.
//!
//! `BENCH_RUNS` is the number of single changes (5), `BENCH_IDLE` the seconds without any (60).

mod watcher;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use diagnostics::stderr::print_line;
use e2e::measure::{median, setting};
use e2e::nginx::{Nginx, Setup};
use tempfile::{TempDir, tempdir};
use watcher::{Kind, Watcher};

/// Longer than any watcher takes, with its pauses.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Time between two single changes: a loop sleeps for five seconds after each.
const PAUSE: Duration = Duration::from_secs(7);
/// Files in the tree that does not change.
const FILES: usize = 10_000;
/// Changes in a burst.
const BURST: usize = 100;
/// Time between the changes of a burst.
const BURST_PAUSE: Duration = Duration::from_millis(50);

fn main() -> Result<(), Box<dyn Error>> {
    let number = |name: &str, default| setting(name).map_or(Ok(default), |text| text.parse());
    let (runs, idle) = (number("BENCH_RUNS", 5)?.max(1), number("BENCH_IDLE", 60)?.max(1));
    println!("\n## From a change to its answer ({runs} changes, one at a time)\n");
    println!("| | median ms | most ms | served at last |\n|---|---:|---:|---|");
    for kind in Kind::ALL {
        print_line(&format!("measuring {}", kind.name()));
        let site = Site::new()?;
        let _watcher = site.watch(kind)?;
        let mut times = Vec::new();
        for run in 0..runs {
            times.extend(site.change(&run.to_string())?);
            sleep(PAUSE);
        }
        let served = times.len();
        let most = times.iter().copied().fold(0.0, f64::max);
        let middle = if times.is_empty() { f64::NAN } else { median(times.into_iter()) };
        println!("| {} | {middle:.0} | {most:.0} | {served} of {runs} |", kind.name());
    }
    println!("\n## {BURST} changes, {} ms between them\n", BURST_PAUSE.as_millis());
    println!("| | reloads | the last is served |\n|---|---:|---|");
    for kind in Kind::ALL {
        print_line(&format!("measuring {}", kind.name()));
        let site = Site::new()?;
        let _watcher = site.watch(kind)?;
        for n in 0..BURST {
            site.publish(&n.to_string())?;
            sleep(BURST_PAUSE);
        }
        let is_served = site.wait_for(&(BURST - 1).to_string());
        let reloads = site.nginx.error_log().matches("reconfiguring").count();
        let answer = if is_served.is_some() { "yes" } else { "no" };
        println!("| {} | {reloads} | {answer} |", kind.name());
    }
    println!("\n## Nothing happens to {FILES} files ({idle} seconds)\n");
    println!("| | RSS, MB | CPU, % |\n|---|---:|---:|");
    for kind in Kind::ALL {
        print_line(&format!("measuring {}", kind.name()));
        let site = Site::new()?;
        fill(&site.data())?;
        let watcher = site.watch(kind)?;
        // The first scan reads all files.
        sleep(Duration::from_secs(5));
        let before = watcher.cpu()?;
        sleep(Duration::from_secs(idle));
        let share = (watcher.cpu()? - before) / idle as f64 * 100.0;
        println!("| {} | {:.1} | {share:.2} |", kind.name(), watcher.megabytes()?);
    }
    Ok(())
}

/// A server whose answer is a part of its configuration, in a watched directory.
struct Site {
    dir: TempDir,
    nginx: Nginx,
}

impl Site {
    fn new() -> Result<Self, Box<dyn Error>> {
        let dir = tempdir()?;
        let data = dir.path().join("data");
        fs::create_dir(&data)?;
        fs::write(data.join("answer"), "location / { return 200 'none'; }")?;
        let server = format!("include {};", data.join("answer").display());
        let nginx = Nginx::start(&Setup { server, ..Setup::default() });
        Ok(Self { dir, nginx })
    }

    fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    fn watch(&self, kind: Kind) -> Result<Watcher, Box<dyn Error>> {
        let watcher = Watcher::start(kind, &self.data(), &self.nginx)?;
        sleep(Duration::from_secs(3));
        Ok(watcher)
    }

    fn publish(&self, text: &str) -> Result<(), Box<dyn Error>> {
        let next = self.dir.path().join("next");
        fs::write(&next, format!("location / {{ return 200 '{text}'; }}"))?;
        Ok(fs::rename(next, self.data().join("answer"))?)
    }

    /// Milliseconds until nginx answers `text`; `None` after the timeout.
    fn wait_for(&self, text: &str) -> Option<f64> {
        let start = Instant::now();
        while start.elapsed() < TIMEOUT {
            if self.nginx.get("/").is_ok_and(|answer| answer == text) {
                return Some(start.elapsed().as_secs_f64() * 1000.0);
            }
            sleep(Duration::from_millis(2));
        }
        None
    }

    fn change(&self, text: &str) -> Result<Option<f64>, Box<dyn Error>> {
        self.publish(text)?;
        Ok(self.wait_for(text))
    }
}

fn fill(data: &Path) -> Result<(), Box<dyn Error>> {
    for n in 0..FILES {
        let dir = data.join(format!("directory-{}", n / 100));
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(format!("certificate-{n}.pem")), [b'x'; 2048])?;
    }
    Ok(())
}
