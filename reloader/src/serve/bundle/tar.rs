//! The headers of a tar archive: the ustar format, and a pax record before a file whose path is too
//! long for it (POSIX.1-2017, pax).

/// Headers and content are padded to this many bytes.
const BLOCK: usize = 512;
/// The longest path that a ustar header holds.
const MAX_NAME: usize = 100;
/// The largest size that eleven octal digits hold.
const MAX_SIZE: u64 = (1 << 33) - 1;

/// Two empty blocks end an archive.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// What stands before the content of a file; `None` if the file is 8 GiB or larger.
pub fn header(path: &[u8], size: u64) -> Option<Vec<u8>> {
    if size > MAX_SIZE {
        return None;
    }
    let mut header = Vec::with_capacity(BLOCK);
    if path.len() > MAX_NAME {
        let record = pax_record(b"path", path);
        header.extend(block(b"pax", record.len() as u64, b'x'));
        header.extend(&record);
        header.extend(padding(record.len() as u64));
    }
    header.extend(block(&path[..path.len().min(MAX_NAME)], size, b'0'));
    Some(header)
}

/// What stands after content of this size.
pub fn padding(size: u64) -> &'static [u8] {
    let last = (size % BLOCK as u64) as usize;
    &END[..(BLOCK - last) % BLOCK]
}

/// A header block of ustar. Owner, group and time are zero.
fn block(name: &[u8], size: u64, kind: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name);
    let mut put =
        |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    // The checksum counts itself as spaces.
    put(148, "        ");
    put(257, "ustar\x0000");
    block[156] = kind;
    let checksum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{checksum:06o}\0 ").as_bytes());
    block
}

/// A record `LENGTH KEY=VALUE` and a newline. The length counts its own digits.
fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let digits = |length: usize| length.to_string().len();
    let length = rest + digits(rest + digits(rest));
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn tar_reads_names_and_sizes() {
        // The lengths of pax records on both sides of one more digit.
        let long = (80..120).chain(980..1000).map(|length| "a".repeat(length));
        let names: Vec<String> = [".manifest", "dir/b.rego", "\u{e4}"]
            .map(str::to_owned)
            .into_iter()
            .chain(long)
            .collect();
        let mut archive = Vec::new();
        for (size, name) in names.iter().enumerate() {
            archive.extend(header(name.as_bytes(), size as u64).unwrap());
            archive.extend(vec![b'x'; size]);
            archive.extend(padding(size as u64));
        }
        archive.extend(END);
        let mut tar = Command::new("tar");
        tar.args(["--list", "--verbose", "--quoting-style=literal"]);
        let mut tar = tar.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = tar.stdin.take().unwrap();
        let feed = std::thread::spawn(move || stdin.write_all(&archive));
        let output = tar.wait_with_output().unwrap();
        feed.join().unwrap().unwrap();
        assert!(output.status.success());
        let listed = String::from_utf8(output.stdout).unwrap();
        let listed: Vec<_> = listed
            .lines()
            .map(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                (words[2].parse().unwrap(), words[5].to_owned())
            })
            .collect();
        assert_eq!(listed, names.into_iter().enumerate().collect::<Vec<(usize, String)>>());
    }

    #[test]
    fn a_size_that_does_not_fit_is_refused() {
        assert!(header(b"a", MAX_SIZE).is_some());
        assert!(header(b"a", MAX_SIZE + 1).is_none());
    }
}
