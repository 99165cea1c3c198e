//! How findings are spelt.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use owner_json::{SEPARATOR, push_fragment};

use crate::walk::path::{Push, push_raw};

/// A format of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One object, {"path": uid}, which resolver reads.
    #[default]
    Json,
    /// An object a line, {"path":"...","uid":0}, with "path_b64" where a path is not UTF-8.
    Ndjson,
    /// A line of path, tab and UID, with `\\`, `\t`, `\n` and `\r` in paths escaped.
    Tsv,
    /// As tsv, with nothing escaped and a NUL byte at the end of each.
    Nul,
}

/// What stands around a path and its UID.
#[derive(Clone, Copy)]
pub struct Spelling {
    open: [&'static [u8]; 2],
    middle: &'static str,
    close: &'static str,
    /// How the path is spelt.
    pub path: Push,
    /// Whether a path that is not UTF-8 is given in base64 as well.
    pub adds_base64: bool,
}

impl Format {
    /// How findings are spelt in this format.
    pub fn spelling(self) -> Spelling {
        let (open, middle, close, path): (_, _, _, Push) = match self {
            Self::Json => ([SEPARATOR, b"\""], "\": ", "", push_fragment),
            Self::Ndjson => ([b"{\"path\":\"", b""], "\",\"uid\":", "}\n", push_fragment),
            Self::Tsv => ([b"", b""], "\t", "\n", push_escaped),
            Self::Nul => ([b"", b""], "\t", "\0", push_raw),
        };
        Spelling {
            open: [open[0], open[1]],
            middle,
            close,
            path,
            adds_base64: self == Self::Ndjson,
        }
    }
}

impl Spelling {
    /// Appends what stands before the path.
    pub fn open(&self, out: &mut Vec<u8>) {
        self.open.iter().for_each(|part| out.extend_from_slice(part));
    }

    /// What stands after the path.
    pub fn ending(&self, uid: u32) -> Vec<u8> {
        format!("{}{uid}{}", self.middle, self.close).into_bytes()
    }

    /// What stands after a path that is not UTF-8.
    pub fn ending_with_base64(&self, uid: u32, path: &[u8]) -> Vec<u8> {
        let path = STANDARD.encode(path);
        format!("{}{uid},\"path_b64\":\"{path}\"{}", self.middle, self.close).into_bytes()
    }

    /// Appends a whole finding.
    pub fn push(&self, out: &mut Vec<u8>, path: &[u8], uid: u32) {
        self.open(out);
        (self.path)(out, path);
        if self.adds_base64 && std::str::from_utf8(path).is_err() {
            out.extend_from_slice(&self.ending_with_base64(uid, path));
        } else {
            out.extend_from_slice(&self.ending(uid));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn spelt(format: Format, path: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        format.spelling().push(&mut out, path, 7);
        out
    }

    #[test]
    fn every_format_keeps_hostile_paths_apart() {
        let path = b"a\tb\n\\\xff";
        assert_eq!(spelt(Format::Json, path), b",\n  \"a\\tb\\n\\\\\\udcff\": 7");
        assert_eq!(
            spelt(Format::Ndjson, path),
            b"{\"path\":\"a\\tb\\n\\\\\\udcff\",\"uid\":7,\"path_b64\":\"YQliClz/\"}\n"
        );
        assert_eq!(spelt(Format::Tsv, path), b"a\\tb\\n\\\\\xff\t7\n");
        assert_eq!(spelt(Format::Nul, path), b"a\tb\n\\\xff\t7\0");
    }

    #[test]
    fn base64_is_given_only_where_it_is_needed() {
        let path = "ü".as_bytes();
        assert_eq!(spelt(Format::Ndjson, path), "{\"path\":\"ü\",\"uid\":7}\n".as_bytes());
    }
}
