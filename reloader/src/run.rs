//! Starts the threads (signals, inotify, scans, HTTP server), and runs the main loop, which receives
//! their events.

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

use self::event::{Event, EventSender};
use self::main_loop::{MainLoop, Options};
use crate::cli::Cli;
use crate::decide::Settings;
use crate::log::{print, warn};
use crate::process::nginx::LastMaster;
use crate::serve::Metrics;
use crate::serve::bundle::{self, Published};
use crate::serve::serve;
use crate::steps::{self, Shared};
use crate::watch::{Limits, Scanner, Watches};

/// Watches and reloads until a signal ends it, or with `--once` until the first reload; returns
/// the exit code.
///
/// # Errors
/// Fails if the configuration is wrong, an address cannot be bound, or a thread cannot be started.
pub fn run(cli: &Cli, matches: &ArgMatches) -> Result<u8> {
    let shared = Shared { published: Published::new(), master: LastMaster::default() };
    let steps = steps::from_command_line(matches, cli, &shared)?;
    let (sender, events) = channel();
    let sender = EventSender::new(sender);
    take_signals(&sender)?;
    let limits = Limits {
        depth: cli.max_depth,
        names: cli.max_files,
        bytes: cli.max_bytes.saturating_mul(1024 * 1024),
    };
    let mut scanner = Scanner::new(cli.directories.clone(), limits, start_watching(&sender));
    if cli.serve_bundle.is_some() {
        scanner = scanner.keep_open();
    }
    let options = Options {
        directories: cli.directories.clone(),
        poll: cli.poll,
        settings: Settings {
            debounce: cli.debounce,
            max_wait: cli.max_wait,
            cooldown: cli.cooldown,
        },
        // Each step decides for itself then; OPA has no bundle before.
        at_start: cli.at_start.unwrap_or(!cli.once) || cli.serve_bundle.is_some(),
        bundle: shared.published.clone(),
        once: cli.once,
        dry_run: cli.dry_run,
    };
    let metrics = Metrics::default();
    metrics.lock().nginx = shared.master;
    let watched: Vec<_> =
        cli.directories.iter().map(|path| one_line(path.as_os_str().as_bytes())).collect();
    print(&format!("watching {}; on a change: {}", watched.join(", "), steps.describe()));
    if let Some(address) = &cli.listen {
        let bound = serve(address, metrics.clone())?;
        print(&format!("listening at {bound}"));
    }
    if let Some(address) = cli.serve_bundle.as_ref().filter(|_| !cli.dry_run) {
        let bound = bundle::serve(address, shared.published)?;
        print(&format!("serving http://{bound}{}", bundle::PATH));
    }
    Ok(MainLoop::new(options, steps, scanner, sender, metrics)?.run(&events))
}

/// Starts to send changes as events; without inotify, only regular scans find them.
fn start_watching(sender: &EventSender) -> Option<Watches> {
    let sender = sender.clone();
    match Watches::start(move || sender.changed()) {
        Ok(watches) => Some(watches),
        Err(error) => {
            warn(&format!("{error:#}: changes are found by regular scans only"));
            None
        }
    }
}

/// Lets SIGTERM and SIGINT end the program, also as process 1, and SIGHUP start a scan.
fn take_signals(sender: &EventSender) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("failed to take signals")?;
    let sender = sender.clone();
    let take = move || {
        for signal in signals.forever() {
            match signal {
                SIGHUP => sender.changed(),
                _ => sender.send(Event::Shutdown),
            }
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(take)
        .context("failed to start a thread")?;
    Ok(())
}
