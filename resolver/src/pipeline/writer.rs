//! Writes each pair once the answers for its UIDs are there.

use std::io::Write;

use anyhow::Result;
use owner_json::ObjectWriter;

use super::answers::{AnswerCache, Value};
use super::block::PairBlock;
use super::queue::{Next, Queue};

/// Writes the pairs of a queue.
pub struct PairWriter<'w, 'a, W> {
    object: ObjectWriter<W>,
    queue: &'w Queue,
    answers: &'w mut AnswerCache<'a>,
    paths: u64,
}

impl<'w, 'a, W: Write> PairWriter<'w, 'a, W> {
    /// Creates a writer to `output`.
    pub fn new(output: W, queue: &'w Queue, answers: &'w mut AnswerCache<'a>) -> Self {
        Self { object: ObjectWriter::new(output), queue, answers, paths: 0 }
    }

    /// Writes all pairs of the queue, without the closing brace.
    ///
    /// # Errors
    /// Fails if the input, the directory or the output failed.
    pub fn write_all(&mut self) -> Result<()> {
        while let Some(block) = self.next_block()? {
            for pair in block.pairs() {
                match pair.uids {
                    [uid] if !pair.is_array => self.write_one(pair.key, *uid)?,
                    uids => self.write_many(pair.key, uids)?,
                }
                self.paths += 1;
            }
            self.answers.show_progress(self.paths);
            self.queue.give_back(block);
        }
        Ok(())
    }

    /// How many paths were written.
    pub fn paths(&self) -> u64 {
        self.paths
    }

    /// Writes out all lines that are complete.
    ///
    /// # Errors
    /// Fails if the output cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.object.flush()
    }

    /// Closes the object.
    ///
    /// # Errors
    /// Fails if the output cannot be written.
    pub fn finish(self) -> Result<()> {
        self.object.finish()
    }

    fn next_block(&mut self) -> Result<Option<PairBlock>> {
        match self.queue.try_next_block()? {
            Next::Block(block) => Ok(Some(block)),
            Next::End => Ok(None),
            Next::NotYet => {
                self.object.flush()?;
                self.queue.next_block()
            }
        }
    }

    fn write_one(&mut self, key: &[u8], uid: u32) -> Result<()> {
        let value = self.wait_for_answer(uid)?;
        let out = self.object.member()?;
        out.extend_from_slice(key);
        out.extend_from_slice(b": ");
        out.extend_from_slice(self.answers.text(value));
        Ok(())
    }

    fn write_many(&mut self, key: &[u8], uids: &[u32]) -> Result<()> {
        uids.iter().try_for_each(|&uid| self.wait_for_answer(uid).map(drop))?;
        let out = self.object.member()?;
        out.extend_from_slice(key);
        out.extend_from_slice(b": ");
        self.answers.push_values(uids, out);
        Ok(())
    }

    #[inline]
    fn wait_for_answer(&mut self, uid: u32) -> Result<Value> {
        loop {
            if let Some(value) = self.answers.find(uid) {
                return Ok(value);
            }
            self.object.flush()?;
            self.answers.add(self.queue.wait_for_answers()?);
        }
    }
}
