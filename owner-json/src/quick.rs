//! The way that nearly all pairs take: one that stands in the buffer as a whole, spelt plainly.
//!
//! It is found by a vectorised search for the quote and one pass over the key, instead of asking
//! before every byte whether there is one. Anything else is left to the reader, and so is saying
//! what is wrong: nothing is accepted here that would be refused there.

use memchr::memchr;

/// A pair with one UID; places are counted from the start of what was looked at.
pub struct QuickPair {
    /// Where the key starts, quotes included.
    pub key: usize,
    /// Where it ends.
    pub key_end: usize,
    /// Its owner.
    pub uid: u32,
    /// Where the pair ends.
    pub end: usize,
}

/// The pair at the start of `bytes`, from the comma before it to the last digit of its UID;
/// `None` if it is spelt in a way that needs care, is not whole, or wrong.
#[inline]
pub fn quick_pair(bytes: &[u8]) -> Option<QuickPair> {
    if *bytes.first()? != b',' {
        return None;
    }
    let key = after_space(bytes, 1);
    if *bytes.get(key)? != b'"' {
        return None;
    }
    let len = memchr(b'"', &bytes[key + 1..])?;
    if !is_plain(&bytes[key + 1..][..len]) {
        return None;
    }
    let key_end = key + len + 2;
    let colon = after_space(bytes, key_end);
    if *bytes.get(colon)? != b':' {
        return None;
    }
    let start = after_space(bytes, colon + 1);
    let (uid, end) = quick_uid(bytes, start)?;
    Some(QuickPair { key, key_end, uid, end })
}

fn after_space(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let space = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    from + space.count()
}

/// Whether it is UTF-8 without escapes and control characters.
fn is_plain(name: &[u8]) -> bool {
    // Without a branch, so that the compiler can take many bytes at a time.
    let seen = name.iter().fold(0, |seen, &byte| {
        seen | u8::from(byte < 0x20) | u8::from(byte == b'\\') | byte & 0x80
    });
    seen == 0 || seen == 0x80 && std::str::from_utf8(name).is_ok()
}

/// The UID that starts at `start`, and where it ends.
fn quick_uid(bytes: &[u8], start: usize) -> Option<(u32, usize)> {
    let (mut value, mut end) = (0u32, start);
    while let digit @ b'0'..=b'9' = *bytes.get(end)? {
        value = value.checked_mul(10)?.checked_add(u32::from(digit - b'0'))?;
        end += 1;
    }
    let has_leading_zero = bytes[start] == b'0' && end > start + 1;
    let is_whole = !matches!(bytes[end], b'.' | b'e' | b'E');
    (end > start && is_whole && !has_leading_zero).then_some((value, end))
}
