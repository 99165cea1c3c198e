//! Parses the usual kind of pair fast: a pair with one UID that is complete in the buffer and whose
//! key has no escapes.
//!
//! 1. Find the end of the key by a vectorised search for a quote or a backslash.
//! 2. Check in one pass over the key that it is UTF-8 without control characters.
//! 3. Parse the digits of the UID.
//!
//! The reader parses all other pairs itself, byte by byte, and finds the errors in wrong ones. The
//! fast path accepts no pair that the reader would refuse.

use memchr::memchr2;

/// A pair with one UID. Positions count from the start of the bytes.
pub struct FastPair {
    /// The position of the key's opening quote.
    pub key: usize,
    /// The position behind the key's closing quote.
    pub key_end: usize,
    /// The UID.
    pub uid: u32,
    /// The position behind the last digit.
    pub end: usize,
}

/// Parses the pair at the start of `bytes`, from the comma before the pair to the last digit of the
/// UID. Returns `None` if the reader has to parse the pair.
#[inline]
pub fn fast_pair(bytes: &[u8]) -> Option<FastPair> {
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
    let (uid, end) = fast_uid(bytes, start)?;
    Some(FastPair { key, key_end, uid, end })
}

fn after_space(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let space = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    from + space.count()
}

/// Whether a key is UTF-8 without control characters.
#[inline]
fn is_plain(name: &[u8]) -> bool {
    is_plain_ascii(name)
        || name.iter().all(|&byte| byte >= 0x20) && std::str::from_utf8(name).is_ok()
}

/// Whether a key is ASCII without control characters. Checks eight bytes at a time: the highest bit
/// of a byte is set if the byte is not ASCII, and it is set after subtracting a space if the byte is
/// less than a space. A subtraction that borrows from the next byte has set the bit of its own byte.
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

/// Parses the UID at `start`. Returns the UID and the position behind its last digit.
#[inline]
fn fast_uid(bytes: &[u8], start: usize) -> Option<(u32, usize)> {
    let (mut value, mut end) = (0u64, start);
    while let digit @ b'0'..=b'9' = *bytes.get(end)? {
        // A number that overflows has more digits than a UID, and is refused below.
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        end += 1;
    }
    let digits = end - start;
    let is_whole = !matches!(bytes[end], b'.' | b'e' | b'E');
    let is_uid = digits == 1 || (2..=10).contains(&digits) && bytes[start] != b'0';
    let value = u32::try_from(value).ok()?;
    (is_uid && is_whole).then_some((value, end))
}
