//! A cache of the answer for each UID, as the JSON that is printed for it. It also reports warnings and
//! counts.
//!
//! Memory grows with the number of distinct UIDs, not with the number of paths.

use std::collections::HashMap;

use diagnostics::report::Report;
use diagnostics::wording::one_line;
use owner_json::push_string;

use super::recent::RecentUids;
use crate::cli::Format;
use crate::directory::owner::Owner;
use crate::directory::{Answer, LookupStats};

/// `(uid_t)-1`, which system calls use for "no UID". It is no user, and never looked up.
pub const NO_UID: u32 = u32::MAX;
/// The overflow UID: the kernel shows it for every owner that a user namespace or NFS does not map.
const OVERFLOW_UID: u32 = 65534;
/// From this many UIDs on, a warning is given if none of them has an entry.
const SUSPICIOUS_MISSES: u64 = 20;

/// The answers of a directory.
pub struct AnswerCache<'a> {
    report: &'a mut Report,
    format: Format,
    /// Answers for UIDs that no written pair has had yet.
    pending: HashMap<u32, Owner>,
    /// The values of all other UIDs.
    rendered: HashMap<u32, Value>,
    /// Values of paths with a single owner, one after another: `{"30001": "a@x"}`, or as objects.
    text: Vec<u8>,
    recent: RecentUids<Value>,
    /// UIDs with an entry.
    known: u64,
    /// UIDs without an address.
    unresolved: u64,
}

/// The value of a path with a single owner, as a range of the cache's text.
#[derive(Clone, Copy)]
pub struct Value {
    start: usize,
    end: usize,
}

impl<'a> AnswerCache<'a> {
    /// Creates an empty cache; warnings go to `report`.
    pub fn new(format: Format, report: &'a mut Report) -> Self {
        Self {
            report,
            format,
            pending: HashMap::new(),
            rendered: HashMap::new(),
            text: Vec::new(),
            recent: RecentUids::default(),
            known: 0,
            unresolved: 0,
        }
    }

    /// Adds answers.
    pub fn add(&mut self, answers: Vec<Answer>) {
        self.pending.extend(answers.into_iter().map(|answer| (answer.uid, answer.owner)));
    }

    /// Finds the value of a path with this single owner, if the answer is there. The first call for a
    /// UID reports the warnings about it, so their order is that of the input.
    #[inline]
    pub fn find(&mut self, uid: u32) -> Option<Value> {
        self.recent.get(uid).or_else(|| self.find_or_render(uid))
    }

    /// The bytes of a value.
    #[inline]
    pub fn text(&self, value: Value) -> &[u8] {
        &self.text[value.start..value.end]
    }

    #[inline(never)]
    fn find_or_render(&mut self, uid: u32) -> Option<Value> {
        let value = self.rendered.get(&uid).copied().or_else(|| self.render(uid))?;
        self.recent.set(uid, value);
        Some(value)
    }

