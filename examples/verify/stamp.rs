//! What is written into a block, so that a read can tell which write it is of, and that all of it is of one write.
//!
//! A block is made of lines of 64 bytes. Each names the run, the block, the generation, the writer and its own place in
//! the block, and has a checksum over that, so that every byte of the block is checked and a torn block shows where.

use crate::content::{Content, Found};

pub(crate) const LINE: usize = 64;
const WORDS: usize = LINE / 8;
/// The word of a line that says which line of the block it is.
const PLACE: usize = 5;
/// "mpiovrfy" in memory.
const MAGIC: u64 = u64::from_le_bytes(*b"mpiovrfy");

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) run: u64,
    pub(crate) block: u64,
    pub(crate) generation: u64,
    /// Process and thread that wrote it: for the curious.
    pub(crate) writer: u64,
}

impl Stamp {
    /// Fills `bytes`, one block.
    pub(crate) fn put(self, bytes: &mut [u8]) {
        for (place, line) in (0..).zip(bytes.as_chunks_mut::<LINE>().0) {
            let words = self.words(place);
            for (piece, word) in line.as_chunks_mut::<8>().0.iter_mut().zip(words) {
                *piece = word.to_le_bytes();
            }
        }
    }

    fn words(self, place: u64) -> [u64; WORDS] {
        let Self { run, block, generation, writer } = self;
        let head = [MAGIC, run, block, generation, writer, place];
        let sum = checksum(&head);
        [MAGIC, run, block, generation, writer, place, sum, !sum]
    }

    /// The stamp of the line at `place` of a block, if it is intact.
    fn of(line: &[u8; LINE], place: u64) -> Option<Self> {
        let mut words = [0; WORDS];
        for (word, piece) in words.iter_mut().zip(line.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*piece);
        }
        let stamp = Self { run: words[1], block: words[2], generation: words[3], writer: words[4] };
        (words == stamp.words(place)).then_some(stamp)
    }
}

fn checksum(words: &[u64]) -> u64 {
    words.iter().fold(0x9e37_79b9_7f4a_7c15, |sum, word| {
        let mixed = (sum ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ mixed >> 29
    })
}

/// What `bytes`, read from block `block`, are to the run `run`.
pub(crate) fn read(bytes: &[u8], run: u64, block: u64) -> Found {
    let mut parts =
        (0..).zip(bytes.as_chunks::<LINE>().0).map(|(place, line)| match Stamp::of(line, place) {
            Some(stamp) if stamp.run == run && stamp.block == block => Content::Stamp(stamp.generation),
            None if line == &[0; LINE] => Content::Zero,
            _ => Content::Foreign,
        });
    let mut found = Found::whole(parts.next().unwrap_or(Content::Foreign));
    parts.for_each(|part| found.add(part));
    found
}

/// Whether `bytes` are a block that nobody misses: zeroes, or stamps of any run.
pub(crate) fn is_scratch(bytes: &[u8]) -> bool {
    // That run may have had blocks of another size, so a line may have any place.
    let place =
        |line: &[u8; LINE]| line.as_chunks::<8>().0.get(PLACE).map_or(0, |place| u64::from_le_bytes(*place));
    let mut lines = bytes.as_chunks::<LINE>().0.iter();
    lines.all(|line| line == &[0; LINE] || Stamp::of(line, place(line)).is_some())
}

/// What `bytes`, read from block `block`, are, in words.
pub(crate) fn describe(bytes: &[u8], run: u64, block: u64) -> String {
    let mut parts: Vec<(usize, String)> = Vec::new();
    for (place, line) in (0..).zip(bytes.as_chunks::<LINE>().0) {
        let words = match Stamp::of(line, place) {
            Some(stamp) => stamp.in_words(run, block),
            None if line == &[0; LINE] => "zeroes".to_owned(),
            None => "what verify did not write".to_owned(),
        };
        if parts.last().is_none_or(|(_, last)| *last != words) {
            let offset = usize::try_from(place).map_or(0, |place| place * LINE);
            parts.push((offset, words));
        }
    }
    match parts.as_slice() {
        [(_, whole)] => whole.clone(),
        parts => {
            let words: Vec<String> =
                parts.iter().take(4).map(|(at, part)| format!("{part} from byte {at}")).collect();
            let more = if parts.len() > 4 { ", ..." } else { "" };
            format!("{}{more}", words.join(", "))
        }
    }
}

impl Stamp {
    fn in_words(self, run: u64, block: u64) -> String {
        let Self { generation, writer, .. } = self;
        let mut words = format!("generation {generation} (writer {writer})");
        if self.block != block {
            words = format!("{words} of block {}", self.block);
        }
        if self.run != run {
            words.push_str(" of another run");
        }
        words
    }
}
