//! The events that threads send to the main loop, and the thread that scans on request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use published_tree::tree::Hash;

use crate::reload::Outcome;
use crate::watch::{Scan, Scanner};

/// Something that the main loop reacts to.
pub enum Event {
    /// Something may have changed in a watched directory.
    Changed,
    /// A signal asks the program to end.
    Shutdown,
    /// A scan has ended.
    Scanned(Box<ScanEnd>),
    /// A reload of the content with this digest has ended.
    Reloaded(Hash, Outcome),
}

/// Sends events to the main loop. Clones share the queue.
#[derive(Clone)]
pub struct EventSender {
    queue: Sender<Event>,
    /// Whether a [`Event::Changed`] is in the queue: one stands for all changes.
    is_change_pending: Arc<AtomicBool>,
}

impl EventSender {
    /// Sends into this queue.
    pub fn new(queue: Sender<Event>) -> Self {
        Self { queue, is_change_pending: Arc::default() }
    }

    /// Sends [`Event::Changed`], unless one is in the queue.
    pub fn changed(&self) {
        if !self.is_change_pending.swap(true, Ordering::AcqRel) {
            self.send(Event::Changed);
        }
    }

    /// Call when [`Event::Changed`] is taken from the queue: the next change is sent again.
    pub fn change_received(&self) {
        self.is_change_pending.store(false, Ordering::Release);
    }

    /// Sends an event.
    pub fn send(&self, event: Event) {
        // The main loop has ended if it cannot be received; so will this thread.
        let _ = self.queue.send(event);
    }
}

/// A scan that has ended.
pub struct ScanEnd {
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// The content.
    pub scan: Result<Scan>,
    /// Whether every later change there raises an event.
    pub has_events: bool,
}

/// Starts a thread that scans on request, thoroughly or not. It is a thread because a file system
/// may hang.
///
/// # Errors
/// Fails if the thread cannot be started.
pub fn start_scanning(mut scanner: Scanner, events: &EventSender) -> Result<Sender<bool>> {
    let (requests, requested) = channel();
    let events = events.clone();
    let scan = move || {
        while let Ok(thorough) = requested.recv() {
            let began = Instant::now();
            let scan = scanner.scan(thorough);
            let (ended, has_events) = (Instant::now(), scanner.has_events());
            events.send(Event::Scanned(Box::new(ScanEnd { began, ended, scan, has_events })));
        }
    };
    thread::Builder::new()
        .name("scan".to_owned())
        .spawn(scan)
        .context("failed to start a thread")?;
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_stands_for_all_changes_until_it_is_received() {
        let (queue, events) = channel();
        let sender = EventSender::new(queue);
        (0..3).for_each(|_| sender.clone().changed());
        assert_eq!(events.try_iter().count(), 1);
        sender.changed();
        assert_eq!(events.try_iter().count(), 0, "not marked as received");
        sender.change_received();
        sender.changed();
        assert_eq!(events.try_iter().count(), 1);
    }
}
