//! BER elements (X.690) as far as LDAP uses them (RFC 4511, 5.1): tags of one byte, lengths in
//! definite form.

/// Tags of the universal class.
pub const BOOLEAN: u8 = 0x01;
/// See [`BOOLEAN`].
pub const INTEGER: u8 = 0x02;
/// See [`BOOLEAN`].
pub const OCTET_STRING: u8 = 0x04;
/// See [`BOOLEAN`].
pub const ENUMERATED: u8 = 0x0a;
/// See [`BOOLEAN`].
pub const SEQUENCE: u8 = 0x30;
/// See [`BOOLEAN`].
pub const SET: u8 = 0x31;

/// What the start of an element tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its tag.
    pub tag: u8,
    /// How many bytes the header itself has.
    pub size: usize,
    /// How many bytes follow it.
    pub length: usize,
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Header {
    /// Reads the header at the start of `bytes`; `None` if more bytes are needed.
    ///
    /// # Errors
    /// A length in indefinite form, or of more than four bytes.
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

/// Elements one after another.
#[derive(Clone, Copy, Debug)]
pub struct Elements<'b>(pub &'b [u8]);

impl<'b> Elements<'b> {
    /// The next element's tag and content; `None` at the end or where it is not whole.
    pub fn any(&mut self) -> Option<(u8, &'b [u8])> {
        let header = Header::read(self.0).ok()??;
        let (content, rest) = self.0[header.size..].split_at_checked(header.length)?;
        self.0 = rest;
        Some((header.tag, content))
    }

    /// The content of the next element, which must have this tag.
    pub fn next(&mut self, tag: u8) -> Option<&'b [u8]> {
        self.any().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// The content of the next element if it has this tag; otherwise that stays where it is.
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
    fn elements_must_be_whole_and_of_the_kind_that_is_wanted() {
        let mut elements = Elements(b"\x02\x01\x07\x04\x02ab\x04\x05abc");
        assert_eq!(elements.optional(OCTET_STRING), None);
        assert_eq!(elements.next(INTEGER), Some(&b"\x07"[..]));
        assert_eq!(elements.optional(OCTET_STRING), Some(&b"ab"[..]));
        assert_eq!(elements.any(), None);
        assert!(!elements.is_empty());
    }
}
