//! The way that nearly all pairs take: one that stands in the buffer as a whole, spelt plainly.
//!
//! It is found by a vectorised search for the quote and one pass over the key, instead of asking
//! before every byte whether there is one. Anything else is left to the reader, and so is saying
//! what is wrong: nothing is accepted here that would be refused there.

use memchr::memchr2;

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
    let rest = &bytes[key + 1..];
    let len = memchr2(b'"', b'\\', rest)?;
    if rest[len] != b'"' || !is_plain(&rest[..len]) {
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

/// Whether it is UTF-8 without control characters.
#[inline]
fn is_plain(name: &[u8]) -> bool {
    is_plain_ascii(name)
        || name.iter().all(|&byte| byte >= 0x20) && std::str::from_utf8(name).is_ok()
}

/// Looks at words instead of bytes: the highest bit of each byte tells, by itself or, below a space,
/// after one is subtracted. What a subtraction borrows from the next byte has been told by then.
#[inline]
fn is_plain_ascii(name: &[u8]) -> bool {
    let (words, rest) = name.as_chunks();
    let Some(last) = name.last_chunk() else {
        return rest.iter().all(|byte| (0x20..0x80).contains(byte));
    };
    words.iter().chain([last]).fold(0, |seen, &word| {
        let word = u64::from_le_bytes(word);
        seen | word | word.wrapping_sub(u64::from_le_bytes([b' '; 8]))
    }) & u64::from_le_bytes([0x80; 8])
        == 0
}

/// The UID that starts at `start`, and where it ends.
#[inline]
fn quick_uid(bytes: &[u8], start: usize) -> Option<(u32, usize)> {
    let (mut value, mut end) = (0u64, start);
    while let digit @ b'0'..=b'9' = *bytes.get(end)? {
        // What overflows here has more digits than a UID.
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        end += 1;
    }
    let digits = end - start;
    let is_whole = !matches!(bytes[end], b'.' | b'e' | b'E');
    let is_uid = digits == 1 || (2..=10).contains(&digits) && bytes[start] != b'0';
    let value = u32::try_from(value).ok()?;
    (is_uid && is_whole).then_some((value, end))
}
