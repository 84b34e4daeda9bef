//! How the journal follows a stream.
//!
//! Whatever happens to a stream that is kept is appended as it happens. If a record cannot be written, the stream is behind, and
//! its stanzas stay in memory; the next commit catches up, from the first that is missing. Numbers are the queue's, which
//! never wrap; in the journal a session's first stanza is number 1 ([`Numbering`]).

use crate::attributes::Attributes;
use crate::claim::Claims;
use crate::record::{self, LIVE, LOST, Numbering, Stanza};
use enjamb_journal::{Error, Journal};
use enjamb_stream_management::{Place, Queue, Stream};

/// How a stream stands with the journal and with what its peer was told: what [`Sessions`](crate::Sessions) has beside
/// each.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// What the journal has of it, if it is kept.
    pub journaled: Option<Box<Journaled>>,
    /// The journal misses something.
    pub is_behind: bool,
    /// Something of it can never be kept: its claims stand still.
    pub is_dismissed: bool,
    pub claims: Claims,
}

/// What the journal has of one stream.
#[derive(Debug)]
pub(crate) struct Journaled {
    /// By which the journal knows the session.
    pub id: u64,
    pub numbering: Numbering,
    /// What may be said to have been handled, should the session come back.
    pub handled: u32,
    /// What is known of the session.
    pub attributes: Attributes,
}

impl Journaled {
    /// What is kept of a stream that is kept from now on.
    pub fn new(id: u64, stream: &Stream) -> Journaled {
        let queue = stream.queue();
        let numbering = Numbering {
            base: queue.first(),
            counted: queue.first(),
            h: queue.acked(),
            unsent_from: stream.unsent_from().unwrap_or(LIVE),
        };
        Journaled { id, numbering, handled: stream.inbound().0, attributes: Attributes::default() }
    }

    fn describe(&self, journal: &mut Journal) -> Result<(), Error> {
        journal.set_meta(self.id, &record::describe(&self.numbering))
    }

    /// Writes the attributes that have changed.
    pub fn write(&mut self, journal: &mut Journal) -> Result<(), Error> {
        let id = self.id;
        self.attributes.write(|slot, record| journal.set_slot(id, slot, record))
    }

    pub fn push(&self, journal: &mut Journal, number: u64, stanza: Stanza) -> Result<(), Error> {
        let (header, bytes) = stanza.encode();
        journal.push_in_pieces(self.id, self.numbering.in_journal(number + 1), &[&header, bytes])
    }

    /// The peer acknowledged something.
    pub fn acked(&mut self, journal: &mut Journal, queue: &Queue) -> Result<(), Error> {
        // The peer may have had more than was kept. Should only half of this reach the disk, it is the first half.
        let described = match self.count(queue) {
            true => self.describe(journal),
            false => Ok(()),
        };
        journal.ack(self.id, self.numbering.in_journal(queue.first())).and(described)
    }

    pub fn handled(&mut self, journal: &mut Journal, h: u32) -> Result<(), Error> {
        if self.handled == h {
            return Ok(()); // it is there, or else the stream is behind
        }
        self.handled = h;
        journal.set_inbound(self.id, u64::from(h))
    }

    /// The peer is gone, or there again.
    pub fn connected(&mut self, journal: &mut Journal, stream: &Stream) -> Result<(), Error> {
        let live = !stream.is_hibernating();
        self.numbering.unsent_from = if live { LIVE } else { stream.unsent_from().unwrap_or(LIVE) };
        self.describe(journal)
    }

    /// Writes all that the journal misses of the stream.
    pub fn catch_up(&mut self, journal: &mut Journal, stream: &Stream) -> Result<(), Error> {
        let queue = stream.queue();
        self.count(queue);
        if journal.counters(self.id).is_none() {
            self.describe(journal)?; // that begins it
        }
        self.write(journal)?;
        // Only now, since it takes the place of a text that an earlier release has written.
        self.describe(journal)?;
        let last = journal.counters(self.id).map_or(0, |c| c.acked + c.queued as u64);
        for number in self.numbering.base + last..queue.end() {
            // What has left the queue meanwhile still has its number.
            let stanza = match queue.get(number) {
                Some(Place::Here(q)) => Stanza { bytes: &q.bytes, at: q.at, summary: q.summary },
                _ => LOST,
            };
            self.push(journal, number, stanza)?;
        }
        journal.ack(self.id, self.numbering.in_journal(queue.first()))?;
        journal.set_inbound(self.id, u64::from(self.handled))
    }

    /// It is back: writes its attributes, if they were a text, and that its peer is away and has been sent nothing since.
    pub fn came_back(&mut self, journal: &mut Journal) -> Result<(), Error> {
        self.write(journal)?;
        self.describe(journal)
    }

    /// Notes how the numbers stand now, if the peer's count is another one than follows from what is known. Returns
    /// whether that is so.
    fn count(&mut self, queue: &Queue) -> bool {
        let differs = self.numbering.h_at(queue.first()) != queue.acked();
        if differs {
            (self.numbering.counted, self.numbering.h) = (queue.first(), queue.acked());
        }
        differs
    }
}
