//! When entries on a volume were changed last (ctime), which no program can set.

use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, StatxFlags, statx};

/// When an entry was changed last: seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeTime {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds.
    pub nanoseconds: u32,
}

impl ChangeTime {
    /// The change time of an entry; `None` if it cannot be read.
    pub fn of(directory: impl AsFd, name: &str) -> Option<Self> {
        let stat = statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::CTIME).ok()?;
        Some(Self { seconds: stat.stx_ctime.tv_sec, nanoseconds: stat.stx_ctime.tv_nsec })
    }
}

/// The time since an entry was changed; `None` if the clock was set back since.
pub fn age(directory: impl AsFd, name: &str) -> Option<Duration> {
    let ChangeTime { seconds, nanoseconds } = ChangeTime::of(directory, name)?;
    let since = Duration::new(u64::try_from(seconds).ok()?, nanoseconds);
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + since).ok()
}
