//! A block of pairs, the unit that the reader hands to the writer: the keys and UIDs of many pairs in
//! three buffers, which are reused.

/// Most memory, in bytes, that the keys of a block may occupy for it to be reused.
const MAX_REUSED: usize = 1024 * 1024;

/// A block of pairs in input order.
#[derive(Debug, Default)]
pub struct PairBlock {
    /// All keys as the input spells them, quotes included, without anything between them.
    pub keys: Vec<u8>,
    /// All UIDs.
    pub uids: Vec<u32>,
    ends: Vec<PairEnd>,
}

/// Where a pair ends in its block.
#[derive(Clone, Copy, Debug)]
struct PairEnd {
    key: usize,
    uids: usize,
    is_array: bool,
}

/// One pair of a block.
#[derive(Debug, PartialEq, Eq)]
pub struct Pair<'b> {
    /// The key as the input spells it.
    pub key: &'b [u8],
    /// Its UIDs.
    pub uids: &'b [u32],
    /// Whether the input gave the UIDs as an array.
    pub is_array: bool,
}

impl PairBlock {
    /// Makes a pair of the keys and UIDs that were added since the last call.
    pub fn end_pair(&mut self, is_array: bool) {
        self.ends.push(PairEnd { key: self.keys.len(), uids: self.uids.len(), is_array });
    }

    /// Whether the block has no pair.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All pairs.
    pub fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        let (mut key, mut uids) = (0, 0);
        self.ends.iter().map(move |end| {
            let pair = Pair {
                key: &self.keys[key..end.key],
                uids: &self.uids[uids..end.uids],
                is_array: end.is_array,
            };
            (key, uids) = (end.key, end.uids);
            pair
        })
    }

    /// The size of the content in bytes.
    pub fn size(&self) -> usize {
        self.keys.len() + self.ends.len() * size_of::<PairEnd>() + self.uids.len() * 4
    }

    /// The block without its pairs; `None` if a huge pair has made its buffers too large to keep.
    pub fn into_empty(mut self) -> Option<Self> {
        self.keys.clear();
        self.uids.clear();
        self.ends.clear();
        (self.keys.capacity() <= MAX_REUSED).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> PairBlock {
        let mut block = PairBlock::default();
        for (key, uids, is_array) in [("\"a\"", &[7][..], false), ("\"b\"", &[], true)] {
            block.keys.extend_from_slice(key.as_bytes());
            block.uids.extend_from_slice(uids);
            block.end_pair(is_array);
        }
        block
    }

    #[test]
    fn pairs_come_out_as_they_went_in() {
        let block = block();
        let expected = [
            Pair { key: b"\"a\"", uids: &[7], is_array: false },
            Pair { key: b"\"b\"", uids: &[], is_array: true },
        ];
        assert_eq!(block.pairs().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_emptied_block_is_reused_unless_it_is_huge() {
        let empty = block().into_empty().expect("a small block");
        assert!(empty.is_empty() && empty.size() == 0);
        let mut huge = block();
        huge.keys.resize(MAX_REUSED + 1, b'a');
        assert!(huge.into_empty().is_none());
    }
}
