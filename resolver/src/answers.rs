//! The answer for each UID, remembered as it is printed, and the warnings that go with it.

use std::collections::HashMap;

use diagnostics::report::Report;
use diagnostics::wording::one_line;
use owner_json::push_string;

use crate::cli::Format;
use crate::directory::Remarks;
use crate::owner::Owner;

/// `(uid_t)-1`: what system calls use for "no UID"; never a user, and never asked for.
pub const NO_UID: u32 = u32::MAX;
/// The overflow UID, which stands for every owner that a user namespace or NFS does not map.
const OVERFLOW_UID: u32 = 65534;
/// From this many questions on, not a single hit is suspicious.
const SUSPICIOUS: u64 = 20;

/// Answers from a directory. Memory grows with the number of distinct UIDs alone.
pub struct Answers<'a> {
    report: &'a mut Report,
    format: Format,
    /// Answers that no pair has wanted yet.
    fresh: HashMap<u32, Owner>,
    /// The others as they are printed: `"30001": "a@x"`, or as objects.
    spelt: HashMap<u32, Box<[u8]>>,
    /// The last one: most neighbours have one owner.
    last: Option<(u32, Box<[u8]>)>,
    known: u64,
    unresolved: u64,
}

impl<'a> Answers<'a> {
    /// No answers yet; warnings go to `report`.
    pub fn new(format: Format, report: &'a mut Report) -> Self {
        let (fresh, spelt) = (HashMap::new(), HashMap::new());
        Self { report, format, fresh, spelt, last: None, known: 0, unresolved: 0 }
    }

    /// Takes answers.
    pub fn take(&mut self, answers: Vec<(u32, Owner)>) {
        self.fresh.extend(answers);
    }

    /// Whether the answer for a UID is there. Warnings about it are given in the order of the
    /// pairs, whatever the order of the answers.
    pub fn has(&mut self, uid: u32) -> bool {
        if self.last.as_ref().is_some_and(|(last, _)| *last == uid) {
            return true;
        }
        if let Some(spelt) = self.spelt.get(&uid) {
            self.last = Some((uid, spelt.clone()));
            return true;
        }
        let owner = self.fresh.remove(&uid).or_else(|| (uid == NO_UID).then(Owner::default));
        let Some(owner) = owner else { return false };
        self.warn(uid, &owner);
        self.known += u64::from(owner.is_known());
        self.unresolved += u64::from(owner.email().is_empty());
        self.spelt.insert(uid, self.spell(uid, owner.email()));
        true
    }

    /// The UID with its address as the output wants them; nothing unless the answer
    /// [is there](Self::has).
    pub fn spelt(&self, uid: u32) -> &[u8] {
        match &self.last {
            Some((last, spelt)) if *last == uid => spelt,
            _ => self.spelt.get(&uid).map_or(b"", |spelt| spelt),
        }
    }

    /// What stands around the owners of a path; `is_array` if they were given as one.
    pub fn brackets(&self, is_array: bool) -> (&'static [u8], &'static [u8]) {
        match (self.format, is_array) {
            (Format::Map, _) => (b"{", b"}"),
            (Format::Object, true) => (b"[", b"]"),
            (Format::Object, false) => (b"", b""),
        }
    }

    fn spell(&self, uid: u32, email: &[u8]) -> Box<[u8]> {
        let (open, close) = match self.format {
            Format::Map => (format!("\"{uid}\": "), ""),
            Format::Object => (format!("{{\"uid\": {uid}, \"email\": "), "}"),
        };
        let mut spelt = open.into_bytes();
        push_string(&mut spelt, email);
        spelt.extend_from_slice(close.as_bytes());
        spelt.into()
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

    /// How many UIDs there were, and how many of them have no address.
    pub fn counts(&self) -> (u64, u64) {
        (self.spelt.len() as u64, self.unresolved)
    }

    /// The warnings that only the whole run can give, and the counts.
    pub fn conclude(&mut self, remarks: &Remarks) {
        let asked = self.spelt.len() as u64 - u64::from(self.spelt.contains_key(&NO_UID));
        if asked >= SUSPICIOUS && self.known == 0 {
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
        self.report.count("owners", self.spelt.len() as u64);
        self.report.count("unresolved", self.unresolved);
        self.report.count("referrals", remarks.referrals);
    }
}
