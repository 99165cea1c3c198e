//! Permission bits other than those of the source.

use crate::tree::Tree;

/// What to do with permission bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// Those of all files, instead of their own; directories can be entered by whoever may read
    /// files.
    pub all: Option<u16>,
    /// Everybody may read what there is.
    pub are_readable: bool,
}

impl Modes {
    /// Changes a tree.
    pub fn apply(self, tree: &mut Tree) {
        if self != Self::default() {
            tree.change_modes(|mode, is_directory| self.of(mode, is_directory));
        }
    }

    fn of(self, mode: u16, is_directory: bool) -> u16 {
        let mode = match self.all {
            Some(all) if is_directory => all | (all & 0o444) >> 2,
            Some(all) => all,
            None => mode,
        };
        match (self.are_readable, is_directory) {
            (true, true) => mode | 0o555,
            (true, false) => mode | 0o444,
            (false, _) => mode,
        }
    }
}

/// Permission bits in octal digits, as `chmod` takes them, without set-ID bits.
///
/// # Errors
/// What it is instead.
pub fn parse(text: &str) -> Result<u16, String> {
    match u16::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("not between 0 and 777, in octal digits".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_can_be_entered_by_whoever_may_read_files() {
        let modes = Modes { all: Some(0o640), are_readable: false };
        assert_eq!((modes.of(0o777, true), modes.of(0o755, false)), (0o750, 0o640));
        let modes = Modes { all: None, are_readable: true };
        assert_eq!((modes.of(0o700, true), modes.of(0o600, false)), (0o755, 0o644));
        let kept = Modes::default();
        assert_eq!((kept.of(0o700, true), kept.of(0o400, false)), (0o700, 0o400));
    }

    #[test]
    fn only_permission_bits_are_taken() {
        assert_eq!(parse("0640"), Ok(0o640));
        for text in ["4755", "8", "rw", "", "-1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
