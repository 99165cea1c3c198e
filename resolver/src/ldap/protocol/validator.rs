//! Checks everything that a server sends, before ldap3 sees it.
//!
//! ldap3 trusts its peer: it aborts on deep nesting, allocates any length that a message announces,
//! panics on missing elements and on text that is not UTF-8, and keeps all entries that it is sent.
//! So a message reaches ldap3 only if
//!
//! 1. it is complete and not too large,
//! 2. it follows the [`grammar`](super::grammar),
//! 3. it answers a request that is open, and
//! 4. the answer to that request has not become too large.

use std::collections::HashMap;
use std::fmt;

use super::ber::{Elements, Header, INTEGER, SEQUENCE};
use super::grammar::{Envelope, parse, tag};

/// Largest message, in bytes: searches ask for a few short attributes only. ldap3 occupies a hundred
/// times as much memory for a message of tiny values.
const MAX_MESSAGE: usize = 256 * 1024;
/// Most entries and referrals in the answer to one search.
const MAX_ITEMS: u32 = 100_000;
/// Most bytes in the answer to one search.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// What a server sent that no directory server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Not an LDAP message.
    NotLdap,
    /// An answer to no open request.
    NotRequested,
    /// A message of this many bytes.
    TooLarge(usize),
    /// Too many entries for one search.
    TooManyItems,
    /// Too many bytes for one search.
    TooManyBytes,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLdap => f.write_str("the server sent data that is not LDAP"),
            Self::NotRequested => f.write_str("the server answered a request that was not sent"),
            Self::TooLarge(size) => {
                write!(f, "the server sent a message of {size} bytes (limit: {MAX_MESSAGE})")
            }
            Self::TooManyItems => {
                write!(f, "the server sent more than {MAX_ITEMS} entries for one search")
            }
            Self::TooManyBytes => {
                write!(f, "the server sent more than {MAX_ANSWER} bytes for one search")
            }
        }
    }
}

/// Checks the messages of one connection.
#[derive(Debug, Default)]
pub struct Validator {
    requests: Messages,
    responses: Messages,
    /// The requests whose answers have not ended, by the bytes of their IDs.
    open: HashMap<Vec<u8>, OpenRequest>,
}

/// A request, and how much was received for it.
#[derive(Debug)]
struct OpenRequest {
    operation: u8,
    items: u32,
    bytes: usize,
}

impl Validator {
    /// Records the requests in `bytes`, which ldap3 sends. The bytes may end in the middle of a
    /// message.
    ///
    /// # Errors
    /// Fails if they are not LDAP, which would be a bug.
    pub fn record_requests(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let open = &mut self.open;
        self.requests.add(bytes, |message| {
            let mut parts = Elements(Elements(message).next(SEQUENCE).ok_or(Violation::NotLdap)?);
            let id = parts.next(INTEGER).ok_or(Violation::NotLdap)?;
            let (operation, _) = parts.any().ok_or(Violation::NotLdap)?;
            // No other request has an answer.
            if let tag::BIND_REQUEST | tag::SEARCH_REQUEST | tag::EXTENDED_REQUEST = operation {
                open.insert(id.to_vec(), OpenRequest { operation, items: 0, bytes: 0 });
            }
            Ok(())
        })
    }

    /// Checks the responses in `bytes`, which the server sent, and appends those that are complete
    /// and valid to `valid`. The bytes may end in the middle of a message.
    ///
    /// # Errors
    /// Fails with the first violation; the messages before it are in `valid`.
    pub fn check_responses(&mut self, bytes: &[u8], valid: &mut Vec<u8>) -> Result<(), Violation> {
        let open = &mut self.open;
        self.responses.add(bytes, |message| {
            let response = parse(message).ok_or(Violation::NotLdap)?;
            match_request(open, response, message.len())?;
            valid.extend_from_slice(message);
            Ok(())
        })
    }
}

/// Finds the request of a response of this size. The last response removes the request.
fn match_request(
    open: &mut HashMap<Vec<u8>, OpenRequest>,
    response: Envelope<'_>,
    size: usize,
) -> Result<(), Violation> {
    let Envelope { id, operation } = response;
    let Some(request) = open.get_mut(id) else {
        // A notice that the server is about to disconnect (RFC 4511, 4.4).
        let is_notice = id == [0] && operation == tag::EXTENDED_RESPONSE;
        return if is_notice { Ok(()) } else { Err(Violation::NotRequested) };
    };
    match (request.operation, operation) {
        (
            tag::SEARCH_REQUEST,
            tag::SEARCH_ENTRY | tag::SEARCH_REFERENCE | tag::INTERMEDIATE_RESPONSE,
        ) => request.count(size),
        (tag::SEARCH_REQUEST, tag::SEARCH_DONE)
        | (tag::BIND_REQUEST, tag::BIND_RESPONSE)
        | (tag::EXTENDED_REQUEST, tag::EXTENDED_RESPONSE) => {
            open.remove(id);
            Ok(())
        }
        _ => Err(Violation::NotRequested),
    }
}

