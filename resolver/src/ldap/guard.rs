//! What may pass from a server to ldap3, which trusts its peer: it aborts on deep nesting, buffers
//! whatever length it is told, panics on missing elements and on text that is not UTF-8, and
//! keeps as many entries as it is sent.
//!
//! So only whole messages pass, of bounded size, which answer something that was asked and are
//! spelt exactly as RFC 4511 says. That grammar has no recursion: nesting is bounded by itself.

use std::collections::HashMap;
use std::fmt;

use super::ber::{BOOLEAN, ENUMERATED, Elements, Header, INTEGER, OCTET_STRING, SEQUENCE, SET};

/// Largest message, in bytes: our questions ask for a few short attributes.
const MAX_MESSAGE: usize = 1024 * 1024;
/// Most entries and referrals in the answer to one question.
const MAX_ITEMS: u32 = 100_000;

/// The answer to an extended operation (RFC 4511, 4.12).
pub const EXTENDED_RESPONSE: u8 = 0x78;

/// Other operations (RFC 4511, 4.2 to 4.13), and what may be in them.
mod tag {
    pub const BIND_REQUEST: u8 = 0x60;
    pub const BIND_RESPONSE: u8 = 0x61;
    pub const SEARCH_REQUEST: u8 = 0x63;
    pub const SEARCH_ENTRY: u8 = 0x64;
    pub const SEARCH_DONE: u8 = 0x65;
    pub const SEARCH_REFERENCE: u8 = 0x73;
    pub const EXTENDED_REQUEST: u8 = 0x77;
    pub const INTERMEDIATE_RESPONSE: u8 = 0x79;
    pub const CONTROLS: u8 = 0xa0;
    pub const REFERRAL: u8 = 0xa3;
    pub const SASL_CREDENTIALS: u8 = 0x87;
    pub const RESPONSE_NAME: u8 = 0x8a;
    pub const RESPONSE_VALUE: u8 = 0x8b;
}

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
        }
    }
}

/// Looks at everything that passes between ldap3 and a server.
#[derive(Debug, Default)]
pub struct Guard {
    questions: Messages,
    answers: Messages,
    /// The questions that are not answered to their ends, by their IDs: the operation, and how
    /// many entries came.
    open: HashMap<Vec<u8>, (u8, u32)>,
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
                open.insert(id.to_vec(), (operation, 0));
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
            check(open, id, operation)?;
            passed.extend_from_slice(message);
            Ok(())
        })
    }
}

