//! Programs that watch a directory and signal nginx: reloader, and loops around inotifywait.

use std::error::Error;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use e2e::nginx::Nginx;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// A kind of watcher.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// reloader with its defaults.
    Reloader,
    /// reloader without debounce and cooldown.
    AtOnce,
    /// A loop around `inotifywait`, with the pause of the original document.
    Loop,
    /// An `inotifywait` that goes on, and a signal for each event.
    Stream,
}

impl Kind {
    /// All kinds, in the order of the tables.
    pub const ALL: [Self; 4] = [Self::Reloader, Self::AtOnce, Self::Loop, Self::Stream];

    /// The name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reloader => "reloader",
            Self::AtOnce => "reloader --debounce 0 --cooldown 0",
            Self::Loop => "inotifywait -r, HUP, sleep 5",
            Self::Stream => "inotifywait -m -r, HUP for each event",
        }
    }
}

/// A running watcher, whose process group is killed when dropped.
pub struct Watcher(Child);

impl Watcher {
    /// Starts a watcher.
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

    /// The `stat` of each process of the group.
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

    /// CPU time of the group in seconds, including reaped children.
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

    /// Resident memory of the group in MB.
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
        // The shell and its children end together.
        let _ = killpg(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}
