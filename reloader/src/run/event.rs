//! What wakes the attendant, and the threads that do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use published_tree::tree::Hash;

use crate::reload::Outcome;
use crate::watch::{Scanner, Seen};

/// What wakes the attendant.
pub enum Wake {
    /// Something has happened in a directory.
    Event,
    /// The program is to end.
    Stop,
    /// A look has ended.
    Looked(Box<Looked>),
    /// A reload has ended.
    Acted(Hash, Outcome),
}

/// Tells of events, once for all until they are looked into.
#[derive(Clone)]
pub struct Bell {
    wakes: Sender<Wake>,
    has_rung: Arc<AtomicBool>,
}

impl Bell {
    /// One that wakes through `wakes`.
    pub fn new(wakes: Sender<Wake>) -> Self {
        Self { wakes, has_rung: Arc::default() }
    }

    /// Something has happened.
    pub fn ring(&self) {
        if !self.has_rung.swap(true, Ordering::AcqRel) {
            // Nobody hears it when the program ends.
            let _ = self.wakes.send(Wake::Event);
        }
    }

    /// It has been heard: what happens from now on is new.
    pub fn heard(&self) {
        self.has_rung.store(false, Ordering::Release);
    }

    /// Something else is to be told.
    pub fn tell(&self, wake: Wake) {
        let _ = self.wakes.send(wake);
    }
}

/// A look that has ended.
pub struct Looked {
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// What was there.
    pub seen: Result<Seen>,
    /// Whether events tell of all changes there.
    pub is_told: bool,
}

/// Takes the looks that are asked for, thorough ones or not, in a thread of its own: a file system
/// may take its time.
///
/// # Errors
/// There is no thread to be had.
pub fn start_looking(mut scanner: Scanner, bell: &Bell) -> Result<Sender<bool>> {
    let (looks, asked) = channel();
    let bell = bell.clone();
    let look = move || {
        while let Ok(thorough) = asked.recv() {
            let began = Instant::now();
            let seen = scanner.scan(thorough);
            let (ended, is_told) = (Instant::now(), scanner.is_told_of_changes());
            bell.tell(Wake::Looked(Box::new(Looked { began, ended, seen, is_told })));
        }
    };
    thread::Builder::new()
        .name("scan".to_owned())
        .spawn(look)
        .context("failed to start a thread")?;
    Ok(looks)
}
