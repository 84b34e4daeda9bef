//! The stanzas that were sent, or are to be sent, and that the peer has not acknowledged.

use crate::h::H;
use enjamb_stanza::Summary;
use std::collections::VecDeque;

/// A queue keeps this many bytes of room when it is emptied; most of what a burst needed beyond them is given back.
const KEPT_ROOM: usize = 512;

/// One stanza in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Its wire bytes, as TCP carries them and without a delay stamp.
    pub bytes: Box<[u8]>,
    /// When it was queued, in seconds since 1970.
    pub at: u64,
    /// What is known of it without parsing.
    pub summary: Summary,
}

/// Why an `h` cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// More than was sent (XEP-0198 §6, handled-count-too-high).
    #[error("You acknowledged {} stanzas, but I only sent you {} so far.", .h.0, .sent.0)]
    TooHigh {
        /// What the peer said.
        h: H,
        /// What was sent.
        sent: H,
    },
    /// Less than was acknowledged before.
    #[error("You acknowledged {} stanzas, but had acknowledged {} before.", .h.0, .acked.0)]
    TooLow {
        /// What the peer said.
        h: H,
        /// What it had said before.
        acked: H,
    },
}

/// Where the bytes of a queued stanza are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// In memory.
    Here(&'a Queued),
    /// Only where streams are kept.
    Stored,
}

/// A queue that is emptied from the front by acks. It allocates nothing until the first stanza.
///
/// The oldest stanzas may be stored: then the queue knows their number and lengths, and their bytes are only where
/// streams are kept. That is four bytes each.
#[derive(Debug, Default)]
pub struct Queue {
    stored: VecDeque<u32>,
    here: VecDeque<Queued>,
    acked: H,
    /// How many were ever dropped from the front: gives each stanza a number that never wraps.
    dropped: u64,
    bytes: usize,
    bytes_here: usize,
}

impl Queue {
    /// A queue whose peer has acknowledged `acked` stanzas.
    pub fn starting_at(acked: H) -> Queue {
        Queue { acked, ..Queue::default() }
    }

    /// A queue that was kept elsewhere and still is: `first` stanzas were acknowledged before, `acked` is what the
    /// peer last said, and the rest, from the oldest on, is as long as `stored` says.
    pub fn restored(first: u64, acked: H, stored: impl IntoIterator<Item = u32>) -> Queue {
        let stored: VecDeque<u32> = stored.into_iter().collect();
        let bytes = stored.iter().map(|&len| len as usize).sum();
        Queue { stored, acked, dropped: first, bytes, ..Queue::default() }
    }

    /// Appends a stanza; it counts as sent.
    pub fn push(&mut self, stanza: Queued) {
        self.bytes += stanza.bytes.len();
        self.bytes_here += stanza.bytes.len();
        self.here.push_back(stanza);
    }

    /// Appends a stanza of that length that is stored, as all before it are; it counts as sent.
    pub fn push_stored(&mut self, len: usize) {
        if !self.here.is_empty() {
            self.release(self.end());
        }
        self.bytes += len;
        self.stored.push_back(u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// Gives up the bytes of all stanzas before number `end`, which are stored. Does nothing for those that are gone
    /// or stored already.
    pub fn release(&mut self, end: u64) {
        let n = usize::try_from(end.saturating_sub(self.first_here())).unwrap_or(usize::MAX);
        for stanza in self.here.drain(..n.min(self.here.len())) {
            self.bytes_here -= stanza.bytes.len();
            self.stored.push_back(u32::try_from(stanza.bytes.len()).unwrap_or(u32::MAX));
        }
        if n > 0 {
            shrink(&mut self.here);
        }
    }

    /// How many stanzas an ack of `h` would cover that none has covered before, if the first `sent` have been sent.
    ///
    /// # Errors
    /// If `h` is not between what was acknowledged and what was sent. It is too low if it was true once, else it is
    /// too high: modulo 2^32 there is no other difference.
    pub(crate) fn covered_by(&self, h: H, sent: usize) -> Result<usize, AckError> {
        let n = h.since(self.acked);
        if n as usize <= sent {
            Ok(n as usize)
        } else if u64::from(self.acked.since(h)) <= self.dropped {
            Err(AckError::TooLow { h, acked: self.acked })
        } else {
            Err(AckError::TooHigh { h, sent: self.acked.plus(sent) })
        }
    }

    /// Drops the first `n` stanzas, or all if there are fewer: the peer has them and says `h`.
    pub(crate) fn ack_first(&mut self, n: usize, h: H) {
        let n = n.min(self.len());
        let stored = n.min(self.stored.len());
        self.bytes -= self.stored.range(..stored).map(|&len| len as usize).sum::<usize>();
        self.stored.drain(..stored);
        let bytes_here: usize = self.here.drain(..n - stored).map(|s| s.bytes.len()).sum();
        self.bytes -= bytes_here;
        self.bytes_here -= bytes_here;
        self.dropped += n as u64;
        self.acked = h;
        shrink(&mut self.stored);
        shrink(&mut self.here);
    }

    /// How many stanzas are unacknowledged.
    pub fn len(&self) -> usize {
        self.stored.len() + self.here.len()
    }

    /// Whether the peer has acknowledged everything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sum of the stanzas' lengths.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The sum of the lengths of those that are in memory.
    pub fn bytes_here(&self) -> usize {
        self.bytes_here
    }

    /// The last `h` that the peer gave.
    pub fn acked(&self) -> H {
        self.acked
    }

    /// The `h` that the peer will give when it has everything.
    pub fn sent(&self) -> H {
        self.acked.plus(self.len())
    }

    /// The number of the first stanza in the queue, counted from the stream's first one and never wrapping.
    pub fn first(&self) -> u64 {
        self.dropped
    }

    /// The number of the first stanza that is in memory, or would be.
    pub fn first_here(&self) -> u64 {
        self.dropped + self.stored.len() as u64
    }

    /// The number that the next stanza will have.
    pub fn end(&self) -> u64 {
        self.dropped + self.len() as u64
    }

    /// The stanza with that number, if it is still queued.
    pub fn get(&self, number: u64) -> Option<Place<'_>> {
        let index = usize::try_from(number.checked_sub(self.dropped)?).ok()?;
        match index.checked_sub(self.stored.len()) {
            None => Some(Place::Stored),
            Some(index) => self.here.get(index).map(Place::Here),
        }
    }
}

/// Gives back what a burst needed: at once when nothing is left to be moved, else not before it is mostly unused.
fn shrink<T>(queue: &mut VecDeque<T>) {
    let kept = KEPT_ROOM / size_of::<T>();
    match queue.capacity() {
        room if room <= kept => {}
        _ if queue.is_empty() => *queue = VecDeque::new(),
        room if queue.len() < room / 8 => queue.shrink_to(kept.max(queue.len() * 2)),
        _ => {}
    }
}
