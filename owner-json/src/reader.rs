//! Reads `{"path": uid, ...}` as a stream and leaves the keys exactly as they are spelt.
//!
//! A general JSON reader decodes keys, and refuses the lone surrogates that stand for bytes outside
//! UTF-8, or it keeps the whole document. This reader knows only one kind of document. It copies key
//! tokens unchanged, keeps duplicates and the order, and reports each error with the byte offset.
//! The grammar is that of RFC 8259; a value is a UID or an array of UIDs.

use std::fmt;

use anyhow::Result;

use crate::fast_path::fast_pair;
use crate::source::{BeforeRead, Source};

/// The longest pair that is accepted, in bytes. A path of 10,000 levels of 255 escaped bytes fits.
const MAX_PAIR: usize = 32 * 1024 * 1024;
/// How many UIDs are accepted for one path.
const MAX_OWNERS: usize = 1 << 20;

/// The input is not ownership JSON.
#[derive(Debug)]
pub struct InputError {
    /// The offset of the error from the start of the input, in bytes.
    pub offset: u64,
    problem: String,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad input at byte {}: {}", self.offset, self.problem)
    }
}

impl std::error::Error for InputError {}

/// The owners of one path, each a UID of 32 bits.
#[derive(Debug, PartialEq, Eq)]
pub enum Owners<'a> {
    /// `"path": uid`
    One(u32),
    /// `"path": [uid, ...]`, in input order
    Many(&'a [u32]),
}

/// One member of the input object.
#[derive(Debug, PartialEq, Eq)]
pub struct Pair<'a> {
    /// The key as a JSON string token, quotes included, byte for byte as it was read.
    pub key: &'a [u8],
    /// The owners of the path.
    pub owners: Owners<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    FirstMember,
    NextMember,
    Done,
}

/// A streaming reader of ownership JSON.
pub struct PairReader<S> {
    input: S,
    buffer: Vec<u8>,
    /// Start of the pair being read. Bytes before it are not needed any more.
    mark: usize,
    /// The next byte to read.
    at: usize,
    /// End of the input in the buffer.
    end: usize,
    /// Offset of `buffer[0]` in the input. If the input starts behind `buffer[0]`, the offset is
    /// negative and wrapped.
    base: u64,
    state: State,
    many: Vec<u32>,
}

