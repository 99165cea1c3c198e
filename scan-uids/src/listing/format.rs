//! The output formats (`--format`): encodes a path and its UID as one record of JSON, NDJSON, TSV, CSV or
//! NUL-terminated text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use owner_json::{SEPARATOR, push_fragment};

use crate::walk::path_stack::{PushPath, push_raw};

/// A format of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One object, {"path": uid}, which resolver reads.
    #[default]
    Json,
    /// One object a line, {"path":"...","uid":0}, with "path_b64" if the path is not UTF-8.
    Ndjson,
    /// One line a path: path, tab, UID; with `\\`, `\t`, `\n` and `\r` in paths escaped.
    Tsv,
    /// One record a path, as RFC 4180 defines; the first line is path,uid.
    Csv,
    /// Path, tab, UID and a NUL byte, with nothing escaped.
    Nul,
}

/// The header line of CSV.
pub const CSV_HEADER: &[u8] = b"path,uid\r\n";

/// Writes records in one format: start, path, end.
#[derive(Clone, Copy)]
pub struct Encoder {
    start: [&'static [u8]; 2],
    /// Whether a path with a comma, a quote, CR or LF stands in quotes.
    quotes_paths: bool,
    before_uid: &'static str,
    end: &'static str,
    /// Appends a path, or a part of one.
    pub push_path: PushPath,
    /// Whether the record of a path that is not UTF-8 also has the path in base64.
    pub adds_base64: bool,
}

impl Format {
    /// The encoder of this format.
    pub fn encoder(self) -> Encoder {
        let quotes_paths = self == Self::Csv;
        let adds_base64 = self == Self::Ndjson;
        let encoder = |start, push_path, before_uid, end| Encoder {
            start,
            quotes_paths,
            before_uid,
            end,
            push_path,
            adds_base64,
        };
        match self {
            Self::Json => encoder([SEPARATOR, b"\""], push_fragment, "\": ", ""),
            Self::Ndjson => encoder([b"{\"path\":\"", b""], push_fragment, "\",\"uid\":", "}\n"),
            Self::Tsv => encoder([b"", b""], push_escaped, "\t", "\n"),
            Self::Csv => encoder([b"", b""], push_with_doubled_quotes, ",", "\r\n"),
            Self::Nul => encoder([b"", b""], push_raw, "\t", "\0"),
        }
    }
}

impl Encoder {
    /// Appends a record up to the end of its path; `push_path` appends the encoded path.
    pub fn push_start_and_path(&self, out: &mut Vec<u8>, push_path: impl FnOnce(&mut Vec<u8>)) {
        self.start.iter().for_each(|part| out.extend_from_slice(part));
        let path = out.len();
        push_path(out);
        // A path needs quotes also because of the names of the directories above.
        if self.quotes_paths && out[path..].iter().any(|byte| b",\"\r\n".contains(byte)) {
            out.insert(path, b'"');
            out.push(b'"');
        }
    }

    /// Returns the part of a record after the path.
    pub fn end(&self, uid: u32) -> Vec<u8> {
        format!("{}{uid}{}", self.before_uid, self.end).into_bytes()
    }

    /// Returns the part of a record after a path that is not UTF-8.
    pub fn end_with_base64(&self, uid: u32, path: &[u8]) -> Vec<u8> {
        let path = STANDARD.encode(path);
        format!("{}{uid},\"path_b64\":\"{path}\"{}", self.before_uid, self.end).into_bytes()
    }

    /// Appends a whole record.
    pub fn push_record(&self, out: &mut Vec<u8>, path: &[u8], uid: u32) {
        self.push_start_and_path(out, |out| (self.push_path)(out, path));
        if self.adds_base64 && std::str::from_utf8(path).is_err() {
            out.extend_from_slice(&self.end_with_base64(uid, path));
        } else {
            out.extend_from_slice(&self.end(uid));
        }
    }
}

fn push_escaped(out: &mut Vec<u8>, path: &[u8]) {
    for &byte in path {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            _ => out.push(byte),
        }
    }
}

fn push_with_doubled_quotes(out: &mut Vec<u8>, path: &[u8]) {
    for &byte in path {
        out.push(byte);
        if byte == b'"' {
            out.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(format: Format, path: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        format.encoder().push_record(&mut out, path, 7);
        out
    }

    #[test]
    fn every_format_keeps_hostile_paths_apart() {
        let path = b"a\tb\n\\\xff\r";
        assert_eq!(record(Format::Json, path), b",\n  \"a\\tb\\n\\\\\\udcff\\r\": 7");
        assert_eq!(
            record(Format::Ndjson, path),
            b"{\"path\":\"a\\tb\\n\\\\\\udcff\\r\",\"uid\":7,\"path_b64\":\"YQliClz/DQ==\"}\n"
        );
        assert_eq!(record(Format::Tsv, path), b"a\\tb\\n\\\\\xff\\r\t7\n");
        assert_eq!(record(Format::Csv, path), b"\"a\tb\n\\\xff\r\",7\r\n");
        assert_eq!(record(Format::Nul, path), b"a\tb\n\\\xff\r\t7\0");
    }

    #[test]
    fn csv_has_quotes_only_around_paths_that_need_them() {
        for plain in [&b"/srv/a b"[..], b" ", b"a;b\tc'd\\", b"=1", b"\xff", "\u{fc}".as_bytes()] {
            assert_eq!(record(Format::Csv, plain), [plain, b",7\r\n"].concat());
        }
        assert_eq!(record(Format::Csv, b","), b"\",\",7\r\n");
        assert_eq!(record(Format::Csv, b"\""), b"\"\"\"\",7\r\n");
        assert_eq!(record(Format::Csv, b"a\r"), b"\"a\r\",7\r\n");
        assert_eq!(record(Format::Csv, b"\na"), b"\"\na\",7\r\n");
        assert_eq!(record(Format::Csv, b"\"a\"/\"\""), b"\"\"\"a\"\"/\"\"\"\"\",7\r\n");
    }

    #[test]
    fn base64_is_added_only_to_paths_that_are_not_utf8() {
        let path = "ü".as_bytes();
        assert_eq!(record(Format::Ndjson, path), "{\"path\":\"ü\",\"uid\":7}\n".as_bytes());
    }
}
