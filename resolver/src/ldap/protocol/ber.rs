//! Decodes BER elements (X.690) in the form that LDAP uses (RFC 4511, 5.1): tags of one byte, lengths
//! in definite form.

/// Tag of a BOOLEAN.
pub const BOOLEAN: u8 = 0x01;
/// Tag of an INTEGER.
pub const INTEGER: u8 = 0x02;
/// Tag of an OCTET STRING.
pub const OCTET_STRING: u8 = 0x04;
/// Tag of an ENUMERATED.
pub const ENUMERATED: u8 = 0x0a;
/// Tag of a SEQUENCE or SEQUENCE OF.
pub const SEQUENCE: u8 = 0x30;
/// Tag of a SET OF.
pub const SET: u8 = 0x31;

/// Tag and length at the start of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The tag.
    pub tag: u8,
    /// Size of the header, in bytes.
    pub size: usize,
    /// Length of the content after it, in bytes.
    pub length: usize,
}

/// The bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Header {
    /// Reads the header at the start of `bytes`; `None` if more bytes are needed.
    ///
    /// # Errors
    /// Fails if the length is in indefinite form, or has more than four bytes.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let [tag, first, rest @ ..] = bytes else { return Ok(None) };
        let count = match first {
            0..=0x7f => return Ok(Some(Self { tag: *tag, size: 2, length: (*first).into() })),
            0x81..=0x84 => usize::from(first - 0x80),
            _ => return Err(Malformed),
        };
        let Some(digits) = rest.get(..count) else { return Ok(None) };
        let length = digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit));
        Ok(Some(Self { tag: *tag, size: 2 + count, length }))
    }
}

/// Reads elements that follow each other.
#[derive(Clone, Copy, Debug)]
pub struct Elements<'b>(pub &'b [u8]);

impl<'b> Elements<'b> {
    /// Takes the next element, and returns its tag and content. `None` at the end, or if the element
    /// is incomplete or malformed.
    pub fn any(&mut self) -> Option<(u8, &'b [u8])> {
        let header = Header::read(self.0).ok()??;
        let (content, rest) = self.0[header.size..].split_at_checked(header.length)?;
        self.0 = rest;
        Some((header.tag, content))
    }

    /// Takes the next element, and returns its content. `None` if it has another tag.
    pub fn next(&mut self, tag: u8) -> Option<&'b [u8]> {
        self.any().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// Takes the next element if it has this tag, and returns its content.
    pub fn optional(&mut self, tag: u8) -> Option<&'b [u8]> {
        let mut ahead = *self;
        let content = ahead.next(tag)?;
        *self = ahead;
        Some(content)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_lengths_of_up_to_four_bytes() {
        let read = |bytes: &[u8]| Header::read(bytes);
        let header = |tag, size, length| Ok(Some(Header { tag, size, length }));
        assert_eq!(read(b"\x30\x05"), header(0x30, 2, 5));
        assert_eq!(read(b"\x04\x81\xff"), header(4, 3, 255));
        assert_eq!(read(b"\x30\x84\x00\x00\x01\x02more"), header(0x30, 6, 258));
        assert_eq!(read(b"\x30\x84\xff\xff\xff\xff"), header(0x30, 6, 0xffff_ffff));
        for incomplete in [&b""[..], b"\x30", b"\x30\x82\x01"] {
            assert_eq!(read(incomplete), Ok(None));
        }
        for malformed in [&b"\x30\x80"[..], b"\x30\x85\x00\x00\x00\x00\x01", b"\x30\xff"] {
            assert_eq!(read(malformed), Err(Malformed));
        }
    }

    #[test]
    fn elements_must_be_complete_and_have_the_tag() {
        let mut elements = Elements(b"\x02\x01\x07\x04\x02ab\x04\x05abc");
        assert_eq!(elements.optional(OCTET_STRING), None);
        assert_eq!(elements.next(INTEGER), Some(&b"\x07"[..]));
        assert_eq!(elements.optional(OCTET_STRING), Some(&b"ab"[..]));
        assert_eq!(elements.any(), None);
        assert!(!elements.is_empty());
    }
}
