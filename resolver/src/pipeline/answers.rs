//! The answer for each UID, remembered as it is printed, and the warnings that go with it.

use std::collections::HashMap;

use diagnostics::report::Report;
use diagnostics::wording::one_line;
use owner_json::push_string;

use crate::cli::Format;
use crate::directory::Remarks;
use crate::directory::owner::Owner;

/// `(uid_t)-1`: what system calls use for "no UID"; never a user, and never asked for.
pub const NO_UID: u32 = u32::MAX;
/// The overflow UID, which stands for every owner that a user namespace or NFS does not map.
const OVERFLOW_UID: u32 = 65534;
/// From this many questions on, not a single hit is suspicious.
const SUSPICIOUS: u64 = 20;

/// How many UIDs are found without a search of all that are known; most neighbours have few owners.
pub const RECENT: usize = 256;

/// Answers from a directory. Memory grows with the number of distinct UIDs alone.
pub struct Answers<'a> {
    report: &'a mut Report,
    format: Format,
    /// Answers that no pair has wanted yet.
    fresh: HashMap<u32, Owner>,
    /// Where in `text` the others stand.
    spelt: HashMap<u32, Spelt>,
    /// Values of paths with a single owner, one after another: `{"30001": "a@x"}`, or as objects.
    text: Vec<u8>,
    /// Each UID that was wanted lately, at its lowest bits.
    recent: Box<[Option<(u32, Spelt)>; RECENT]>,
    known: u64,
    unresolved: u64,
}

/// A piece of the text.
#[derive(Clone, Copy)]
struct Spelt {
    start: usize,
    end: usize,
}

impl<'a> Answers<'a> {
    /// No answers yet; warnings go to `report`.
    pub fn new(format: Format, report: &'a mut Report) -> Self {
        Self {
            report,
            format,
            fresh: HashMap::new(),
            spelt: HashMap::new(),
            text: Vec::new(),
            recent: Box::new([None; RECENT]),
            known: 0,
            unresolved: 0,
        }
    }

    /// Takes answers.
    pub fn take(&mut self, answers: Vec<(u32, Owner)>) {
        self.fresh.extend(answers);
    }

    /// The value of a path that this UID owns alone, if the answer is there. Warnings about it
    /// are given in the order of the pairs, whatever the order of the answers.
    #[inline]
    pub fn one(&mut self, uid: u32) -> Option<&[u8]> {
        let place = uid as usize % RECENT;
        let spelt = match self.recent[place] {
            Some((recent, spelt)) if recent == uid => spelt,
            _ => {
                let spelt = self.spelt.get(&uid).copied();
                let spelt = spelt.or_else(|| self.take_up(uid))?;
                self.recent[place] = Some((uid, spelt));
                spelt
            }
        };
        Some(&self.text[spelt.start..spelt.end])
    }

    /// Writes the value of a path with these owners, whose answers are there, to `out`.
    pub fn write_many(&self, uids: &[u32], out: &mut Vec<u8>) {
        let is_map = self.format == Format::Map;
        let (open, close) = if is_map { (b'{', b'}') } else { (b'[', b']') };
        out.push(open);
        for (index, uid) in uids.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            let Spelt { start, end } = self.spelt[uid];
            let braces = usize::from(is_map);
            out.extend_from_slice(&self.text[start + braces..end - braces]);
        }
        out.push(close);
    }

    /// Makes an answer one of those that are spelt.
    fn take_up(&mut self, uid: u32) -> Option<Spelt> {
        let owner = self.fresh.remove(&uid).or_else(|| (uid == NO_UID).then(Owner::default))?;
        self.warn(uid, &owner);
        self.known += u64::from(owner.is_known());
        self.unresolved += u64::from(owner.email().is_empty());
        let start = self.text.len();
        let (key, colon) = match self.format {
            Format::Map => ("\"", "\": "),
            Format::Object => ("\"uid\": ", ", \"email\": "),
        };
        self.text.extend_from_slice(format!("{{{key}{uid}{colon}").as_bytes());
        push_string(&mut self.text, owner.email());
        self.text.push(b'}');
        let spelt = Spelt { start, end: self.text.len() };
        self.spelt.insert(uid, spelt);
        Some(spelt)
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
        if let Some((chosen, other, entries)) = owner.rivals() {
            let more =
                if entries > 2 { format!(" and {} more", entries - 2) } else { String::new() };
            self.report.warn(format!(
                "UID {uid} belongs to several entries: `{}` is used, not `{}`{more}",
                one_line(chosen),
                one_line(other)
            ));
        }
    }

    /// Shows how far the run is, on a terminal.
    pub fn show_progress(&mut self, paths: u64) {
        let (owners, unresolved) = self.counts();
        self.report.progress().show(|seconds| {
            let rate = paths as f64 / seconds;
            format!("{paths} paths, {owners} owners, {unresolved} unresolved, {rate:.0} paths/s")
        });
    }

    /// How many UIDs there were, and how many of them have no address.
    pub fn counts(&self) -> (u64, u64) {
        (self.spelt.len() as u64, self.unresolved)
    }

    /// The warnings that the whole run can give, and the counts; of a run that failed, as far as it
    /// came.
    pub fn conclude(&mut self, remarks: &Remarks, paths: u64, is_whole: bool) {
        let asked = self.spelt.len() as u64 - u64::from(self.spelt.contains_key(&NO_UID));
        if is_whole && asked >= SUSPICIOUS && self.known == 0 {
            self.report.warn(format!(
                "none of {asked} UIDs has an entry: the bind DN may lack the right to read them, \
                 or the base DN or filter may be wrong"
            ));
        }
        if remarks.hidden > 0 {
            self.report.warn(format!(
                "{} matching entries do not show their UID: the bind DN may lack the right to \
                 read it",
                remarks.hidden
            ));
        }
        if remarks.referrals > 0 {
            let count = remarks.referrals;
            self.report.warn(format!("{count} referrals to other servers were not followed"));
        }
        if remarks.is_slow {
            self.report.warn(
                "the server takes long to find entries by UID: it may lack an index, and \
                 --enumerate may be faster"
                    .to_owned(),
            );
        }
        remarks.warnings.iter().for_each(|warning| self.report.warn_once(warning.clone()));
        self.report.count("paths", paths);
        self.report.count("owners", self.spelt.len() as u64);
        self.report.count("unresolved", self.unresolved);
        self.report.count("referrals", remarks.referrals);
    }
}