impl OpenRequest {
    /// Counts an entry, a referral or an intermediate response of this size.
    fn count(&mut self, size: usize) -> Result<(), Violation> {
        self.items += 1;
        self.bytes += size;
        if self.items > MAX_ITEMS {
            return Err(Violation::TooManyItems);
        }
        if self.bytes > MAX_ANSWER {
            return Err(Violation::TooManyBytes);
        }
        Ok(())
    }
}

/// Puts complete messages together from bytes that may end anywhere.
#[derive(Debug, Default)]
struct Messages {
    partial: Vec<u8>,
}

impl Messages {
    /// Adds bytes, and calls `each` with every message that is complete by then.
    fn add(
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

/// The size of the message at the start of `bytes`; `None` if more bytes are needed to know it.
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
    use super::super::ber::{ENUMERATED, OCTET_STRING, SET};

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

    /// A validator that knows of a bind (1) and a search (2).
    fn validator() -> Validator {
        let mut validator = Validator::default();
        validator.record_requests(&message(1, tag::BIND_REQUEST, b"")).unwrap();
        validator.record_requests(&message(2, tag::SEARCH_REQUEST, b"")).unwrap();
        validator
    }

    fn outcome(bytes: &[u8]) -> Result<usize, Violation> {
        let mut valid = Vec::new();
        validator().check_responses(bytes, &mut valid).map(|()| valid.len())
    }

    #[test]
    fn answers_to_open_requests_are_valid_however_they_are_cut() {
        let answers = [
            message(1, tag::BIND_RESPONSE, &done()),
            message(2, tag::SEARCH_ENTRY, &named(b"uid=a")),
            message(2, tag::SEARCH_REFERENCE, &element(OCTET_STRING, b"ldap://h")),
            message(2, tag::SEARCH_DONE, &done()),
            message(0, tag::EXTENDED_RESPONSE, &done()),
        ]
        .concat();
        for step in [1, 3, 7, answers.len()] {
            let (mut validator, mut valid) = (validator(), Vec::new());
            for part in answers.chunks(step) {
                validator.check_responses(part, &mut valid).unwrap();
            }
            assert_eq!(valid, answers, "cut after every {step} bytes");
            assert!(validator.open.is_empty() && validator.responses.partial.is_empty());
        }
    }

    #[test]
    fn answers_to_no_open_request_are_refused() {
        let once = message(2, tag::SEARCH_DONE, &done());
        for answer in [
            message(3, tag::SEARCH_DONE, &done()),
            message(1, tag::SEARCH_DONE, &done()),
            message(2, tag::BIND_RESPONSE, &done()),
            message(1, tag::SEARCH_ENTRY, &named(b"uid=a")),
            [&once[..], &once].concat(),
        ] {
            assert_eq!(outcome(&answer), Err(Violation::NotRequested), "{answer:?}");
        }
    }

    #[test]
    fn messages_that_harm_ldap3_are_refused() {
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
    fn endless_entries_are_refused() {
        let (mut validator, mut valid) = (validator(), Vec::new());
        let entry = message(2, tag::SEARCH_ENTRY, &named(b"uid=a"));
        let passes = |_: &u32| {
            valid.clear();
            validator.check_responses(&entry, &mut valid).is_ok()
        };
        assert_eq!((0..).take_while(passes).count() as u32, MAX_ITEMS);
    }

    #[test]
    fn endless_bytes_are_refused() {
        let (mut validator, mut valid) = (validator(), Vec::new());
        let entry = message(2, tag::SEARCH_ENTRY, &named(&[b'a'; MAX_MESSAGE - 1000]));
        let verdict = loop {
            if let Err(violation) = validator.check_responses(&entry, &mut valid) {
                break violation;
            }
        };
        assert_eq!(verdict, Violation::TooManyBytes);
        assert!(valid.len() <= MAX_ANSWER && valid.len() + entry.len() > MAX_ANSWER);
    }
}