impl<S: Source> PairReader<S> {
    /// A reader of `input`, which needs no buffer.
    pub fn new(input: S) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            mark: 0,
            at: 0,
            end: 0,
            base: 0,
            state: State::Start,
            many: Vec::new(),
        }
    }

    /// Reads the next pair. Returns `None` at the end of the input, after the closing brace.
    ///
    /// `before_read` is called before every read of the input that may block.
    ///
    /// # Errors
    /// Fails with an [`InputError`] if the input is not ownership JSON or ends early, and with the
    /// error of the input or of `before_read`.
    pub fn next_pair(&mut self, before_read: BeforeRead<'_>) -> Result<Option<Pair<'_>>> {
        self.mark = self.at;
        if self.state == State::Start {
            self.open(before_read)?;
        }
        if self.state == State::NextMember
            && let Some(pair) = fast_pair(&self.buffer[self.at..self.end])
        {
            let start = self.at;
            self.at += pair.end;
            let key = &self.buffer[start + pair.key..start + pair.key_end];
            return Ok(Some(Pair { key, owners: Owners::One(pair.uid) }));
        }
        self.any_pair(before_read)
    }

    /// Reads any pair, also one that is not complete in the buffer, has escapes, or is wrong.
    fn any_pair(&mut self, before_read: BeforeRead<'_>) -> Result<Option<Pair<'_>>> {
        if self.state == State::Done || !self.member(before_read)? {
            return Ok(None);
        }
        self.mark = self.at;
        self.string(before_read)?;
        let key_len = self.at - self.mark;
        self.colon(before_read)?;
        let one = self.owners(before_read)?;
        let key = &self.buffer[self.mark..self.mark + key_len];
        let owners = one.map_or(Owners::Many(&self.many), Owners::One);
        Ok(Some(Pair { key, owners }))
    }

    fn open(&mut self, before_read: BeforeRead<'_>) -> Result<()> {
        match self.token(before_read)? {
            Some(b'{') => self.at += 1,
            Some(_) => return self.fail("expected `{`"),
            None => return self.fail("the input is empty, expected `{`"),
        }
        self.state = State::FirstMember;
        Ok(())
    }

    /// Moves to the next key. Returns false at the end of the object.
    fn member(&mut self, before_read: BeforeRead<'_>) -> Result<bool> {
        let mut next = self.token(before_read)?;
        if self.state == State::NextMember && next == Some(b',') {
            self.at += 1;
            next = self.token(before_read)?;
        } else if next == Some(b'}') {
            self.at += 1;
            return self.close(before_read);
        } else if self.state == State::NextMember && next.is_some() {
            return self.fail("expected `,` or `}`");
        }
        self.state = State::NextMember;
        match next {
            Some(b'"') => Ok(true),
            Some(_) => self.fail("expected a key in quotes"),
            None => self.fail("the input ends before the closing `}`"),
        }
    }

    fn close(&mut self, before_read: BeforeRead<'_>) -> Result<bool> {
        self.state = State::Done;
        match self.token(before_read)? {
            None => Ok(false),
            Some(_) => self.fail("something follows the closing `}`"),
        }
    }

    fn colon(&mut self, before_read: BeforeRead<'_>) -> Result<()> {
        match self.inner_token(before_read)? {
            Some(b':') => self.at += 1,
            Some(_) => return self.fail("expected `:` after the key"),
            None => return self.fail("the input ends after a key"),
        }
        Ok(())
    }

    /// Reads the value of a pair. Returns its UID, or `None` if `self.many` has the UIDs of an array.
    fn owners(&mut self, before_read: BeforeRead<'_>) -> Result<Option<u32>> {
        if self.inner_token(before_read)? != Some(b'[') {
            return self.uid(before_read).map(Some);
        }
        self.at += 1;
        self.many.clear();
        if self.inner_token(before_read)? == Some(b']') {
            self.at += 1;
            return Ok(None);
        }
        loop {
            self.inner_token(before_read)?;
            if self.many.len() == MAX_OWNERS {
                return self.fail(&format!("more than {MAX_OWNERS} UIDs for one path"));
            }
            let uid = self.uid(before_read)?;
            self.many.push(uid);
            match self.inner_token(before_read)? {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(None);
                }
                Some(_) => return self.fail("expected `,` or `]`"),
                None => return self.fail("the input ends inside an array of UIDs"),
            }
        }
    }

    /// Reads a UID: digits, at most 4294967295. An error has the offset of the first byte.
    fn uid(&mut self, before_read: BeforeRead<'_>) -> Result<u32> {
        let offset = self.offset();
        let (mut value, mut digits) = (0u64, 0u32);
        let stop = loop {
            match self.peek(before_read)? {
                Some(digit @ b'0'..=b'9') => {
                    value = value.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
                    digits += 1;
                    if digits == 2 && value < 10 {
                        return fail_at(offset, "a UID has no leading zero");
                    }
                    self.at += 1;
                }
                other => break other,
            }
        };
        match (digits, stop) {
            (0, Some(b'-')) => fail_at(offset, "a UID cannot be negative"),
            (0, Some(b'"')) => fail_at(offset, "a UID is a number, not a string"),
            (0, None) => fail_at(offset, "the input ends where a UID should stand"),
            (0, _) => fail_at(offset, "expected a UID"),
            (_, Some(b'.')) => fail_at(offset, "a UID cannot be fractional"),
            (_, Some(b'e' | b'E')) => fail_at(offset, "a UID cannot have an exponent"),
            _ => u32::try_from(value)
                .or_else(|_| fail_at(offset, "the UID does not fit 32 bits (at most 4294967295)")),
        }
    }

    /// Reads a string token. The next byte is its opening quote.
    fn string(&mut self, before_read: BeforeRead<'_>) -> Result<()> {
        self.at += 1;
        loop {
            let rest = &self.buffer[self.at..self.end];
            let plain = rest.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\');
            self.at += plain.unwrap_or(rest.len());
            match self.peek(before_read)? {
                Some(b'"') => break,
                Some(b'\\') => self.escape(before_read)?,
                Some(byte) if byte < 0x20 => return self.fail("a control character in a string"),
                Some(_) => {}
                None => return self.fail("the input ends inside a string"),
            }
        }
        self.at += 1;
        match std::str::from_utf8(&self.buffer[self.mark..self.at]) {
            Ok(_) => Ok(()),
            Err(error) => {
                self.at = self.mark + error.valid_up_to();
                self.fail("a string that is not UTF-8")
            }
        }
    }

    fn escape(&mut self, before_read: BeforeRead<'_>) -> Result<()> {
        self.at += 1;
        match self.peek(before_read)? {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    match self.peek(before_read)? {
                        Some(digit) if digit.is_ascii_hexdigit() => self.at += 1,
                        _ => return self.fail("`\\u` needs four hexadecimal digits"),
                    }
                }
            }
            _ => return self.fail("an unknown escape in a string"),
        }
        Ok(())
    }

    /// Skips white space outside a pair, and returns the byte behind it.
    fn token(&mut self, before_read: BeforeRead<'_>) -> Result<Option<u8>> {
        loop {
            self.mark = self.at;
            match self.peek(before_read)? {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                other => return Ok(other),
            }
        }
    }

    /// Skips white space inside a pair, whose start stays in the buffer.
    fn inner_token(&mut self, before_read: BeforeRead<'_>) -> Result<Option<u8>> {
        loop {
            match self.peek(before_read)? {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                other => return Ok(other),
            }
        }
    }

    fn peek(&mut self, before_read: BeforeRead<'_>) -> Result<Option<u8>> {
        if self.at == self.end && !self.fill(before_read)? {
            return Ok(None);
        }
        Ok(Some(self.buffer[self.at]))
    }

    /// Reads more, keeping the bytes from `mark` on; false at the end of the input.
    fn fill(&mut self, before_read: BeforeRead<'_>) -> Result<bool> {
        let (kept, passed) = (self.mark..self.end, self.at - self.mark);
        let count = kept.len();
        if count >= MAX_PAIR {
            return self.fail(&format!("a pair longer than {MAX_PAIR} bytes"));
        }
        let found = self.input.fill(&mut self.buffer, kept, before_read)?;
        let moved = (self.mark as u64).wrapping_sub(found.start as u64);
        self.base = self.base.wrapping_add(moved);
        (self.mark, self.at, self.end) = (found.start, found.start + passed, found.end);
        Ok(found.len() > count)
    }

    fn offset(&self) -> u64 {
        self.base.wrapping_add(self.at as u64)
    }

    fn fail<T>(&self, problem: &str) -> Result<T> {
        fail_at(self.offset(), problem)
    }
}

fn fail_at<T>(offset: u64, problem: &str) -> Result<T> {
    Err(InputError { offset, problem: problem.to_owned() }.into())
}
