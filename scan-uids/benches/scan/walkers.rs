//! The walkers that are libraries: `walkdir` and `ignore`, used to print the owner and path of each
//! directory or entry, as scan-uids does.

use std::fs::Metadata;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ignore::{WalkBuilder, WalkState};

/// Walks with `walkdir`, in one thread.
pub fn walkdir(root: &Path, entries: bool) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(128 * 1024, io::stdout());
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry?;
        if entries || entry.file_type().is_dir() {
            print(&mut out, entry.path(), &entry.metadata()?)?;
        }
    }
    out.flush()
}

/// Walks with `ignore` in two threads, with nothing ignored.
pub fn ignore(root: &Path, entries: bool) {
    let walk = WalkBuilder::new(root).standard_filters(false).threads(2).build_parallel();
    walk.run(|| {
        let mut out = BufWriter::with_capacity(128 * 1024, io::stdout());
        Box::new(move |entry| {
            let entry = entry.expect("readable");
            if entries || entry.file_type().is_some_and(|kind| kind.is_dir()) {
                let metadata = entry.metadata().expect("there");
                print(&mut out, entry.path(), &metadata).expect("stdout");
            }
            WalkState::Continue
        })
    });
}

fn print(out: &mut impl Write, path: &Path, metadata: &Metadata) -> io::Result<()> {
    write!(out, "{} ", metadata.uid())?;
    out.write_all(path.as_os_str().as_bytes())?;
    out.write_all(b"\n")
}
