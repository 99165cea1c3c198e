//! The queue in front of the writer: pairs from the reader, in their order, and answers from the
//! directory, in any order.
//!
//! Pending pairs take bounded memory: the reader waits until there is space. While the writer waits
//! for an answer, more pairs may be pending, since their UIDs can be looked up in the meantime.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Error, Result};

use super::block::PairBlock;
use crate::directory::{Answer, LookupStats};

/// Most bytes of pairs that may be pending while the writer writes.
const MAX_PENDING: usize = 4 * 1024 * 1024;
/// Most bytes of pairs that may be pending while the writer waits for an answer.
const MAX_PENDING_UNANSWERED: usize = 64 * 1024 * 1024;
/// Most empty blocks that are kept for reuse.
const MAX_SPARE: usize = 16;

/// What [`Queue::try_next_block`] found.
pub enum Next {
    /// The next block of pairs.
    Block(PairBlock),
    /// The input has ended, and all its pairs were taken.
    End,
    /// The reader has not finished the next block yet.
    NotYet,
}

/// A queue with one reader, one directory and one writer.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    /// Notified when a block, answers, or an end has been added.
    added: Condvar,
    /// Notified when there is space for a block, or the queue was closed.
    has_space: Condvar,
}

#[derive(Default)]
struct State {
    blocks: VecDeque<PairBlock>,
    /// Bytes of all pending blocks.
    size: usize,
    spare: Vec<PairBlock>,
    /// How the reader ended; `None` while it reads.
    input: Option<Result<()>>,
    answers: Vec<Answer>,
    /// How the directory ended; `None` while it looks UIDs up.
    directory: Option<Result<()>>,
    stats: LookupStats,
    awaits_answer: bool,
    is_closed: bool,
}

impl State {
    fn has_space(&self) -> bool {
        let limit = if self.awaits_answer { MAX_PENDING_UNANSWERED } else { MAX_PENDING };
        self.size < limit || self.is_closed
    }
}

impl Queue {
    /// Adds a block of pairs after waiting for space, and replaces it by an empty one. Returns false
    /// if the queue is closed.
    pub fn push(&self, block: &mut PairBlock) -> bool {
        let mut state = self.wait(&self.has_space, self.lock(), State::has_space);
        state.size += block.size();
        let spare = state.spare.pop().unwrap_or_default();
        state.blocks.push_back(std::mem::replace(block, spare));
        let is_closed = state.is_closed;
        drop(state);
        self.added.notify_one();
        !is_closed
    }

    /// Takes back a block that was written, for reuse.
    pub fn give_back(&self, block: PairBlock) {
        let Some(empty) = block.into_empty() else { return };
        let mut state = self.lock();
        if state.spare.len() < MAX_SPARE {
            state.spare.push(empty);
        }
    }

    /// Ends the input with the reader's result.
    pub fn end_input(&self, result: Result<()>) {
        self.lock().input.get_or_insert(result);
        self.added.notify_one();
    }

    /// Adds answers of the directory.
    pub fn add_answers(&self, answers: Vec<Answer>) {
        self.lock().answers.extend(answers);
        self.added.notify_one();
    }

    /// Ends the answers with the directory's result. Only the first call counts.
    pub fn end_answers(&self, result: Result<()>, stats: LookupStats) {
        let mut state = self.lock();
        if state.directory.is_none() {
            // Pending pairs may still have their answers, but there is no use in reading more.
            state.is_closed |= result.is_err();
            (state.directory, state.stats) = (Some(result), stats);
        }
        self.added.notify_one();
        self.has_space.notify_one();
    }

    /// Takes the next block if there is one.
    ///
    /// # Errors
    /// Fails with the error of the directory or the reader, once no block is pending.
    pub fn try_next_block(&self) -> Result<Next> {
        Self::take_next(&mut self.lock(), &self.has_space)
    }

    /// Waits for the next block; `None` at the end of the input.
    ///
    /// # Errors
    /// As [`try_next_block`](Self::try_next_block).
    pub fn next_block(&self) -> Result<Option<PairBlock>> {
        let is_ready = |state: &State| {
            let has_failed = matches!(state.directory, Some(Err(_)));
            !state.blocks.is_empty() || state.input.is_some() || has_failed
        };
        let mut state = self.wait(&self.added, self.lock(), is_ready);
        match Self::take_next(&mut state, &self.has_space)? {
            Next::Block(block) => Ok(Some(block)),
            Next::End | Next::NotYet => Ok(None),
        }
    }

    fn take_next(state: &mut State, has_space: &Condvar) -> Result<Next> {
        if let Some(block) = state.blocks.pop_front() {
            state.size -= block.size();
            has_space.notify_one();
            return Ok(Next::Block(block));
        }
        if let Some(Err(error)) = &mut state.directory {
            return Err(take(error));
        }
        match &mut state.input {
            Some(Err(error)) => Err(take(error)),
            Some(Ok(())) => Ok(Next::End),
            None => Ok(Next::NotYet),
        }
    }

