//! The listings to resolve.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use e2e::USERS;

/// Pairs of the large listing.
const PAIRS: usize = 10_000_000;
/// Distinct UIDs of the small listing.
const UIDS: u32 = 20_000;

/// UIDs of a directory with this many entries, evenly spread.
pub fn some_uids(entries: u32) -> Vec<u32> {
    (0..UIDS).map(|number| 100_000 + number * (entries / UIDS)).collect()
}

/// Makes the listings in `dir` if they do not exist: a small one with one path for each of `uids`, and a
/// large one with five owners. Returns their names.
pub fn ready(dir: &Path, uids: &[u32]) -> io::Result<[String; 2]> {
    fs::create_dir_all(dir)?;
    let owners = uids.iter().map(|&uid| (format!("/home/user-{uid}"), uid));
    let number = |n: usize| {
        let (project, run) = (n / 50_000 % 200, n / 64);
        let path = format!(
            "/srv/projects/p{project:03}/data/measurements/run-{run:07}/results/sample-{n:08}/raw/channel-1"
        );
        (path, USERS[n / 8 % USERS.len()].0)
    };
    let listings = ["owners.json", "pairs.json"];
    write_listing(&dir.join(listings[0]), owners)?;
    write_listing(&dir.join(listings[1]), (0..PAIRS).map(number))?;
    Ok(listings.map(str::to_owned))
}

fn write_listing(path: &Path, pairs: impl Iterator<Item = (String, u32)>) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let unfinished = path.with_extension("new");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&unfinished)?);
    let mut separator = "{\n  ";
    for (path, uid) in pairs {
        write!(out, "{separator}\"{path}\": {uid}")?;
        separator = ",\n  ";
    }
    out.write_all(b"\n}\n")?;
    out.flush()?;
    fs::rename(unfinished, path)
}
