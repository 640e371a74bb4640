//! Which pages of the key/value cache hold which sequence: bookkeeping that executors share, without the pages themselves.
//!
//! A page holds the keys and values of [`PAGE`] positions. Sequences with the same beginning share its pages; one that
//! writes into a shared page gets a copy first. Pages are numbered from 0 and are numbered again when nobody holds them,
//! so that memory grows with the longest text there was, not with sequences times context. For a GPU the table is words:
//! `[sequence][page]`.

use crate::index::{Position, SequenceIndex};

/// Positions of one page.
pub const PAGE: usize = 64;

/// The work to do before a position is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// Number of the page that takes the position.
    pub page: u32,
    /// The page whose contents the new one begins with.
    pub copy_of: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct PageTable {
    /// Numbers of pages, `[sequence][page]`.
    sequences: Vec<Vec<u32>>,
    /// How many sequences hold each page.
    holders: Vec<u32>,
    /// Pages that nobody holds.
    free: Vec<u32>,
}

impl PageTable {
    pub fn new(sequences: usize) -> Self {
        Self {
            sequences: vec![Vec::new(); sequences],
            holders: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Pages that were ever numbered: what a pool must have room for.
    pub fn pool(&self) -> usize {
        self.holders.len()
    }

    /// The pages of a sequence, first positions first.
    pub fn pages(&self, sequence: SequenceIndex) -> &[u32] {
        &self.sequences[sequence.index()]
    }

    /// The page that holds `position` of a sequence.
    pub fn page(&self, sequence: SequenceIndex, position: Position) -> u32 {
        self.sequences[sequence.index()][position.0 as usize / PAGE]
    }

    /// Makes the page of `position` the sequence's own and its last. Positions are written in order, so that pages after
    /// it hold what is no longer part of the sequence.
    pub fn write(&mut self, sequence: SequenceIndex, position: Position) -> Write {
        let index = position.0 as usize / PAGE;
        self.truncate(sequence, (index + 1) * PAGE);
        while self.pages(sequence).len() < index {
            let page = self.take();
            self.sequences[sequence.index()].push(page);
        }
        let held = self.pages(sequence).get(index).copied();
        let copy_of = match held {
            Some(page) if self.holders[page as usize] == 1 => {
                return Write {
                    page,
                    copy_of: None,
                };
            }
            // The first position of a page needs nothing of what was there.
            Some(shared) => (!(position.0 as usize).is_multiple_of(PAGE)).then_some(shared),
            None => None,
        };
        let page = self.take();
        let pages = &mut self.sequences[sequence.index()];
        match held {
            Some(shared) => {
                pages[index] = page;
                self.holders[shared as usize] -= 1;
            }
            None => pages.push(page),
        }
        Write { page, copy_of }
    }

    /// Keeps the pages of the first `length` positions.
    pub fn truncate(&mut self, sequence: SequenceIndex, length: usize) {
        let pages = &mut self.sequences[sequence.index()];
        let kept = length.div_ceil(PAGE).min(pages.len());
        for page in pages.split_off(kept) {
            self.holders[page as usize] -= 1;
            if self.holders[page as usize] == 0 {
                self.free.push(page);
            }
        }
    }

    /// Makes `to` begin with the first `length` positions of `from`, which costs no copy.
    pub fn fork(&mut self, from: SequenceIndex, to: SequenceIndex, length: usize) {
        if from == to {
            return self.truncate(to, length);
        }
        self.truncate(to, 0);
        let mut pages = self.pages(from).to_vec();
        pages.truncate(length.div_ceil(PAGE));
        for page in &pages {
            self.holders[*page as usize] += 1;
        }
        self.sequences[to.index()] = pages;
    }

    /// A page that nobody holds, now held once.
    fn take(&mut self) -> u32 {
        let page = self.free.pop().unwrap_or_else(|| {
            self.holders.push(0);
            self.holders.len() as u32 - 1
        });
        self.holders[page as usize] = 1;
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: SequenceIndex = SequenceIndex(0);
    const SECOND: SequenceIndex = SequenceIndex(1);

    fn fill(table: &mut PageTable, sequence: SequenceIndex, positions: std::ops::Range<u32>) {
        for position in positions {
            assert_eq!(table.write(sequence, Position(position)).copy_of, None);
        }
    }

    #[test]
    fn a_fork_shares_pages_until_it_writes_into_one() {
        let mut table = PageTable::new(2);
        fill(&mut table, FIRST, 0..100);
        table.fork(FIRST, SECOND, 100);
        assert_eq!((table.pages(FIRST), table.pool()), (&[0, 1][..], 2));
        assert_eq!(table.pages(SECOND), [0, 1]);
        let write = table.write(SECOND, Position(100));
        assert_eq!((write.page, write.copy_of), (2, Some(1)));
        assert_eq!(table.pages(SECOND), [0, 2]);
        // The first's page is its own again.
        assert_eq!(table.write(FIRST, Position(100)).copy_of, None);
    }

    #[test]
    fn memory_follows_the_text_and_not_the_sequences() {
        let mut table = PageTable::new(8);
        fill(&mut table, FIRST, 0..640);
        for sequence in 1..8 {
            table.fork(FIRST, SequenceIndex(sequence), 640);
        }
        assert_eq!(table.pool(), 10);
        table.truncate(FIRST, 0);
        fill(&mut table, FIRST, 0..64);
        assert_eq!(table.pool(), 11, "the others still hold theirs");
        for sequence in 1..8 {
            table.truncate(SequenceIndex(sequence), 0);
        }
        fill(&mut table, SECOND, 0..640);
        assert_eq!(table.pool(), 11, "pages are numbered again");
    }

    proptest! {
        /// Whatever is written, forked and shortened: what a sequence was given lies in its pages, and nobody overwrote it.
        #[test]
        fn no_sequence_sees_what_another_writes(
            steps in prop::collection::vec((0_u32..3, 0_u32..3, 0_usize..200, any::<bool>()), 1..40),
        ) {
            let mut table = PageTable::new(3);
            let mut pool: Vec<Vec<u32>> = Vec::new();
            let mut texts = vec![Vec::<u32>::new(); 3];
            let mut token = 0;
            for (from, to, length, forks) in steps {
                let (at, sequence) = (to as usize, SequenceIndex(to));
                if forks {
                    let length = length.min(texts[from as usize].len());
                    texts[at] = texts[from as usize][..length].to_vec();
                    table.fork(SequenceIndex(from), sequence, length);
                } else {
                    texts[at].truncate(length);
                    for _ in 0..length % 80 {
                        let position = Position(texts[at].len() as u32);
                        let write = table.write(sequence, position);
                        pool.resize(table.pool(), vec![u32::MAX; PAGE]);
                        if let Some(copied) = write.copy_of {
                            pool[write.page as usize] = pool[copied as usize].clone();
                        }
                        token += 1;
                        pool[write.page as usize][position.0 as usize % PAGE] = token;
                        texts[at].push(token);
                    }
                }
                for (index, text) in texts.iter().enumerate() {
                    for (position, want) in text.iter().enumerate() {
                        let page = table.page(SequenceIndex(index as u32), Position(position as u32));
                        prop_assert_eq!(pool[page as usize][position % PAGE], *want);
                    }
                }
            }
        }
    }
}
