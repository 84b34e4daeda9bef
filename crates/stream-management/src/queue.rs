//! The stanzas that were sent, or are to be sent, and that the peer has not acknowledged.

use crate::h::H;
use enjamb_stanza::Summary;
use std::collections::VecDeque;

/// An emptied queue keeps room for this many stanzas; what a burst needed beyond it is given back.
const KEPT_CAPACITY: usize = 16;

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

/// A queue that is emptied from the front by acks. It allocates nothing until the first stanza.
#[derive(Debug, Default)]
pub struct Queue {
    unacked: VecDeque<Queued>,
    acked: H,
    /// How many were ever dropped from the front: gives each stanza a number that never wraps.
    dropped: u64,
    bytes: usize,
}

impl Queue {
    /// A queue whose peer has acknowledged `acked` stanzas.
    pub fn starting_at(acked: H) -> Queue {
        Queue { acked, ..Queue::default() }
    }

    /// A queue that was kept elsewhere: `first` stanzas were acknowledged before, and `acked` is what the peer last
    /// said. What was queued is to be pushed again, from the oldest on.
    pub fn restored(first: u64, acked: H) -> Queue {
        Queue { acked, dropped: first, ..Queue::default() }
    }

    /// Appends a stanza; it counts as sent.
    pub fn push(&mut self, stanza: Queued) {
        self.bytes += stanza.bytes.len();
        self.unacked.push_back(stanza);
    }

    /// How many stanzas an ack of `h` would cover that none has covered before.
    ///
    /// # Errors
    /// If `h` is not between what was acknowledged and what was sent. It is too low if it was true once, else it is
    /// too high: modulo 2^32 there is no other difference.
    pub fn covered_by(&self, h: H) -> Result<usize, AckError> {
        let n = h.since(self.acked);
        if n as usize <= self.unacked.len() {
            Ok(n as usize)
        } else if u64::from(self.acked.since(h)) <= self.dropped {
            Err(AckError::TooLow { h, acked: self.acked })
        } else {
            Err(AckError::TooHigh { h, sent: self.sent() })
        }
    }

    /// Drops what `h` covers and returns how many stanzas that was.
    ///
    /// # Errors
    /// As [`Queue::covered_by`]; the queue is then as it was.
    pub fn ack(&mut self, h: H) -> Result<usize, AckError> {
        let n = self.covered_by(h)?;
        self.bytes -= self.unacked.drain(..n).map(|s| s.bytes.len()).sum::<usize>();
        self.dropped += n as u64;
        self.acked = h;
        if self.unacked.is_empty() && self.unacked.capacity() > KEPT_CAPACITY {
            self.unacked.shrink_to(KEPT_CAPACITY);
        }
        Ok(n)
    }

    /// Drops the first `n` stanzas, whatever their count: the peer has them and says `h`.
    pub(crate) fn ack_first(&mut self, n: usize, h: H) {
        let n = n.min(self.unacked.len());
        self.bytes -= self.unacked.drain(..n).map(|s| s.bytes.len()).sum::<usize>();
        self.dropped += n as u64;
        self.acked = h;
    }

    /// How many stanzas are unacknowledged.
    pub fn len(&self) -> usize {
        self.unacked.len()
    }

    /// Whether the peer has acknowledged everything.
    pub fn is_empty(&self) -> bool {
        self.unacked.is_empty()
    }

    /// The sum of the stanzas' lengths.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last `h` that the peer gave.
    pub fn acked(&self) -> H {
        self.acked
    }

    /// The `h` that the peer will give when it has everything.
    pub fn sent(&self) -> H {
        self.acked.plus(self.unacked.len())
    }

    /// The number of the first stanza in the queue, counted from the stream's first one and never wrapping.
    pub fn first(&self) -> u64 {
        self.dropped
    }

    /// The stanza with that number, if it is still queued.
    pub fn get(&self, number: u64) -> Option<&Queued> {
        let index = number.checked_sub(self.dropped)?;
        self.unacked.get(usize::try_from(index).ok()?)
    }

    /// The stanzas from the oldest to the newest.
    pub fn iter(&self) -> impl Iterator<Item = &Queued> {
        self.unacked.iter()
    }
}
