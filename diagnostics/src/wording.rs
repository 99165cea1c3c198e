//! Formats operating system errors and file names for one-line messages.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::unix::ffi::OsStrExt;

use anyhow::anyhow;

/// Formats an I/O error in lower case and without its number: `permission denied`, not
/// `Permission denied (os error 13)`.
pub fn io_error(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    lower_first(text.strip_prefix("failed to lookup address information: ").unwrap_or(text))
}

/// The text with a lower-case first letter, unless it starts with an acronym.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    let second_is_lower = text.chars().nth(1).is_none_or(char::is_lowercase);
    match chars.next() {
        Some(first) if second_is_lower => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

/// The error for an operation on a path: ``failed to open `/x`: permission denied``.
pub fn io_failure(operation: &str, path: impl AsRef<OsStr>, error: &io::Error) -> anyhow::Error {
    anyhow!("failed to {operation} `{}`: {}", one_line(path.as_ref().as_bytes()), io_error(error))
}

/// Formats untrusted bytes as one line of text. Control characters and bytes that are not UTF-8 are
/// escaped (`\n`, `\x1b`, `\xff`), so that a name can neither break a line nor control a terminal.
pub fn one_line(bytes: &[u8]) -> String {
    let mut line = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || is_separator(character) {
                line.extend(character.escape_default());
            } else {
                line.push(character);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(line, "\\x{byte:02x}");
        }
    }
    line
}

/// Whether a character separates lines or paragraphs, or reorders the text around it.
fn is_separator(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_errors_are_lower_case_and_have_no_number() {
        assert_eq!(io_error(&io::Error::from_raw_os_error(13)), "permission denied");
        assert_eq!(io_error(&io::Error::other("TLS is off")), "TLS is off");
        assert_eq!(io_error(&io::Error::other("")), "");
        let unknown = "failed to lookup address information: Name or service not known";
        assert_eq!(io_error(&io::Error::other(unknown)), "name or service not known");
    }

    #[test]
    fn hostile_names_stay_on_one_line() {
        assert_eq!(one_line(b"a\nb\x1b[2J\xff/\xc3\xbc"), r"a\nb\u{1b}[2J\xff/ü");
        assert_eq!(one_line("x\u{202e}y".as_bytes()), r"x\u{202e}y");
    }

    #[test]
    fn a_failure_names_operation_and_path() {
        let error = io_failure("stat", "/x", &io::Error::from_raw_os_error(13));
        assert_eq!(error.to_string(), "failed to stat `/x`: permission denied");
    }
}
