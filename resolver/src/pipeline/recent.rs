//! A direct-mapped cache in front of a hash map. Neighbouring paths have few owners, so most UIDs are
//! found here without hashing.

/// How many UIDs the cache holds.
const SLOTS: usize = 256;

/// The last value for each UID, one slot for all UIDs with the same lowest bits.
pub struct RecentUids<T> {
    slots: Box<[Option<(u32, T)>; SLOTS]>,
}

impl<T: Copy> Default for RecentUids<T> {
    fn default() -> Self {
        Self { slots: Box::new([None; SLOTS]) }
    }
}

impl<T: Copy> RecentUids<T> {
    /// The value of a UID, unless another UID has taken its slot since.
    #[inline]
    pub fn get(&self, uid: u32) -> Option<T> {
        match self.slots[uid as usize % SLOTS] {
            Some((recent, value)) if recent == uid => Some(value),
            _ => None,
        }
    }

    /// Sets the value of a UID.
    #[inline]
    pub fn set(&mut self, uid: u32, value: T) {
        self.slots[uid as usize % SLOTS] = Some((uid, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_found_until_another_takes_its_slot() {
        let mut recent = RecentUids::default();
        assert_eq!(recent.get(0), None);
        recent.set(7, 'a');
        recent.set(8, 'b');
        assert_eq!((recent.get(7), recent.get(8)), (Some('a'), Some('b')));
        recent.set(7 + SLOTS as u32, 'c');
        assert_eq!((recent.get(7), recent.get(7 + SLOTS as u32)), (None, Some('c')));
    }
}
