//! What may pass from a server to ldap3, which trusts its peer: it aborts on deep nesting, buffers
//! whatever length it is told, panics on missing elements and on text that is not UTF-8, and
//! keeps as many entries as it is sent.
//!
//! So only whole messages pass, of bounded size, which answer something that was asked and are
//! spelt exactly as `grammar` says.

use std::collections::HashMap;
use std::fmt;

use super::ber::{Elements, Header, INTEGER, SEQUENCE};
use super::grammar::{parse, tag};

/// Largest message, in bytes: our questions ask for a few short attributes. ldap3 takes a hundred
/// times as much memory for a message of tiny values.
const MAX_MESSAGE: usize = 256 * 1024;
/// Most entries and referrals in the answer to one question, and most bytes.
const MAX_ITEMS: u32 = 100_000;
/// See [`MAX_ITEMS`].
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// What a server sent that no server should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Not an LDAP message.
    NotLdap,
    /// An answer to what was not asked.
    NotAsked,
    /// A message of so many bytes.
    TooLarge(usize),
    /// More entries for one question than anybody wants.
    TooMany,
    /// More bytes for one question than anybody wants.
    TooMuch,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLdap => f.write_str("the server sent what is not LDAP"),
            Self::NotAsked => f.write_str("the server answered what was not asked"),
            Self::TooLarge(size) => {
                write!(f, "the server sent a message of {size} bytes (limit: {MAX_MESSAGE})")
            }
            Self::TooMany => {
                write!(f, "the server sent more than {MAX_ITEMS} entries for one question")
            }
            Self::TooMuch => {
                write!(f, "the server sent more than {MAX_ANSWER} bytes for one question")
            }
        }
    }
}

/// Looks at everything that passes between ldap3 and a server.
#[derive(Debug, Default)]
pub struct Guard {
    questions: Messages,
    answers: Messages,
    /// The questions that are not answered to their ends, by their IDs.
    open: HashMap<Vec<u8>, Question>,
}

/// What was asked, and how much came for it.
#[derive(Debug)]
struct Question {
    operation: u8,
    items: u32,
    bytes: usize,
}

impl Guard {
    /// Takes what ldap3 sends, cut anywhere, to know what is asked.
    ///
    /// # Errors
    /// It is not LDAP, which would be a mistake of ours.
    pub fn ask(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let open = &mut self.open;
        self.questions.take(bytes, |message| {
            let mut parts = Elements(Elements(message).next(SEQUENCE).ok_or(Violation::NotLdap)?);
            let id = parts.next(INTEGER).ok_or(Violation::NotLdap)?;
            let (operation, _) = parts.any().ok_or(Violation::NotLdap)?;
            // Nothing else is answered.
            if let tag::BIND_REQUEST | tag::SEARCH_REQUEST | tag::EXTENDED_REQUEST = operation {
                open.insert(id.to_vec(), Question { operation, items: 0, bytes: 0 });
            }
            Ok(())
        })
    }

    /// Takes bytes from the server, cut anywhere, and appends the messages that are whole to
    /// `passed`.
    ///
    /// # Errors
    /// The server cannot be trusted; nothing of what is wrong has been passed.
    pub fn take(&mut self, bytes: &[u8], passed: &mut Vec<u8>) -> Result<(), Violation> {
        let open = &mut self.open;
        self.answers.take(bytes, |message| {
            let (id, operation) = parse(message).ok_or(Violation::NotLdap)?;
            check(open, id, operation, message.len())?;
            passed.extend_from_slice(message);
            Ok(())
        })
    }
}

/// Whether an answer of this size belongs to an open question, and closes that if it is the last.
fn check(
    open: &mut HashMap<Vec<u8>, Question>,
    id: &[u8],
    operation: u8,
    size: usize,
) -> Result<(), Violation> {
    let Some(question) = open.get_mut(id) else {
        // A notice that the server is about to disconnect (RFC 4511, 4.4).
        let is_notice = id == [0] && operation == tag::EXTENDED_RESPONSE;
        return if is_notice { Ok(()) } else { Err(Violation::NotAsked) };
    };
    match (question.operation, operation) {
        (
            tag::SEARCH_REQUEST,
            tag::SEARCH_ENTRY | tag::SEARCH_REFERENCE | tag::INTERMEDIATE_RESPONSE,
        ) => question.count(size),
        (tag::SEARCH_REQUEST, tag::SEARCH_DONE)
        | (tag::BIND_REQUEST, tag::BIND_RESPONSE)
        | (tag::EXTENDED_REQUEST, tag::EXTENDED_RESPONSE) => {
            open.remove(id);
            Ok(())
        }
        _ => Err(Violation::NotAsked),
    }
}

impl Question {
    /// Counts an entry or a referral of this size.
    fn count(&mut self, size: usize) -> Result<(), Violation> {
        self.items += 1;
        self.bytes += size;
        if self.items > MAX_ITEMS {
            return Err(Violation::TooMany);
        }
        if self.bytes > MAX_ANSWER {
            return Err(Violation::TooMuch);
        }
        Ok(())
    }
}

/// Puts messages together that come in pieces.
#[derive(Debug, Default)]
struct Messages {
    partial: Vec<u8>,
}

impl Messages {
    fn take(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        self.partial.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(size) = message_size(&self.partial[at..])? {
            let Some(message) = self.partial.get(at..at + size) else { break };
            each(message)?;
            at += size;
        }
        self.partial.drain(..at);
        Ok(())
    }
}

