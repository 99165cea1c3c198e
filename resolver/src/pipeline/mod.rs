//! The stream: pairs in, owners out, in input order and in bounded memory.
//!
//! Three threads: one reads and asks, one answers, and this one writes, so that a slow scan is
//! resolved while it runs and a distant directory is asked many questions at a time.

pub mod answers;
mod queue;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::sync::Arc;
use std::thread::Builder;

use anyhow::{Context, Result, anyhow};
use owner_json::{ObjectWriter, Owners, PairReader, ReadAhead};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::directory::{Directory, Remarks};
use answers::{Answers, NO_UID, RECENT};
use queue::{Block, Inbox};

/// Bytes of pairs that are handed on together.
const BLOCK: usize = 256 * 1024;

/// What a run came to.
#[derive(Default)]
pub struct Done {
    /// Paths that were written, or nearly so.
    pub paths: u64,
    /// What the directory noticed.
    pub remarks: Remarks,
}

/// Reads ownership JSON from `input`, and writes each path with its owners to `output`. What it
/// came to is told in `done`, on an error too.
///
/// What is known is written before anything that may take a while, be it reading or asking. The
/// object is closed only after everything went well. On an error, `input` may still be being
/// read.
///
/// # Errors
/// Bad input, an unanswered question, or unwritable output. What was known is written.
pub fn resolve(
    input: impl Read + Send + 'static,
    output: impl Write,
    directory: Box<dyn Directory>,
    answers: &mut Answers<'_>,
    done: &mut Done,
) -> Result<()> {
    let inbox = Arc::new(Inbox::default());
    start(&inbox, input, directory)?;
    let mut writer = Writer { object: ObjectWriter::new(output), inbox: &inbox, answers };
    let outcome = writer.write_all(&mut done.paths).and_then(|()| inbox.end());
    done.remarks = inbox.close();
    if outcome.is_ok() {
        return writer.object.finish();
    }
    // The error that ends the run is the one to tell.
    let _ = writer.object.flush();
    outcome
}

/// Starts the thread that reads and the one that answers.
fn start(
    inbox: &Arc<Inbox>,
    input: impl Read + Send + 'static,
    mut directory: Box<dyn Directory>,
) -> Result<()> {
    let (ask, questions) = unbounded_channel();
    let answering = Ending(inbox.clone());
    let answer = move || {
        let inbox = &answering.0;
        let outcome = directory.answer(questions, &|answers| inbox.give(answers));
        inbox.end_answers(outcome, directory.remarks());
    };
    let reading = Ending(inbox.clone());
    let read = move || {
        let outcome = read(input, &reading.0, &ask);
        reading.0.end_input(outcome);
    };
    Builder::new().spawn(answer).context("failed to start a thread")?;
    Builder::new().spawn(read).context("failed to start a thread")?;
    Ok(())
}

/// Lets nobody wait for a thread that panicked.
struct Ending(Arc<Inbox>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = anyhow!("the lookup has failed in a way that is a defect");
            self.0.end_answers(Err(error), Remarks::default());
        }
    }
}

/// Reads all pairs, and asks for each UID when it comes for the first time.
fn read(
    input: impl Read + Send + 'static,
    inbox: &Inbox,
    ask: &UnboundedSender<u32>,
) -> Result<()> {
    let input = ReadAhead::start(input).context("failed to start a thread")?;
    let mut reader = PairReader::new(input);
    let mut asked = Asked::default();
    let mut block = Block::default();
    loop {
        let mut hand_on = || {
            if block.pairs.is_empty() || inbox.put(&mut block) {
                return Ok(());
            }
            Err(anyhow!("nobody takes the pairs"))
        };
        let pair = match reader.next_pair(&mut hand_on) {
            Ok(Some(pair)) => pair,
            Ok(None) => return hand_on(),
            Err(error) => {
                // What came before is good; if nobody takes it, there is an earlier error.
                let _ = hand_on();
                return Err(error);
            }
        };
        let mut note = |uid| {
            if asked.is_new(uid) {
                // Where nobody answers any more, the writer knows why.
                let _ = ask.send(uid);
            }
        };
        block.keys.extend_from_slice(pair.key);
        match pair.owners {
            Owners::One(uid) => {
                note(uid);
                block.uids.push(uid);
            }
            Owners::Many(uids) => {
                uids.iter().for_each(|&uid| note(uid));
                block.uids.extend_from_slice(uids);
            }
        }
        block.end_pair(matches!(pair.owners, Owners::Many(_)));
        if block.size() >= BLOCK && !inbox.put(&mut block) {
            return Ok(());
        }
    }
}

/// Which UIDs were asked for.
struct Asked {
    all: HashSet<u32>,
    /// Each that came lately, at its lowest bits.
    recent: [u32; RECENT],
}

impl Default for Asked {
    fn default() -> Self {
        // It counts as asked for, since it never is.
        Self { all: HashSet::from([NO_UID]), recent: [NO_UID; RECENT] }
    }
}

impl Asked {
    fn is_new(&mut self, uid: u32) -> bool {
        let recent = &mut self.recent[uid as usize % RECENT];
        std::mem::replace(recent, uid) != uid && self.all.insert(uid)
    }
}

/// The thread that writes.
struct Writer<'w, 'a, W> {
    object: ObjectWriter<W>,
    inbox: &'w Inbox,
    answers: &'w mut Answers<'a>,
}

impl<W: Write> Writer<'_, '_, W> {
    fn write_all(&mut self, paths: &mut u64) -> Result<()> {
        while let Some(block) = self.next_block()? {
            for (key, uids, is_array) in block.pairs() {
                match uids {
                    [uid] if !is_array => self.write_one(key, *uid)?,
                    _ => self.write_many(key, uids)?,
                }
                *paths += 1;
            }
            self.answers.show_progress(*paths);
            self.inbox.give_back(block);
        }
        Ok(())
    }

    fn next_block(&mut self) -> Result<Option<Block>> {
        if let Some(block) = self.inbox.try_block()? {
            return Ok(block);
        }
        self.object.flush()?;
        self.inbox.block()
    }

    fn write_one(&mut self, key: &[u8], uid: u32) -> Result<()> {
        self.await_answer(uid)?;
        let value = self.answers.one(uid).unwrap_or_default();
        let out = self.object.member()?;
        out.extend_from_slice(key);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        Ok(())
    }

    fn write_many(&mut self, key: &[u8], uids: &[u32]) -> Result<()> {
        uids.iter().try_for_each(|&uid| self.await_answer(uid))?;
        let out = self.object.member()?;
        out.extend_from_slice(key);
        out.extend_from_slice(b": ");
        self.answers.write_many(uids, out);
        Ok(())
    }

    fn await_answer(&mut self, uid: u32) -> Result<()> {
        while self.answers.one(uid).is_none() {
            self.object.flush()?;
            self.answers.take(self.inbox.answers()?);
        }
        Ok(())
    }
}
