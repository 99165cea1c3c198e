//! Changes the permission bits of a source's tree before it is published (`--mode`, `--readable`).

use published_tree::tree::Tree;

/// How to change permission bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// The mode of all files. Directories get it too, with execute permission wherever there is read
    /// permission.
    pub all: Option<u16>,
    /// Add read permission for all users.
    pub readable: bool,
}

impl Modes {
    /// Changes the modes of a tree.
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
        match (self.readable, is_directory) {
            (true, true) => mode | 0o555,
            (true, false) => mode | 0o444,
            (false, _) => mode,
        }
    }
}

/// Parses permission bits in octal, as for `chmod`, without set-ID bits.
///
/// # Errors
/// Returns the expected form.
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
    fn directories_get_execute_permission_with_read_permission() {
        let modes = Modes { all: Some(0o640), readable: false };
        assert_eq!((modes.of(0o777, true), modes.of(0o755, false)), (0o750, 0o640));
        let modes = Modes { all: None, readable: true };
        assert_eq!((modes.of(0o700, true), modes.of(0o600, false)), (0o755, 0o644));
        let unchanged = Modes::default();
        assert_eq!((unchanged.of(0o700, true), unchanged.of(0o400, false)), (0o700, 0o400));
    }

    #[test]
    fn only_permission_bits_are_accepted() {
        assert_eq!(parse("0640"), Ok(0o640));
        for text in ["4755", "8", "rw", "", "-1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