/// How many bytes the message at the start has, as far as that can be told yet.
fn message_size(bytes: &[u8]) -> Result<Option<usize>, Violation> {
    match Header::read(bytes) {
        Ok(None) if bytes.first().is_none_or(|&tag| tag == SEQUENCE) => Ok(None),
        Ok(Some(Header { tag: SEQUENCE, size, length })) => match size + length {
            size if size > MAX_MESSAGE => Err(Violation::TooLarge(size)),
            size => Ok(Some(size)),
        },
        _ => Err(Violation::NotLdap),
    }
}

#[cfg(test)]
mod tests {
    use crate::ldap::protocol::ber::{ENUMERATED, OCTET_STRING, SET};

    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap();
        [&[tag, 0x84], &length.to_be_bytes()[..], content].concat()
    }

    fn message(id: u8, operation: u8, content: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &[element(INTEGER, &[id]), element(operation, content)].concat())
    }

    fn done() -> Vec<u8> {
        [element(ENUMERATED, &[0]), element(OCTET_STRING, b""), element(OCTET_STRING, b"")].concat()
    }

    fn named(name: &[u8]) -> Vec<u8> {
        let values = element(SET, &element(OCTET_STRING, b"a@x"));
        let attribute = element(SEQUENCE, &[element(OCTET_STRING, b"mail"), values].concat());
        [element(OCTET_STRING, name), element(SEQUENCE, &attribute)].concat()
    }

    /// A guard that knows of a bind (1) and a search (2).
    fn guard() -> Guard {
        let mut guard = Guard::default();
        guard.ask(&message(1, tag::BIND_REQUEST, b"")).unwrap();
        guard.ask(&message(2, tag::SEARCH_REQUEST, b"")).unwrap();
        guard
    }

    fn outcome(bytes: &[u8]) -> Result<usize, Violation> {
        let mut passed = Vec::new();
        guard().take(bytes, &mut passed).map(|()| passed.len())
    }

    #[test]
    fn answers_to_what_was_asked_pass_however_they_are_cut() {
        let answers = [
            message(1, tag::BIND_RESPONSE, &done()),
            message(2, tag::SEARCH_ENTRY, &named(b"uid=a")),
            message(2, tag::SEARCH_REFERENCE, &element(OCTET_STRING, b"ldap://h")),
            message(2, tag::SEARCH_DONE, &done()),
            message(0, tag::EXTENDED_RESPONSE, &done()),
        ]
        .concat();
        for step in [1, 3, 7, answers.len()] {
            let (mut guard, mut passed) = (guard(), Vec::new());
            answers.chunks(step).for_each(|part| guard.take(part, &mut passed).unwrap());
            assert!(passed == answers && guard.open.is_empty() && guard.answers.partial.is_empty());
        }
    }

    #[test]
    fn answers_to_what_was_not_asked_do_not_pass() {
        let once = message(2, tag::SEARCH_DONE, &done());
        for answer in [
            message(3, tag::SEARCH_DONE, &done()),
            message(1, tag::SEARCH_DONE, &done()),
            message(2, tag::BIND_RESPONSE, &done()),
            message(1, tag::SEARCH_ENTRY, &named(b"uid=a")),
            [&once[..], &once].concat(),
        ] {
            assert_eq!(outcome(&answer), Err(Violation::NotAsked), "{answer:?}");
        }
    }

    #[test]
    fn what_would_harm_does_not_pass() {
        let mut deep = Vec::new();
        for _ in 0..1000 {
            deep = element(SEQUENCE, &deep);
        }
        let truncated = b"\x30\x0c\x02\x01\x02\x65\x07\x0a\x01\x00\x04\x05\x04\x00".to_vec();
        for bytes in [
            b"\x30\x00".to_vec(),
            b"HTTP/1.1 400".to_vec(),
            b"\x30\x80\x00\x00".to_vec(),
            deep.clone(),
            truncated,
            message(2, tag::SEARCH_ENTRY, &deep),
            message(2, tag::SEARCH_ENTRY, &named(b"\xff")),
            message(2, tag::SEARCH_ENTRY, &element(OCTET_STRING, b"uid=a")),
            message(2, tag::SEARCH_DONE, b""),
            message(2, tag::SEARCH_REFERENCE, b""),
            message(2, 0x6f, &done()),
        ] {
            assert_eq!(outcome(&bytes), Err(Violation::NotLdap), "{bytes:?}");
        }
        assert_eq!(outcome(b"\x30\x84\xff\xff\xff\xff"), Err(Violation::TooLarge(0x1_0000_0005)));
    }

    #[test]
    fn endless_entries_end() {
        let (mut guard, mut passed) = (guard(), Vec::new());
        let entry = message(2, tag::SEARCH_ENTRY, &named(b"uid=a"));
        let passes = |_: &u32| {
            passed.clear();
            guard.take(&entry, &mut passed).is_ok()
        };
        assert_eq!((0..).take_while(passes).count() as u32, MAX_ITEMS);
    }

    #[test]
    fn endless_bytes_end() {
        let (mut guard, mut passed) = (guard(), Vec::new());
        let entry = message(2, tag::SEARCH_ENTRY, &named(&[b'a'; MAX_MESSAGE - 1000]));
        let verdict = loop {
            if let Err(violation) = guard.take(&entry, &mut passed) {
                break violation;
            }
        };
        assert_eq!(verdict, Violation::TooMuch);
        assert!(passed.len() <= MAX_ANSWER && passed.len() + entry.len() > MAX_ANSWER);
    }
}
