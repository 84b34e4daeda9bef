//! What the owner may choose.

use std::time::Duration;

/// Sizes, in bytes, and one time. The defaults suit a server of ten thousand sessions as well as one of ten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// A segment is sealed when it would grow past this; at most 1 GiB counts.
    pub segment_bytes: u64,
    /// Records are passed to the operating system without a commit when this many bytes wait.
    pub buffer_bytes: usize,
    /// While nothing can be written this many bytes may wait in memory, then appending fails with
    /// [`Error::Full`](crate::Error::Full); at most 1 GiB counts, and at least `buffer_bytes`.
    pub waiting_bytes: usize,
    /// Dead bytes that are always tolerated on disk. Beyond them as many may be dead as are live.
    pub garbage_floor: u64,
    /// How much of a segment one commit looks through while collecting garbage. More only if what was appended since
    /// the last commit is more than a quarter of it: collection has to be faster than appending.
    pub collect_step: usize,
    /// When the first stanza or description in a segment has been of no more use for this long, the segment is
    /// collected, however little in it is dead. It is gone at most three minutes later if [`Journal::tick`] and
    /// [`Journal::commit`] are called once a second and the disk works; each byte that is still needed is copied at
    /// most once in this time.
    ///
    /// [`Journal::tick`]: crate::Journal::tick
    /// [`Journal::commit`]: crate::Journal::commit
    pub dead_age: Duration,
}

/// Offsets in a segment are 32 bits wide. A segment may outgrow its size by what waits while the disk is full.
const LARGEST: u64 = 1 << 30;

impl Config {
    /// The same, within the bounds that the format needs.
    pub(crate) fn bounded(mut self) -> Config {
        self.segment_bytes = self.segment_bytes.min(LARGEST);
        self.buffer_bytes = self.buffer_bytes.min(LARGEST as usize);
        self.waiting_bytes = self.waiting_bytes.clamp(self.buffer_bytes, LARGEST as usize);
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            segment_bytes: 8 << 20,
            buffer_bytes: 256 << 10,
            waiting_bytes: 16 << 20,
            garbage_floor: 16 << 20,
            collect_step: 16 << 10,
            dead_age: Duration::from_secs(7 * 60),
        }
    }
}
