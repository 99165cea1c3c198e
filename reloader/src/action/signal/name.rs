//! Parses the names of signals (`HUP`, `SIGHUP`, `1`), and knows their default effects.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use diagnostics::wording::one_line;
use rustix::process::Signal;

/// The signals of Linux in the order of their numbers on x86-64 and arm64 (signal(7)).
const NAMES: [(&str, Signal); 31] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("ILL", Signal::ILL),
    ("TRAP", Signal::TRAP),
    ("ABRT", Signal::ABORT),
    ("BUS", Signal::BUS),
    ("FPE", Signal::FPE),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("SEGV", Signal::SEGV),
    ("USR2", Signal::USR2),
    ("PIPE", Signal::PIPE),
    ("ALRM", Signal::ALARM),
    ("TERM", Signal::TERM),
    ("STKFLT", Signal::STKFLT),
    ("CHLD", Signal::CHILD),
    ("CONT", Signal::CONT),
    ("STOP", Signal::STOP),
    ("TSTP", Signal::TSTP),
    ("TTIN", Signal::TTIN),
    ("TTOU", Signal::TTOU),
    ("URG", Signal::URG),
    ("XCPU", Signal::XCPU),
    ("XFSZ", Signal::XFSZ),
    ("VTALRM", Signal::VTALARM),
    ("PROF", Signal::PROF),
    ("WINCH", Signal::WINCH),
    ("IO", Signal::IO),
    ("PWR", Signal::POWER),
    ("SYS", Signal::SYS),
];

/// A signal that a process can have a handler for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalName(Signal);

impl SignalName {
    /// Most programs read their configuration again on this signal.
    pub const HUP: Self = Self(Signal::HUP);

    /// The signal itself.
    pub fn signal(self) -> Signal {
        self.0
    }

    /// Whether a process without a handler survives it.
    pub fn is_harmless(self) -> bool {
        matches!(self.0, Signal::CHILD | Signal::CONT | Signal::URG | Signal::WINCH)
    }

    /// Whether it asks a process to end.
    pub fn asks_to_end(self) -> bool {
        matches!(self.0, Signal::INT | Signal::QUIT | Signal::TERM)
    }
}

/// Parses `HUP` or `SIGHUP` in any case, or `1`.
impl FromStr for SignalName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let named = NAMES.iter().find(|(known, signal)| {
            *known == name || name.parse().is_ok_and(|number: i32| number == signal.as_raw())
        });
        let text = one_line(text.as_bytes());
        match named {
            Some((name, Signal::KILL | Signal::STOP)) => {
                bail!("`{text}` cannot be sent: no process can handle {name}")
            }
            Some((_, signal)) => Ok(Self(*signal)),
            None => {
                bail!("`{text}` is not a signal, which is a name such as HUP or a number up to 31")
            }
        }
    }
}

/// Prints `HUP`.
impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, signal)| *signal == self.0).map(|(name, _)| name);
        f.write_str(name.copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for spelt in ["HUP", "SIGHUP", "hup", "sighup", "1", "01"] {
            assert_eq!(spelt.parse::<SignalName>().unwrap(), SignalName::HUP);
        }
        for (name, signal) in NAMES {
            if let Ok(parsed) = name.parse::<SignalName>() {
                assert_eq!((parsed.signal(), parsed.to_string()), (signal, name.to_owned()));
            }
        }
    }

    #[test]
    fn signals_that_no_process_can_handle_are_refused() {
        for bad in ["KILL", "sigkill", "9", "STOP", "19"] {
            let error = bad.parse::<SignalName>().unwrap_err().to_string();
            assert!(error.contains("no process can handle"), "{error}");
        }
        for bad in ["", "SIG", "0", "-1", "34", "64", "RTMIN", "HUP\n", "SIGSIGHUP", "99999999999"]
        {
            assert!(bad.parse::<SignalName>().is_err(), "{bad}");
        }
    }
}
