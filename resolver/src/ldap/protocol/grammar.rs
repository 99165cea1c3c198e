//! Parses the server messages that ldap3 may see, strictly by the grammar of RFC 4511.
//!
//! None of these messages is recursive, so the parser needs no limit on nesting.

use super::ber::{BOOLEAN, ENUMERATED, Elements, INTEGER, OCTET_STRING, SEQUENCE, SET};

/// OID of the control at the end of a page of results (RFC 2696).
const PAGED_RESULTS: &[u8] = b"1.2.840.113556.1.4.319";

/// Tags of operations (RFC 4511, 4.2 to 4.13) and of their optional parts.
pub mod tag {
    pub const BIND_REQUEST: u8 = 0x60;
    pub const BIND_RESPONSE: u8 = 0x61;
    pub const SEARCH_REQUEST: u8 = 0x63;
    pub const SEARCH_ENTRY: u8 = 0x64;
    pub const SEARCH_DONE: u8 = 0x65;
    pub const SEARCH_REFERENCE: u8 = 0x73;
    pub const EXTENDED_REQUEST: u8 = 0x77;
    pub const EXTENDED_RESPONSE: u8 = 0x78;
    pub const INTERMEDIATE_RESPONSE: u8 = 0x79;
    pub const CONTROLS: u8 = 0xa0;
    pub const REFERRAL: u8 = 0xa3;
    pub const SASL_CREDENTIALS: u8 = 0x87;
    pub const RESPONSE_NAME: u8 = 0x8a;
    pub const RESPONSE_VALUE: u8 = 0x8b;
}

/// ID and operation of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'m> {
    /// The bytes of the ID.
    pub id: &'m [u8],
    /// Tag of the operation.
    pub operation: u8,
}

/// `LDAPMessage ::= SEQUENCE { messageID, protocolOp, controls [0] OPTIONAL }`; `None` if any part of
/// it is malformed.
pub fn parse(message: &[u8]) -> Option<Envelope<'_>> {
    let mut message = Elements(Elements(message).next(SEQUENCE)?);
    let id = message.next(INTEGER)?;
    let is_id = matches!(id, [first, ..] if id.len() <= 4 && *first < 0x80);
    let (operation, content) = message.any()?;
    let is_operation = match operation {
        tag::SEARCH_ENTRY => entry(content),
        tag::SEARCH_REFERENCE => uris(content),
        tag::BIND_RESPONSE | tag::SEARCH_DONE | tag::EXTENDED_RESPONSE => result(content),
        tag::INTERMEDIATE_RESPONSE => intermediate(content),
        _ => None,
    };
    if operation == tag::EXTENDED_RESPONSE
        && let Some(name) = message.optional(tag::RESPONSE_NAME)
    {
        // Active Directory sends the name of its notice of disconnection in the place of controls.
        text(name)?;
    } else if let Some(list) = message.optional(tag::CONTROLS) {
        controls(list)?;
    }
    let is_valid = is_id && is_operation.is_some() && message.is_empty();
    is_valid.then_some(Envelope { id, operation })
}

/// `LDAPResult`, with the optional parts of bind and extended responses.
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
        let kind = control.next(OCTET_STRING)?;
        text(kind)?;
        if control.optional(BOOLEAN).is_some_and(|value| value.len() != 1) {
            return None;
        }
        let value = control.optional(OCTET_STRING);
        if kind == PAGED_RESULTS {
            cookie(value?)?;
        }
        if !control.is_empty() {
            return None;
        }
    }
    Some(())
}

/// The cookie of `realSearchControlValue ::= SEQUENCE { size INTEGER, cookie OCTET STRING }`
/// (RFC 2696).
pub fn cookie(value: &[u8]) -> Option<&[u8]> {
    let mut value = Elements(value);
    let mut parts = Elements(value.next(SEQUENCE)?);
    let size = parts.next(INTEGER)?;
    let cookie = parts.next(OCTET_STRING)?;
    let is_whole = value.is_empty() && parts.is_empty();
    (is_whole && matches!(size.len(), 1..=4)).then_some(cookie)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn success() -> Vec<u8> {
        [element(ENUMERATED, &[0]), element(OCTET_STRING, b""), element(OCTET_STRING, b"")].concat()
    }

    /// Whether a message with this ID and operation may have `more` behind the operation.
    fn is_valid(id: u8, operation: u8, more: &[u8]) -> bool {
        let parts = [element(INTEGER, &[id]), element(operation, &success()), more.to_vec()];
        parse(&element(SEQUENCE, &parts.concat())).is_some()
    }

    fn control(kind: &[u8], more: &[u8]) -> Vec<u8> {
        let control = [element(OCTET_STRING, kind), more.to_vec()].concat();
        element(tag::CONTROLS, &element(SEQUENCE, &control))
    }

    #[test]
    fn a_notice_may_have_its_name_in_the_place_of_controls() {
        let name = element(tag::RESPONSE_NAME, b"1.3.6.1.4.1.1466.20036");
        assert!(is_valid(0, tag::EXTENDED_RESPONSE, &name));
        assert!(!is_valid(0, tag::EXTENDED_RESPONSE, &element(tag::RESPONSE_NAME, b"\xff")));
        assert!(!is_valid(2, tag::SEARCH_DONE, &name));
        for controls in [control(b"1.2.3", b""), element(tag::CONTROLS, b"\x04\x00")] {
            let both = [name.clone(), controls].concat();
            assert!(!is_valid(0, tag::EXTENDED_RESPONSE, &both));
        }
    }

    #[test]
    fn malformed_controls_are_refused() {
        let done = |controls: &[u8]| is_valid(2, tag::SEARCH_DONE, controls);
        let critical = element(BOOLEAN, &[0xff]);
        assert!(done(&control(b"1.2.3", b"")) && done(&control(b"1.2.3", &critical)));
        assert!(done(&control(b"1.2.3", &element(OCTET_STRING, b"any"))));
        assert!(!done(&control(b"1.2.3", &element(BOOLEAN, b""))));
        assert!(!done(&control(b"\xff", b"")) && !done(&element(tag::CONTROLS, b"\x30\x00")));
        let page = |value: &[u8]| {
            let value = element(OCTET_STRING, value);
            done(&control(PAGED_RESULTS, &value))
                && done(&control(PAGED_RESULTS, &[critical.clone(), value].concat()))
        };
        assert!(page(b"\x30\x05\x02\x01\x00\x04\x00"));
        assert!(!done(&control(PAGED_RESULTS, b"")));
        for value in [
            &b""[..],
            b"\x30\x00",
            b"\x30\x80",
            b"\x30\x03\x02\x01\x00",
            b"\x30\x04\x02\x00\x04\x00",
            b"\x30\x05\x04\x00\x02\x01\x00",
            b"\x30\x05\x02\x01\x00\x24\x00",
            b"\x30\x05\x02\x01\x00\x04\x01",
            b"\x30\x07\x02\x01\x00\x04\x00\x04\x00",
            b"\x30\x05\x02\x01\x00\x04\x00\x04\x00",
            b"\x30\x09\x02\x05\x01\x00\x00\x00\x00\x04\x00",
        ] {
            assert!(!page(value), "{value:?}");
        }
    }

    #[test]
    fn the_cookie_of_a_page_is_found() {
        assert_eq!(cookie(b"\x30\x08\x02\x01\x07\x04\x03abc"), Some(&b"abc"[..]));
    }
}
