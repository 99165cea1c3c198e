//! What has changed, in words.

use std::collections::HashMap;

use diagnostics::wording::one_line;

use crate::watch::Entry;

/// How many names are told.
const NAMED: usize = 5;

/// Names of what is different between two trees: `certs/a.pem, certs/b.pem and 3 more`; `None` if
/// nothing is.
pub fn names(before: &[Entry], now: &[Entry]) -> Option<String> {
    let mut known: HashMap<&[u8], &Entry> =
        before.iter().map(|entry| (&*entry.path, entry)).collect();
    let mut changed: Vec<&[u8]> = Vec::new();
    for entry in now {
        if known.remove(&*entry.path).is_none_or(|known| known != entry) {
            changed.push(&entry.path);
        }
    }
    changed.extend(known.into_keys());
    changed.sort_unstable();
    let named: Vec<_> = changed.iter().take(NAMED).map(|path| one_line(path)).collect();
    match changed.len().saturating_sub(NAMED) {
        _ if changed.is_empty() => None,
        0 => Some(named.join(", ")),
        more => Some(format!("{} and {more} more", named.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_changed_and_removed_is_named() {
        let tree = |entries: &[(&str, u8)]| -> Vec<Entry> {
            let entry = |(path, content): &(&str, u8)| Entry {
                path: path.as_bytes().into(),
                kind: b'f',
                hash: [*content; 32],
            };
            entries.iter().map(entry).collect()
        };
        let before = tree(&[("a", 1), ("b", 1), ("c", 1)]);
        assert_eq!(names(&before, &before), None);
        let now = tree(&[("a", 1), ("b", 2), ("new\nline", 1)]);
        assert_eq!(names(&before, &now).unwrap(), "b, c, new\\nline");
        let many: Vec<_> = (b'a'..=b'z').map(|n| (n as char).to_string()).collect();
        let many: Vec<_> = many.iter().map(|name| (&name[..], 7)).collect();
        assert_eq!(names(&[], &tree(&many)).unwrap(), "a, b, c, d, e and 21 more");
    }
}
