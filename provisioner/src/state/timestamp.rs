//! Formats points in time as in RFC 3339, in UTC, to the second.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY: u64 = 24 * 60 * 60;

/// Formats a point in time, as in `2026-11-22T23:34:24Z`. Times before 1970 become its first second.
pub fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (year, month, day) = date(seconds / DAY);
    let of_day = seconds % DAY;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a number of days since 1970. The calculation uses years that begin in March,
/// so that the leap day is their last day (<https://howardhinnant.github.io/date_algorithms.html#civil_from_days>).
fn date(days: u64) -> (u64, u64, u64) {
    // Days since 0000-03-01. An era of 400 years has 146,097 days.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, is_next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + is_next, month, day)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_formatted_as_date_formats_them() {
        let mut seconds: Vec<u64> = vec![0, 951_782_399, 951_868_800, 1_795_390_464, 4_107_542_400];
        // The last second of many days.
        seconds.extend((1..60_000).step_by(397).map(|day| day * DAY - 1));
        for at in seconds {
            let printed = Command::new("date")
                .args(["-u", &format!("-d@{at}"), "+%Y-%m-%dT%H:%M:%SZ"])
                .output()
                .unwrap();
            let printed = String::from_utf8(printed.stdout).unwrap();
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(at)), printed.trim_end());
        }
    }
}
