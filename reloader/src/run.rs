//! Joins the parts: the threads that watch, scan, take signals and serve, and the main loop.

mod changes;
mod event;
mod main_loop;

use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::channel;
use std::thread;

use anyhow::{Context, Result};
use clap::ArgMatches;
use diagnostics::wording::one_line;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::event::{Bell, Wake};
use self::main_loop::{Attendant, Wishes};
use crate::cli::Cli;
use crate::decide::{Decider, Settings};
use crate::plan;
use crate::report::{say, warn};
use crate::serve::metrics::Figures;
use crate::serve::serve;
use crate::stop::Stop;
use crate::watch::{Limits, Scanner, Watches};

/// Runs the command and returns its exit code.
///
/// # Errors
/// The command line makes no sense, or what it asks for is not to be had.
pub fn run(cli: &Cli, matches: &ArgMatches) -> Result<u8> {
    let steps = plan::steps(matches, cli)?;
    let (wake, wakes) = channel();
    let stop = Stop::default();
    let bell = Bell::new(wake);
    take_signals(&bell)?;
    let limits = Limits {
        depth: cli.max_depth,
        names: cli.max_files,
        bytes: cli.max_bytes.saturating_mul(1024 * 1024),
    };
    let scanner = Scanner::new(cli.directories.clone(), limits, watches(&bell));
    let settings =
        Settings { debounce: cli.debounce, max_wait: cli.max_wait, cooldown: cli.cooldown };
    let wishes = Wishes {
        directories: cli.directories.clone(),
        poll: cli.poll,
        debounce: cli.debounce,
        at_start: cli.at_start.unwrap_or(!cli.once),
        once: cli.once,
        dry_run: cli.dry_run,
    };
    let figures = Figures::default();
    let watched: Vec<_> =
        cli.directories.iter().map(|path| one_line(path.as_os_str().as_bytes())).collect();
    say(&format!("watching {}; on a change: {}", watched.join(", "), steps.describe()));
    if let Some(address) = &cli.listen {
        let at = serve(address, figures.clone())?;
        say(&format!("listening at {at}"));
    }
    let parts = (steps, Decider::new(settings), figures, stop);
    Ok(Attendant::new(wishes, parts, scanner, bell)?.attend(&wakes))
}

/// Has events wake the attendant, if they can be had.
fn watches(bell: &Bell) -> Option<Watches> {
    let bell = bell.clone();
    match Watches::start(move || bell.ring()) {
        Ok(watches) => Some(watches),
        Err(error) => {
            warn(&format!("{error:#}: changes are found by looking only"));
            None
        }
    }
}

/// SIGTERM and SIGINT end the program, also as process 1; SIGHUP has it look at once.
fn take_signals(bell: &Bell) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("failed to take signals")?;
    let bell = bell.clone();
    let take = move || {
        for signal in signals.forever() {
            match signal {
                SIGHUP => bell.ring(),
                _ => bell.tell(Wake::Stop),
            }
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(take)
        .context("failed to start a thread")?;
    Ok(())
}