    /// Appends the value of a path with these owners to `out`. All of them must have been
    /// [found](Self::find).
    pub fn push_values(&self, uids: &[u32], out: &mut Vec<u8>) {
        let is_map = self.format == Format::Map;
        let (open, close) = if is_map { (b'{', b'}') } else { (b'[', b']') };
        out.push(open);
        for (index, uid) in uids.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            let Value { start, end } = self.rendered[uid];
            let braces = usize::from(is_map);
            out.extend_from_slice(&self.text[start + braces..end - braces]);
        }
        out.push(close);
    }

    /// Renders a pending answer and reports the warnings about it.
    fn render(&mut self, uid: u32) -> Option<Value> {
        let owner = self.pending.remove(&uid).or_else(|| (uid == NO_UID).then(Owner::default))?;
        self.warn(uid, &owner);
        self.known += u64::from(owner.has_entry());
        self.unresolved += u64::from(owner.email().is_empty());
        let start = self.text.len();
        let (key, colon) = match self.format {
            Format::Map => ("\"", "\": "),
            Format::Object => ("\"uid\": ", ", \"email\": "),
        };
        self.text.extend_from_slice(format!("{{{key}{uid}{colon}").as_bytes());
        push_string(&mut self.text, owner.email());
        self.text.push(b'}');
        let value = Value { start, end: self.text.len() };
        self.rendered.insert(uid, value);
        Some(value)
    }

    fn warn(&mut self, uid: u32, owner: &Owner) {
        if uid == NO_UID {
            self.report.warn(format!("UID {uid} means \"no user\" and was not looked up"));
        }
        if uid == OVERFLOW_UID {
            self.report.warn(format!(
                "UID {uid} stands for owners that are not mapped: check hostUsers and NFS id \
                 mapping where the scan ran"
            ));
        }
        if let Some(choice) = owner.choice() {
            let others = choice.entries - 2;
            let more = if others > 0 { format!(" and {others} more") } else { String::new() };
            self.report.warn(format!(
                "UID {uid} belongs to several entries: `{}` is used, not `{}`{more}",
                one_line(choice.chosen),
                one_line(choice.runner_up)
            ));
        }
    }

    /// Updates the progress line, if there is a terminal for it.
    pub fn show_progress(&mut self, paths: u64) {
        let (owners, unresolved) = (self.owners(), self.unresolved);
        self.report.progress().show(|seconds| {
            let rate = paths as f64 / seconds;
            format!("{paths} paths, {owners} owners, {unresolved} unresolved, {rate:.0} paths/s")
        });
    }

    /// How many distinct UIDs there were.
    pub fn owners(&self) -> u64 {
        self.rendered.len() as u64
    }

    /// How many distinct UIDs have no address.
    pub fn unresolved(&self) -> u64 {
        self.unresolved
    }

    /// Reports the warnings about the whole run, and its counts. Of a run that failed
    /// (`is_complete` is false), these are the counts up to its failure.
    pub fn report_totals(&mut self, stats: &LookupStats, paths: u64, is_complete: bool) {
        let looked_up = self.owners() - u64::from(self.rendered.contains_key(&NO_UID));
        if is_complete && looked_up >= SUSPICIOUS_MISSES && self.known == 0 {
            self.report.warn(format!(
                "none of {looked_up} UIDs has an entry: the bind DN may lack the right to read them, \
                 or the base DN or filter may be wrong"
            ));
        }
        if stats.hidden > 0 {
            self.report.warn(format!(
                "{} matching entries do not show their UID: the bind DN may lack the right to \
                 read it",
                stats.hidden
            ));
        }
        if stats.referrals > 0 {
            let count = stats.referrals;
            self.report.warn(format!("{count} referrals to other servers were not followed"));
        }
        if stats.is_slow {
            self.report.warn(
                "the server takes long to find entries by UID: it may lack an index, and \
                 --enumerate may be faster"
                    .to_owned(),
            );
        }
        stats.warnings.iter().for_each(|warning| self.report.warn_once(warning.clone()));
        self.report.count("paths", paths);
        self.report.count("owners", self.owners());
        self.report.count("unresolved", self.unresolved);
        self.report.count("referrals", stats.referrals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(uid: u32, email: &str) -> Answer {
        let mut owner = Owner::default();
        owner.add_entry(b"uid=x", Some(email.as_bytes()));
        Answer { uid, owner }
    }

    /// The values of single owners and of both together.
    fn values(format: Format) -> Vec<String> {
        let mut report = Report::new(false);
        let mut cache = AnswerCache::new(format, &mut report);
        assert!(cache.find(7).is_none());
        cache.add(vec![answer(8, "\"b\"@x"), answer(7, "a@x")]);
        let found = [7, 8].map(|uid| cache.find(uid).unwrap());
        let mut values = found.map(|value| cache.text(value).to_vec()).to_vec();
        for uids in [&[7, 8][..], &[8], &[]] {
            let mut out = Vec::new();
            cache.push_values(uids, &mut out);
            values.push(out);
        }
        values.into_iter().map(|value| String::from_utf8(value).unwrap()).collect()
    }

    #[test]
    fn owners_are_rendered_in_both_formats() {
        let expected = [
            r#"{"7": "a@x"}"#,
            r#"{"8": "\"b\"@x"}"#,
            r#"{"7": "a@x", "8": "\"b\"@x"}"#,
            r#"{"8": "\"b\"@x"}"#,
            "{}",
        ];
        assert_eq!(values(Format::Map), expected);
        let expected = [
            r#"{"uid": 7, "email": "a@x"}"#,
            r#"{"uid": 8, "email": "\"b\"@x"}"#,
            r#"[{"uid": 7, "email": "a@x"}, {"uid": 8, "email": "\"b\"@x"}]"#,
            r#"[{"uid": 8, "email": "\"b\"@x"}]"#,
            "[]",
        ];
        assert_eq!(values(Format::Object), expected);
    }

    #[test]
    fn no_user_has_an_answer_without_a_lookup() {
        let mut report = Report::new(false);
        let mut cache = AnswerCache::new(Format::Map, &mut report);
        let value = cache.find(NO_UID).unwrap();
        assert_eq!(cache.text(value), br#"{"4294967295": ""}"#);
        assert_eq!((cache.owners(), cache.unresolved()), (1, 1));
    }
}