    /// Waits for answers and takes all that are there.
    ///
    /// # Errors
    /// Fails if the directory has ended and all its answers were taken.
    pub fn wait_for_answers(&self) -> Result<Vec<Answer>> {
        let mut state = self.lock();
        state.awaits_answer = true;
        self.has_space.notify_one();
        let is_ready = |state: &State| !state.answers.is_empty() || state.directory.is_some();
        let mut state = self.wait(&self.added, state, is_ready);
        state.awaits_answer = false;
        if !state.answers.is_empty() {
            return Ok(std::mem::take(&mut state.answers));
        }
        match &mut state.directory {
            Some(Err(error)) => Err(take(error)),
            _ => Err(ended_early()),
        }
    }

    /// Waits until the directory has ended.
    ///
    /// # Errors
    /// Fails with the directory's error.
    pub fn wait_for_last_answer(&self) -> Result<()> {
        let is_ready = |state: &State| state.directory.is_some();
        let mut state = self.wait(&self.added, self.lock(), is_ready);
        state.directory.take().unwrap_or_else(|| Err(ended_early()))
    }

    /// Makes the reader stop, and takes the statistics of the directory, which are empty if it has
    /// not ended yet.
    pub fn close(&self) -> LookupStats {
        let mut state = self.lock();
        state.is_closed = true;
        self.has_space.notify_one();
        std::mem::take(&mut state.stats)
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

/// Takes the error out; the next caller gets a less specific one.
fn take(error: &mut Error) -> Error {
    std::mem::replace(error, ended_early())
}

fn ended_early() -> Error {
    anyhow::anyhow!("the lookup has ended early")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::thread::spawn;
    use std::time::Duration;

    use anyhow::anyhow;

    use super::*;
    use crate::directory::owner::Owner;

    fn block(size: usize) -> PairBlock {
        let mut block = PairBlock::default();
        block.keys.resize(size, b'a');
        block.end_pair(true);
        block
    }

    fn answer(uid: u32) -> Answer {
        Answer { uid, owner: Owner::default() }
    }

    #[test]
    fn the_reader_waits_for_space_and_gets_more_while_an_answer_is_awaited() {
        let queue = Arc::new(Queue::default());
        let (sender, pushed) = channel();
        let reader = queue.clone();
        // These threads are not scoped: if the test fails, it must not wait for them.
        spawn(move || {
            for size in [MAX_PENDING, 1, MAX_PENDING_UNANSWERED, 1] {
                assert!(reader.push(&mut block(size)));
                sender.send(size).expect("sent");
            }
        });
        let long = Duration::from_secs(60);
        assert_eq!(pushed.recv_timeout(long), Ok(MAX_PENDING));
        let waits = pushed.recv_timeout(Duration::from_millis(50));
        assert_eq!(waits, Err(RecvTimeoutError::Timeout));
        let writer = queue.clone();
        let waiting = spawn(move || writer.wait_for_answers().map(|answers| answers.len()));
        assert_eq!(pushed.recv_timeout(long), Ok(1));
        assert_eq!(pushed.recv_timeout(long), Ok(MAX_PENDING_UNANSWERED));
        queue.add_answers(vec![answer(7)]);
        assert_eq!(waiting.join().expect("joined").expect("answers"), 1);
        for _ in 0..3 {
            assert!(matches!(queue.next_block(), Ok(Some(_))));
        }
        assert_eq!(pushed.recv_timeout(long), Ok(1));
    }

    #[test]
    fn pairs_before_an_error_come_first() {
        let queue = Queue::default();
        queue.push(&mut block(1));
        queue.end_input(Err(anyhow!("bad input")));
        assert!(matches!(queue.try_next_block(), Ok(Next::Block(_))));
        let error = queue.try_next_block().err().expect("an error");
        assert_eq!(error.to_string(), "bad input");
    }

    #[test]
    fn answers_before_an_error_come_first_and_stop_the_reader() {
        let queue = Queue::default();
        queue.add_answers(vec![answer(7)]);
        queue.end_answers(Err(anyhow!("lost")), LookupStats::default());
        assert!(!queue.push(&mut block(1)));
        assert_eq!(queue.wait_for_answers().expect("answers").len(), 1);
        assert_eq!(queue.wait_for_answers().err().expect("an error").to_string(), "lost");
    }

    #[test]
    fn only_the_first_end_counts() {
        let queue = Queue::default();
        let stats = LookupStats { referrals: 1, ..LookupStats::default() };
        queue.end_answers(Ok(()), stats.clone());
        queue.end_answers(Err(anyhow!("late")), LookupStats::default());
        assert!(queue.wait_for_last_answer().is_ok());
        assert_eq!(queue.close(), stats);
    }
}