/// Whether an answer belongs to an open question, and closes that if it is the last.
fn check(
    open: &mut HashMap<Vec<u8>, (u8, u32)>,
    id: &[u8],
    operation: u8,
) -> Result<(), Violation> {
    let asked = open.get_mut(id);
    match (asked, operation) {
        // A notice that the server is about to disconnect (RFC 4511, 4.4).
        (None, EXTENDED_RESPONSE) if id == [0] => {}
        (
            Some((tag::SEARCH_REQUEST, items)),
            tag::SEARCH_ENTRY | tag::SEARCH_REFERENCE | tag::INTERMEDIATE_RESPONSE,
        ) => {
            *items += 1;
            if *items > MAX_ITEMS {
                return Err(Violation::TooMany);
            }
        }
        (Some((tag::SEARCH_REQUEST, _)), tag::SEARCH_DONE)
        | (Some((tag::BIND_REQUEST, _)), tag::BIND_RESPONSE)
        | (Some((tag::EXTENDED_REQUEST, _)), EXTENDED_RESPONSE) => drop(open.remove(id)),
        _ => return Err(Violation::NotAsked),
    }
    Ok(())
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

/// `LDAPMessage ::= SEQUENCE { messageID, protocolOp, controls [0] OPTIONAL }`: the ID's digits
/// and the operation's tag, if all of it is as it should be.
fn parse(message: &[u8]) -> Option<(&[u8], u8)> {
    let mut message = Elements(Elements(message).next(SEQUENCE)?);
    let id = message.next(INTEGER)?;
    let is_id = matches!(id, [first, ..] if id.len() <= 4 && *first < 0x80);
    let (operation, content) = message.any()?;
    let is_operation = match operation {
        tag::SEARCH_ENTRY => entry(content),
        tag::SEARCH_REFERENCE => uris(content),
        tag::BIND_RESPONSE | tag::SEARCH_DONE | EXTENDED_RESPONSE => result(content),
        tag::INTERMEDIATE_RESPONSE => intermediate(content),
        _ => None,
    };
    // Active Directory puts the name of its notice of disconnection here.
    let is_notice = operation == EXTENDED_RESPONSE
        && message.optional(tag::RESPONSE_NAME).is_some_and(|name| text(name).is_some());
    if let Some(list) = message.optional(tag::CONTROLS).filter(|_| !is_notice) {
        controls(list)?;
    }
    (is_id && is_operation.is_some() && message.is_empty()).then_some((id, operation))
}

/// `LDAPResult`, with what bind and extended responses add.
fn result(content: &[u8]) -> Option<()> {
    let mut parts = Elements(content);
    let code = parts.next(ENUMERATED)?;
    if code.is_empty() || code.len() > 4 {
        return None;
    }
    text(parts.next(OCTET_STRING)?)?;
    text(parts.next(OCTET_STRING)?)?;
    if let Some(referral) = parts.optional(tag::REFERRAL) {
        uris(referral)?;
    }
    parts.optional(tag::SASL_CREDENTIALS);
    if let Some(name) = parts.optional(tag::RESPONSE_NAME) {
        text(name)?;
    }
    parts.optional(tag::RESPONSE_VALUE);
    parts.is_empty().then_some(())
}

/// `SearchResultEntry ::= { objectName, SEQUENCE OF SEQUENCE { type, SET OF value } }`
fn entry(content: &[u8]) -> Option<()> {
    let mut parts = Elements(content);
    text(parts.next(OCTET_STRING)?)?;
    let mut attributes = Elements(parts.next(SEQUENCE)?);
    while !attributes.is_empty() {
        let mut attribute = Elements(attributes.next(SEQUENCE)?);
        text(attribute.next(OCTET_STRING)?)?;
        let mut values = Elements(attribute.next(SET)?);
        while !values.is_empty() {
            values.next(OCTET_STRING)?;
        }
        if !attribute.is_empty() {
            return None;
        }
    }
    parts.is_empty().then_some(())
}

/// `SEQUENCE SIZE (1..MAX) OF uri`
fn uris(content: &[u8]) -> Option<()> {
    let mut uris = Elements(content);
    loop {
        text(uris.next(OCTET_STRING)?)?;
        if uris.is_empty() {
            return Some(());
        }
    }
}

/// `IntermediateResponse ::= { responseName [0] OPTIONAL, responseValue [1] OPTIONAL }`
fn intermediate(content: &[u8]) -> Option<()> {
    let mut parts = Elements(content);
    if let Some(name) = parts.optional(0x80) {
        text(name)?;
    }
    parts.optional(0x81);
    parts.is_empty().then_some(())
}

/// `SEQUENCE OF SEQUENCE { controlType, criticality DEFAULT FALSE, controlValue OPTIONAL }`
fn controls(content: &[u8]) -> Option<()> {
    let mut controls = Elements(content);
    while !controls.is_empty() {
        let mut control = Elements(controls.next(SEQUENCE)?);
        text(control.next(OCTET_STRING)?)?;
        if control.optional(BOOLEAN).is_some_and(|value| value.len() != 1) {
            return None;
        }
        control.optional(OCTET_STRING);
        if !control.is_empty() {
            return None;
        }
    }
    Some(())
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            message(0, EXTENDED_RESPONSE, &done()),
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

    proptest! {
        #[test]
        fn no_bytes_do_harm_and_what_passes_is_whole(bytes: Vec<u8>, at in 0usize..60, byte: u8) {
            let _ = outcome(&bytes);
            let mut answer = message(2, tag::SEARCH_ENTRY, &named(b"uid=a"));
            let at = at % answer.len();
            answer[at] = byte;
            if let Ok(passed) = outcome(&answer) {
                prop_assert!(passed == 0 || passed == answer.len());
            }
        }
    }
}
