//! Parses `stat` and `status` of a process as proc(5) describes them.

use std::io::{self, ErrorKind};
use std::str::FromStr;

use super::{Signals, Users};

/// The fields of `stat` that are used.
#[derive(Debug, PartialEq, Eq)]
pub struct Stat {
    pub name: Vec<u8>,
    pub state: u8,
    pub parent: u32,
    pub faults_of_children: u64,
    pub start: u64,
}

/// The fields of `status` that are used.
#[derive(Debug, PartialEq, Eq)]
pub struct Status {
    /// The id of the process, whose thread this may be.
    pub leader: u32,
    pub users: Users,
    pub signals: Signals,
}

impl Stat {
    /// Parses `pid (name) state parent ...`. The name may hold any byte; the last parenthesis ends
    /// it.
    pub fn parse(stat: &[u8]) -> io::Result<Self> {
        let open = stat.iter().position(|&byte| byte == b'(');
        let close = stat.iter().rposition(|&byte| byte == b')');
        let (Some(open), Some(close)) = (open, close) else { return Err(unknown("stat")) };
        let rest = std::str::from_utf8(&stat[close + 1..]).map_err(|_| unknown("stat"))?;
        let fields: Vec<_> = rest.split_ascii_whitespace().collect();
        // By its number in proc(5), where the state is field 3.
        let field = |number: usize| fields.get(number - 3).copied().ok_or_else(|| unknown("stat"));
        Ok(Self {
            name: stat.get(open + 1..close).ok_or_else(|| unknown("stat"))?.to_vec(),
            state: field(3)?.bytes().next().unwrap_or_default(),
            parent: number(field(4)?)?,
            faults_of_children: number(field(11)?)?,
            start: number(field(22)?)?,
        })
    }
}

impl Status {
    /// Parses lines of `Key:\tvalue`. One has the name of the program, with newlines escaped.
    pub fn parse(status: &[u8]) -> io::Result<Self> {
        let value = |key: &str| {
            let mut lines = status.split(|&byte| byte == b'\n');
            let value =
                lines.find_map(|line| line.strip_prefix(key.as_bytes())?.strip_prefix(b":"));
            let value = value.and_then(|value| std::str::from_utf8(value).ok());
            value.ok_or_else(|| {
                io::Error::new(ErrorKind::Unsupported, format!("no {key} in status"))
            })
        };
        let mask = |key| u64::from_str_radix(value(key)?.trim(), 16).map_err(|_| unknown("status"));
        let users = value("Uid")?.split_ascii_whitespace().map(number);
        let [real, effective, saved, _] = users.collect::<io::Result<Vec<u32>>>()?[..] else {
            return Err(unknown("status"));
        };
        Ok(Self {
            leader: number(value("Tgid")?.trim())?,
            users: Users { real, effective, saved },
            signals: Signals {
                pending: mask("SigPnd")? | mask("ShdPnd")?,
                blocked: mask("SigBlk")?,
                ignored: mask("SigIgn")?,
                caught: mask("SigCgt")?,
            },
        })
    }
}

fn number<N: FromStr>(text: &str) -> io::Result<N> {
    text.parse().map_err(|_| unknown("a number in it"))
}

fn unknown(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{what} is not as proc(5) has it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: &str = "S 7 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";

    #[test]
    fn a_name_may_hold_any_byte() {
        for name in ["nginx", "a) S 1 (b", ") ", "\n", "((", ""] {
            let stat = Stat::parse(format!("42 ({name}) {AFTER}\n").as_bytes()).unwrap();
            let expected = Stat {
                name: name.as_bytes().to_vec(),
                state: b'S',
                parent: 7,
                faults_of_children: 2,
                start: 987_654,
            };
            assert_eq!(stat, expected);
        }
        for bad in ["", "42", "42 (x", "42 x)", ")(", "42 (x) S 7", "42 (x) S y"] {
            assert!(Stat::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_cannot_fake_another_line() {
        let status =
            b"Name:\tx\\nUid:\t0\nTgid:\t42\nUid:\t1\t2\t3\t4\nSigPnd:\t0000000000000001\n\
            ShdPnd:\t0000000000000002\nSigBlk:\t0000000000000004\nSigIgn:\t0000000000000008\n\
            SigCgt:\t8000000000000010\n";
        let expected = Status {
            leader: 42,
            users: Users { real: 1, effective: 2, saved: 3 },
            signals: Signals { pending: 3, blocked: 4, ignored: 8, caught: (1 << 63) | 16 },
        };
        assert_eq!(Status::parse(status).unwrap(), expected);
        let gvisor = Status::parse(b"Name:\tx\nTgid:\t1\nUid:\t0\t0\t0\t0\n").unwrap_err();
        assert_eq!(gvisor.to_string(), "no SigPnd in status");
    }
}
