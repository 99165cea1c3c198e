//! What watches a directory, and signals nginx.

use std::error::Error;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use e2e::nginx::Nginx;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// How it is done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With its defaults.
    Reloader,
    /// Without waiting for more.
    AtOnce,
    /// A loop around `inotifywait`, with the pause of the original document.
    Loop,
    /// `inotifywait` that goes on, and a signal for each event.
    Stream,
}

impl Kind {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 4] = [Self::Reloader, Self::AtOnce, Self::Loop, Self::Stream];

    /// What the tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reloader => "reloader",
            Self::AtOnce => "reloader --debounce 0 --cooldown 0",
            Self::Loop => "inotifywait -r, HUP, sleep 5",
            Self::Stream => "inotifywait -m -r, HUP for each event",
        }
    }
}

/// One that runs, with all of its processes, until it is dropped.
pub struct Watcher(Child);

impl Watcher {
    /// Starts one.
    pub fn start(kind: Kind, data: &Path, nginx: &Nginx) -> Result<Self, Box<dyn Error>> {
        let (data, master) = (data.display(), nginx.master());
        let mut command = match kind {
            Kind::Reloader | Kind::AtOnce => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_reloader"));
                command.arg("--process").arg(nginx.title()).arg(data.to_string());
                if kind == Kind::AtOnce {
                    command.args(["--debounce", "0", "--cooldown", "0"]);
                }
                command
            }
            Kind::Loop => shell(&format!(
                "while inotifywait -qq -r -e modify,create,delete,move {data}; do \
                 kill -HUP {master}; sleep 5; done"
            )),
            Kind::Stream => shell(&format!(
                "inotifywait -q -m -r --format . -e modify,create,delete,move {data} | \
                 while read -r _; do kill -HUP {master}; done"
            )),
        };
        let command = command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
        Ok(Self(command.process_group(0).spawn()?))
    }

    /// Processes of its group.
    fn processes(&self) -> Result<Vec<String>, Box<dyn Error>> {
        let mut found = Vec::new();
        for process in fs::read_dir("/proc")?.flatten() {
            let Ok(stat) = fs::read_to_string(process.path().join("stat")) else { continue };
            let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
            if rest.split(' ').nth(2) == Some(&self.0.id().to_string()) {
                found.push(stat);
            }
        }
        Ok(found)
    }

    /// How long it has computed, in seconds, with what it has waited for.
    pub fn cpu(&self) -> Result<f64, Box<dyn Error>> {
        let ticks = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100) as f64;
        let mut sum = 0;
        for stat in self.processes()? {
            let (_, rest) = stat.rsplit_once(") ").ok_or("no stat")?;
            // proc(5): utime, stime, cutime and cstime are fields 14 to 17.
            for field in rest.split(' ').skip(11).take(4) {
                sum += field.parse::<u64>()?;
            }
        }
        Ok(sum as f64 / ticks)
    }

    /// What it occupies, in MB.
    pub fn megabytes(&self) -> Result<f64, Box<dyn Error>> {
        let mut kib = 0;
        for stat in self.processes()? {
            let pid = stat.split(' ').next().ok_or("no stat")?;
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            kib += line.ok_or("no RSS")?.trim().trim_end_matches(" kB").parse::<u64>()?;
        }
        Ok(kib as f64 / 1000.0)
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // They end together, whatever they are.
        let _ = killpg(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}
