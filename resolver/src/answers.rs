//! The answer for each UID, asked for once and remembered, and the warnings that go with it.

use std::collections::HashMap;

use anyhow::Result;
use diagnostics::report::Report;
use diagnostics::wording::one_line;
use owner_json::push_string;

use crate::directory::Directory;

/// `(uid_t)-1`: what system calls use for "no UID"; never a user.
const NO_UID: u32 = u32::MAX;
/// The overflow UID, which stands for every owner that a user namespace or NFS does not map.
const OVERFLOW_UID: u32 = 65534;
/// From this many questions on, not a single hit is suspicious.
const SUSPICIOUS: u64 = 20;

/// Answers from a directory. Memory grows with the number of distinct UIDs alone.
pub struct Answers<'a> {
    directory: &'a mut dyn Directory,
    report: &'a mut Report,
    /// Each address as a JSON string.
    emails: HashMap<u32, Box<[u8]>>,
    asked: u64,
    known: u64,
    unresolved: u64,
}

impl<'a> Answers<'a> {
    /// Answers from `directory`, with warnings to `report`.
    pub fn new(directory: &'a mut dyn Directory, report: &'a mut Report) -> Self {
        let emails = HashMap::new();
        Self { directory, report, emails, asked: 0, known: 0, unresolved: 0 }
    }

    /// The address of a UID as a JSON string, if it has been looked up.
    pub fn get(&self, uid: u32) -> Option<&[u8]> {
        self.emails.get(&uid).map(|email| &email[..])
    }

    /// Looks a UID up, which may take a while.
    ///
    /// # Errors
    /// The directory could not answer.
    pub fn look_up(&mut self, uid: u32) -> Result<()> {
        let mut json = Vec::new();
        if uid == NO_UID {
            self.report.warn(format!("UID {uid} means \"no user\" and was not looked up"));
            json.extend_from_slice(b"\"\"");
        } else {
            push_string(&mut json, &self.ask(uid)?);
        }
        self.unresolved += u64::from(json == b"\"\"");
        self.emails.insert(uid, json.into());
        Ok(())
    }

    fn ask(&mut self, uid: u32) -> Result<Vec<u8>> {
        if uid == OVERFLOW_UID {
            self.report.warn(format!(
                "UID {uid} stands for owners that are not mapped: check hostUsers and NFS id \
                 mapping where the scan ran"
            ));
        }
        let owner = self.directory.owner(uid)?;
        self.asked += 1;
        self.known += u64::from(owner.is_known());
        if let Some((chosen, other, entries)) = owner.rivals() {
            let more =
                if entries > 2 { format!(" and {} more", entries - 2) } else { String::new() };
            self.report.warn(format!(
                "UID {uid} belongs to several entries: `{}` is used, not `{}`{more}",
                one_line(chosen),
                one_line(other)
            ));
        }
        Ok(owner.email().to_vec())
    }

    /// Ends with the warnings that only the whole run can give, and the counts.
    pub fn conclude(self) {
        let remarks = self.directory.remarks();
        if self.asked >= SUSPICIOUS && self.known == 0 {
            self.report.warn(format!(
                "none of {} UIDs has an entry: the bind DN may lack the right to read them, or \
                 the base DN or filter may be wrong",
                self.asked
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
        self.report.count("owners", self.emails.len() as u64);
        self.report.count("unresolved", self.unresolved);
        self.report.count("referrals", remarks.referrals);
    }
}
