//! Lists the paths that differ between two scans, for the log line of a reload.

use std::collections::HashMap;

use diagnostics::wording::one_line;

use crate::watch::Entry;

/// How many names are listed.
const LISTED: usize = 5;

/// The names that differ between two trees, `certs/a.pem, certs/b.pem and 3 more`; `None` if the
/// trees are equal.
pub fn changed_names(before: &[Entry], now: &[Entry]) -> Option<String> {
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
    let listed: Vec<_> = changed.iter().take(LISTED).map(|path| one_line(path)).collect();
    match changed.len().saturating_sub(LISTED) {
        _ if changed.is_empty() => None,
        0 => Some(listed.join(", ")),
        more => Some(format!("{} and {more} more", listed.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Kind;

    #[test]
    fn added_changed_and_removed_names_are_listed() {
        let tree = |entries: &[(&str, u8)]| -> Vec<Entry> {
            let entry = |(path, content): &(&str, u8)| Entry {
                path: path.as_bytes().into(),
                kind: Kind::File,
                hash: [*content; 32],
            };
            entries.iter().map(entry).collect()
        };
        let before = tree(&[("a", 1), ("b", 1), ("c", 1)]);
        assert_eq!(changed_names(&before, &before), None);
        let now = tree(&[("a", 1), ("b", 2), ("new\nline", 1)]);
        assert_eq!(changed_names(&before, &now).unwrap(), "b, c, new\\nline");
        let many: Vec<_> = (b'a'..=b'z').map(|n| (n as char).to_string()).collect();
        let many: Vec<_> = many.iter().map(|name| (&name[..], 7)).collect();
        assert_eq!(changed_names(&[], &tree(&many)).unwrap(), "a, b, c, d, e and 21 more");
    }
}
