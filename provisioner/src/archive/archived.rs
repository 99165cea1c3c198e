//! Lists the versions that a rollback can return to, and finds the one that a user names.

use anyhow::Result;
use diagnostics::exit::misconfigured;
use diagnostics::wording::one_line;
use published_tree::manifest::hex;
use published_tree::tree::Hash;
use published_tree::volume::Volume;

use crate::archive::retire::previous_versions;
use crate::archive::{Archive, Archives};

/// The fewest digits of a digest that name a version.
const MIN_DIGITS: usize = 4;

/// A version that a rollback can return to.
#[derive(Clone, Debug)]
pub struct Archived {
    /// Its digest.
    pub digest: Hash,
    /// The name of its directory on the volume, which stays for the grace period of readers.
    pub name: Option<String>,
    /// Its archive; `None` if it is not archived yet.
    pub archive: Option<Archive>,
}

/// Lists all versions that a rollback can return to. The one that was live last comes first.
///
/// # Errors
/// Fails if the volume or its archives cannot be listed.
pub fn archived(volume: &Volume) -> Result<Vec<Archived>> {
    let mut found: Vec<Archived> = Vec::new();
    // Versions are archived in the order in which they were live, so directories are the newest.
    for name in previous_versions(volume)?.into_iter().rev() {
        let Ok(published) = volume.published(&name) else { continue };
        if found.iter().all(|archived| archived.digest != published.digest) {
            found.push(Archived { digest: published.digest, name: Some(name), archive: None });
        }
    }
    let archives = Archives::find(volume)?;
    for archive in archives.map(|archives| archives.list()).transpose()?.unwrap_or_default() {
        match found.iter_mut().find(|archived| archived.digest == archive.digest) {
            Some(archived) => archived.archive = Some(archive),
            None => {
                found.push(Archived { digest: archive.digest, name: None, archive: Some(archive) });
            }
        }
    }
    Ok(found)
}

/// Finds the version whose digest begins with `wanted`; without `wanted`, the version before the live
/// one.
///
/// # Errors
/// Fails if there is no such version, or more than one; a configuration error that lists the versions.
pub fn choose(volume: &Volume, wanted: Option<&str>) -> Result<Hash> {
    let live = volume.live()?.and_then(|live| live.published).map(|published| published.digest);
    choose_among(&archived(volume)?, live, wanted)
}

fn choose_among(archived: &[Archived], live: Option<Hash>, wanted: Option<&str>) -> Result<Hash> {
    let earlier =
        || archived.iter().map(|archived| archived.digest).filter(|digest| Some(*digest) != live);
    let Some(wanted) = wanted else {
        return earlier().next().ok_or_else(|| misconfigured("no earlier version is kept"));
    };
    let digits = wanted.strip_prefix("sha256:").unwrap_or(wanted).to_ascii_lowercase();
    let shown = one_line(wanted.as_bytes());
    if digits.len() < MIN_DIGITS || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(misconfigured(format_args!(
            "`{shown}` is not the beginning of a digest: at least {MIN_DIGITS} hexadecimal digits"
        )));
    }
    let found: Vec<Hash> = earlier().chain(live).filter(|d| hex(d).starts_with(&digits)).collect();
    if let [digest] = found[..] {
        return Ok(digest);
    }
    let list = |digests: &mut dyn Iterator<Item = Hash>| {
        let spelt: Vec<String> = digests.map(|digest| hex(&digest)).collect();
        if spelt.is_empty() { "none".to_owned() } else { spelt.join(", ") }
    };
    Err(misconfigured(if found.is_empty() {
        format!("no version `{shown}` is kept; kept versions: {}", list(&mut earlier()))
    } else {
        format!("`{shown}` matches more than one version: {}", list(&mut found.into_iter()))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(first: u8, last: u8) -> Archived {
        let mut digest = [0xab; 32];
        (digest[0], digest[31]) = (first, last);
        Archived { digest, name: None, archive: None }
    }

    #[test]
    fn the_first_digits_of_a_digest_choose_a_version() {
        let archived = [version(1, 1), version(2, 2), version(2, 3), version(4, 4)];
        let live = Some(archived[3].digest);
        let chosen =
            |wanted| choose_among(&archived, live, wanted).map_err(|error| error.to_string());
        assert_eq!(chosen(None), Ok(archived[0].digest));
        assert_eq!(chosen(Some("01ab")), Ok(archived[0].digest));
        assert_eq!(chosen(Some("sha256:01AB")), Ok(archived[0].digest));
        assert_eq!(chosen(Some("04ab")), Ok(archived[3].digest));
        let whole = hex(&archived[2].digest);
        assert_eq!(choose_among(&archived, live, Some(&whole)).unwrap(), archived[2].digest);
        assert!(chosen(Some("02ab")).unwrap_err().contains("more than one"));
        assert!(chosen(Some("01a")).unwrap_err().contains("at least 4"));
        assert!(chosen(Some("01ag")).unwrap_err().contains("not the beginning"));
        let unknown = chosen(Some("0bad")).unwrap_err();
        assert!(unknown.contains(&hex(&archived[0].digest)), "{unknown}");
        assert!(!unknown.contains(&hex(&archived[3].digest)), "{unknown}");
        assert!(choose_among(&archived[3..], live, None).is_err());
    }
}
