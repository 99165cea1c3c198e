//! What the writer of the output waits for: pairs from the reader, in their order, and answers
//! from the directory, in any order. Pairs take bounded memory; who reads must wait for room.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Error, Result};

use crate::directory::Remarks;
use crate::directory::owner::Owner;

/// Most bytes of pairs that wait while an answer is missing, and while none is.
const ROOM: (usize, usize) = (64 * 1024 * 1024, 4 * 1024 * 1024);

/// Most blocks that are kept to be filled again.
const SPARE: usize = 16;
/// Most memory, in bytes, that the keys of a block may take to be kept.
const LARGE: usize = 1024 * 1024;

/// Pairs one after another: keys as they were spelt, and their UIDs.
#[derive(Debug, Default)]
pub struct Block {
    /// The keys, without anything between them.
    pub keys: Vec<u8>,
    /// The UIDs of all pairs.
    pub uids: Vec<u32>,
    /// For each pair where it ends; several UIDs only if given so.
    pub pairs: Vec<Ends>,
}

/// Where a pair ends in its block.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    key: usize,
    uids: usize,
    /// The value was an array, of whatever length.
    is_array: bool,
}

impl Block {
    /// Makes a pair of what was added since the last one.
    pub fn end_pair(&mut self, is_array: bool) {
        self.pairs.push(Ends { key: self.keys.len(), uids: self.uids.len(), is_array });
    }

    /// Each pair's key and UIDs, and whether these were an array.
    pub fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u32], bool)> {
        let (mut key, mut uids) = (0, 0);
        self.pairs.iter().map(move |ends| {
            let pair = (&self.keys[key..ends.key], &self.uids[uids..ends.uids], ends.is_array);
            (key, uids) = (ends.key, ends.uids);
            pair
        })
    }

    /// How much memory it takes, in bytes.
    pub fn size(&self) -> usize {
        self.keys.len() + self.pairs.len() * size_of::<Ends>() + self.uids.len() * 4
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.uids.clear();
        self.pairs.clear();
    }
}

/// The two things that are waited for.
#[derive(Default)]
pub struct Inbox {
    state: Mutex<State>,
    /// Something has come.
    came: Condvar,
    /// There is room, or nobody takes anything any more.
    room: Condvar,
}

#[derive(Default)]
struct State {
    blocks: VecDeque<Block>,
    size: usize,
    /// Empty ones.
    spare: Vec<Block>,
    /// How the reading ended, once it has.
    input: Option<Result<()>>,
    answers: Vec<(u32, Owner)>,
    /// How the answering ended, once it has.
    directory: Option<Result<()>>,
    remarks: Remarks,
    awaits_answer: bool,
    is_closed: bool,
}

impl State {
    fn has_room(&self) -> bool {
        let room = if self.awaits_answer { ROOM.0 } else { ROOM.1 };
        self.size < room || self.is_closed
    }
}

impl Inbox {
    /// Adds pairs, after waiting for room, and makes `block` an empty one; false if nobody takes
    /// them any more.
    pub fn put(&self, block: &mut Block) -> bool {
        let mut state = self.wait(&self.room, self.lock(), State::has_room);
        state.size += block.size();
        let spare = state.spare.pop().unwrap_or_default();
        state.blocks.push_back(std::mem::replace(block, spare));
        let is_closed = state.is_closed;
        drop(state);
        self.came.notify_one();
        !is_closed
    }

    /// Takes a block back to be filled again.
    pub fn give_back(&self, mut block: Block) {
        block.clear();
        let mut state = self.lock();
        // One that holds an enormous pair is not worth its memory.
        if state.spare.len() < SPARE && block.keys.capacity() <= LARGE {
            state.spare.push(block);
        }
    }

    /// Ends the pairs, well or not.
    pub fn end_input(&self, outcome: Result<()>) {
        self.lock().input.get_or_insert(outcome);
        self.came.notify_one();
    }

    /// Adds answers.
    pub fn give(&self, answers: Vec<(u32, Owner)>) {
        self.lock().answers.extend(answers);
        self.came.notify_one();
    }

    /// Ends the answers, well or not, with what was noticed.
    pub fn end_answers(&self, outcome: Result<()>, remarks: Remarks) {
        let mut state = self.lock();
        if state.directory.is_none() {
            // What waits already may still have its answers; nothing more should come.
            state.is_closed |= outcome.is_err();
            (state.directory, state.remarks) = (Some(outcome), remarks);
        }
        self.came.notify_one();
        self.room.notify_one();
    }

    /// The next pairs if they are there already, or the end of the input (`None`).
    ///
    /// # Errors
    /// Either side has failed, after all pairs that had come by then.
    pub fn try_block(&self) -> Result<Option<Option<Block>>> {
        Self::take_block(&mut self.lock(), &self.room)
    }

    /// The next pairs, or `None` at the end of the input.
    ///
    /// # Errors
    /// As [`try_block`](Self::try_block).
    pub fn block(&self) -> Result<Option<Block>> {
        let is_ready = |state: &State| {
            let has_failed = matches!(state.directory, Some(Err(_)));
            !state.blocks.is_empty() || state.input.is_some() || has_failed
        };
        let mut state = self.wait(&self.came, self.lock(), is_ready);
        Ok(Self::take_block(&mut state, &self.room)?.flatten())
    }

    fn take_block(state: &mut State, room: &Condvar) -> Result<Option<Option<Block>>> {
        if let Some(block) = state.blocks.pop_front() {
            state.size -= block.size();
            room.notify_one();
            return Ok(Some(Some(block)));
        }
        if let Some(Err(error)) = &mut state.directory {
            return Err(take(error));
        }
        match &mut state.input {
            Some(Err(error)) => Err(take(error)),
            Some(Ok(())) => Ok(Some(None)),
            None => Ok(None),
        }
    }

    /// Waits for answers.
    ///
    /// # Errors
    /// There will be no more.
    pub fn answers(&self) -> Result<Vec<(u32, Owner)>> {
        let mut state = self.lock();
        state.awaits_answer = true;
        self.room.notify_one();
        let is_ready = |state: &State| !state.answers.is_empty() || state.directory.is_some();
        let mut state = self.wait(&self.came, state, is_ready);
        state.awaits_answer = false;
        if !state.answers.is_empty() {
            return Ok(std::mem::take(&mut state.answers));
        }
        match &mut state.directory {
            Some(Err(error)) => Err(take(error)),
            _ => Err(unexpected()),
        }
    }

    /// Waits for the end of the answers.
    ///
    /// # Errors
    /// It was not a good one.
    pub fn end(&self) -> Result<()> {
        let is_ready = |state: &State| state.directory.is_some();
        let mut state = self.wait(&self.came, self.lock(), is_ready);
        state.directory.take().unwrap_or_else(|| Err(unexpected()))
    }

    /// What the directory has noticed, as far as it has ended. Nothing more will be taken.
    pub fn close(&self) -> Remarks {
        let mut state = self.lock();
        state.is_closed = true;
        self.room.notify_one();
        std::mem::take(&mut state.remarks)
    }

    fn wait<'s>(
        &self,
        condition: &Condvar,
        state: MutexGuard<'s, State>,
        is_ready: impl Fn(&State) -> bool,
    ) -> MutexGuard<'s, State> {
        let waited = condition.wait_while(state, |state| !is_ready(state));
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error itself, for whoever is the first to see it.
fn take(error: &mut Error) -> Error {
    std::mem::replace(error, unexpected())
}

fn unexpected() -> Error {
    anyhow::anyhow!("the lookup has ended before its time")
}
