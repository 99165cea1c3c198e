//! Writes JSON strings that carry arbitrary bytes.

/// Appends `bytes` as a JSON string, quotes included.
///
/// Valid UTF-8 is copied, with quotes, backslashes and control characters escaped. Every byte
/// that is not part of valid UTF-8 becomes a lone surrogate, `\udc80` to `\udcff`, which is
/// Python's `surrogateescape` (PEP 383): `os.fsencode(json.loads(s))` gives `bytes` back.
pub fn push_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    push_fragment(out, bytes);
    out.push(b'"');
}

/// Appends `bytes` as part of a JSON string, without quotes. A string may be written in fragments that
/// are cut next to an ASCII character.
pub fn push_fragment(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        push_text(out, chunk.valid().as_bytes());
        for &byte in chunk.invalid() {
            out.extend_from_slice(b"\\udc");
            push_hex(out, byte);
        }
    }
}

fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&b| needs_escape(b)) {
        out.extend_from_slice(&rest[..at]);
        push_escape(out, rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            out.extend_from_slice(b"\\u00");
            return push_hex(out, byte);
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

fn push_hex(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(DIGITS[usize::from(byte >> 4)]);
    out.push(DIGITS[usize::from(byte & 15)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        push_string(&mut out, bytes);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn plain_names_and_emoji_are_copied() {
        assert_eq!(json("a b/ü/🦀\u{7f}".as_bytes()), "\"a b/ü/🦀\u{7f}\"");
    }

    #[test]
    fn quotes_backslashes_and_controls_are_escaped() {
        assert_eq!(json(b"\"\\\n\t\r\x08\x0c\x01\x1f"), r#""\"\\\n\t\r\b\f\u0001\u001f""#);
    }

    #[test]
    fn bytes_outside_utf8_become_lone_surrogates() {
        assert_eq!(json(b"\xff"), r#""\udcff""#);
        assert_eq!(json(b"x\xe9y"), r#""x\udce9y""#);
        // A surrogate spelt in UTF-8 is not UTF-8: all three bytes must survive.
        assert_eq!(json(b"\xed\xb3\xbf"), r#""\udced\udcb3\udcbf""#);
        assert_eq!(json(b"\xc0\xaf"), r#""\udcc0\udcaf""#);
    }

    proptest! {
        #[test]
        fn any_text_is_what_serde_json_reads_back(text: String) {
            prop_assert_eq!(serde_json::from_str::<String>(&json(text.as_bytes())).unwrap(), text);
        }
    }
}
