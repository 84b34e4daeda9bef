//! One managed stream.

use crate::h::H;
use crate::limits::Limits;
use crate::negotiate::ResumptionId;
use crate::queue::{AckError, Queue, Queued};
use crate::registry::AccountKey;
use enjamb_stanza::Summary;
use std::sync::Arc;

/// While connected, a client may leave this many stanzas, or this many times `smacks_max_queue_size`, unacknowledged
/// beyond an ack request that it has not answered, and more for as long as [`PATIENCE`]. A burst (an archive page, the
/// occupants of a room) is no reason to cut anybody off, whatever its size: while it is made nothing is read from
/// anybody. A client that never answers is.
const LIVE_SLACK: usize = 5000;
const LIVE_SLACK_FACTOR: usize = 10;
/// In seconds.
const PATIENCE: u64 = 10;

/// A peer is asked when nothing has been sent for so many milliseconds, at least so often while something is, and at once
/// when that many stanzas are outstanding beyond those that it may leave unacknowledged.
///
/// A client that logs out right after its last message must have been asked by then: what it did not acknowledge is
/// delivered a second time.
const QUIET: u64 = 60;
const ASK_EVERY: u64 = 1000;
const ASK_AT_ONCE: usize = 64;

/// Whether an `<r/>` is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Not now, and nothing is lost by it.
    No,
    /// Now.
    Now,
    /// In so many milliseconds, if it is still wanted then.
    In(u64),
}

/// What is to be done with a stanza that was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The peer is there: send it now. Otherwise it waits in the queue.
    pub send: bool,
    /// The queue is longer than it may be. Nothing was dropped; the session must end, and what is queued be returned
    /// or stored, before more is let in.
    pub over_limit: bool,
}

/// Whether the peer is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Connected.
    Live,
    /// Disconnected since that time, in seconds since 1970.
    Hibernating(u64),
}

/// How a stream's account may resume it.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The id that was given in `<enabled/>`.
    pub id: ResumptionId,
    /// How long the stream may wait, in seconds.
    pub timeout: u32,
}

/// What was sent since the last ack request, in milliseconds of the clock that [`Stream::wants_ack`] is given.
#[derive(Clone, Copy, Debug)]
struct Unasked {
    since: u64,
    /// The count when it was last looked at, and since when it has been that.
    out: H,
    quiet_since: u64,
}

/// Both counters of a stream, its queue, and when an ack is asked for.
#[derive(Debug)]
pub struct Stream {
    inbound: H,
    /// How many came in while this stream was managed here; does not wrap.
    received: u64,
    queue: Queue,
    state: State,
    /// By which its registry knows the account for which it counts, if it does.
    pub(crate) account: Option<AccountKey>,
    pub(crate) owner: Option<Owner>,
    limits: Arc<Limits>,
    awaiting_ack: bool,
    /// It was kept elsewhere, and may have sent a little more than is known: see [`Stream::covered_by`].
    restored: bool,
    /// The number of the first stanza that has never gone to the peer, if not all have.
    unsent_from: Option<u64>,
    /// The number of the first stanza that has not gone out on this connection, if not all have.
    resend_from: Option<u64>,
    /// The count up to which an ack was last asked for.
    requested: Option<H>,
    requested_at: Option<u64>,
    unasked: Option<Unasked>,
    /// Since when more than [`LIVE_SLACK`] is unacknowledged beyond that, in seconds since 1970.
    ignored_since: Option<u64>,
}

impl Stream {
    /// A stream on which `inbound` stanzas have come in and `outbound` have been sent and acknowledged; both are
    /// zero for a new one (XEP-0198 §4).
    pub fn new(limits: Arc<Limits>, inbound: H, outbound: H) -> Stream {
        Stream {
            inbound,
            received: 0,
            queue: Queue::starting_at(outbound),
            state: State::Live,
            account: None,
            owner: None,
            limits,
            awaiting_ack: false,
            restored: false,
            unsent_from: None,
            resend_from: None,
            requested: None,
            requested_at: None,
            unasked: None,
            ignored_since: None,
        }
    }

    /// A stream that was kept elsewhere, with what was in its queue. The stanzas before number `unsent_from` may have
    /// gone to the peer; those from it on have not.
    pub fn restored(limits: Arc<Limits>, inbound: H, queue: Queue, unsent_from: u64) -> Stream {
        let unsent_from = Some(unsent_from.min(queue.end()));
        Stream { queue, restored: true, unsent_from, ..Stream::new(limits, inbound, H(0)) }
    }

    /// Counts a stanza that came in after `before` others, and returns the new count.
    pub fn received(&mut self, before: H) -> H {
        self.inbound = before.plus(1);
        self.received += 1;
        self.inbound
    }

    /// Sets the count of what came in: the peer is told this, less than it was, and sends the rest again.
    pub fn recount(&mut self, h: H) {
        (self.inbound, self.received) = (h, 0);
    }

    /// How many stanzas have come in.
    pub fn inbound(&self) -> H {
        self.inbound
    }

    /// How many stanzas have been handled, if `waiting` of those that came in have not been processed yet: what an
    /// `<a/>` may claim (XEP-0198 §4, "handled"). `waiting` may be too many, never too few.
    pub fn handled(&self, waiting: usize) -> H {
        // Not below what there was to begin with; truncation is counting modulo 2^32.
        let waiting = self.received.min(waiting as u64) as u32;
        H(self.inbound.0.wrapping_sub(waiting))
    }

    /// Queues a stanza that goes out at `now`, in seconds since 1970. `stored`: it is kept elsewhere, as all before it
    /// are, so that its bytes need not be in memory: they are wanted again only if the peer loses its connection.
    pub fn push(&mut self, bytes: &[u8], summary: Summary, now: u64, stored: bool) -> Pushed {
        match stored {
            true => self.queue.push_stored(bytes.len()),
            false => self.queue.push(Queued { bytes: bytes.into(), at: now, summary }),
        }
        let limits = &*self.limits;
        let too_many_bytes = self.queue.bytes() > limits.queue_bytes;
        match self.state {
            State::Live => {
                let slack = LIVE_SLACK.max(limits.queue_stanzas.saturating_mul(LIVE_SLACK_FACTOR));
                let ignored =
                    self.awaiting_ack && self.requested.is_some_and(|r| self.out().since(r) as usize > slack);
                self.ignored_since = ignored.then(|| self.ignored_since.unwrap_or(now));
                let too_long = self.ignored_since.is_some_and(|since| now >= since + PATIENCE);
                Pushed { send: self.resend_from.is_none(), over_limit: too_many_bytes || too_long }
            }
            State::Hibernating(_) => {
                let too_many = self.queue.len() > limits.queue_stanzas;
                Pushed { send: false, over_limit: too_many_bytes || too_many }
            }
        }
    }

    /// Gives up the bytes of stanzas before number `end`, which are stored elsewhere.
    pub fn release(&mut self, end: u64) {
        self.queue.release(end);
    }

    /// The count that the peer will give when it has all that went out on this connection.
    fn out(&self) -> H {
        match self.resend_from {
            None => self.queue.sent(),
            Some(next) => self.queue.acked().plus(next.saturating_sub(self.queue.first()) as usize),
        }
    }

    /// The number of the stanza to send again next; none if everything has gone out on this connection. Until then,
    /// what is pushed waits for its turn.
    pub fn resend_from(&self) -> Option<u64> {
        self.resend_from.map(|next| next.max(self.queue.first()))
    }

    /// Notes that everything before number `next` has gone out on this connection.
    pub fn resent(&mut self, next: u64) {
        if next < self.queue.end() {
            self.resend_from = Some(next);
            self.unsent_from = self.unsent_from.map(|unsent| unsent.max(next));
        } else {
            (self.resend_from, self.unsent_from) = (None, None);
        }
    }

    /// The number of the first stanza that has never gone to the peer; none if all have.
    pub fn unsent_from(&self) -> Option<u64> {
        self.unsent_from
    }

    /// How many stanzas an ack of `h` would cover.
    ///
    /// What was queued while the peer was away and has not gone out since cannot be covered.
    ///
    /// The first `h` after a crash may be higher than what is known to have been sent then: a stanza goes to the peer
    /// at once, and to where streams are kept only before anybody is told that it was handled. Then the peer has all
    /// that was known, and more, whose senders were told nothing and send it again.
    ///
    /// # Errors
    /// If the count cannot be true.
    pub fn covered_by(&self, h: H) -> Result<usize, AckError> {
        let acked = self.queue.acked();
        let sent = self.unsent_from.unwrap_or(self.queue.end()).saturating_sub(self.queue.first());
        let sent = usize::try_from(sent).unwrap_or(usize::MAX);
        if self.restored {
            let n = h.since(acked);
            return match n > u32::MAX / 2 {
                true => Err(AckError::TooLow { h, acked }),
                false => Ok((n as usize).min(sent)),
            };
        }
        self.queue.covered_by(h, sent)
    }

    /// Takes an `<a/>`: drops what it covers and returns how many stanzas that was.
    ///
    /// # Errors
    /// If the count cannot be true; the queue is then as it was.
    pub fn ack(&mut self, h: H) -> Result<usize, AckError> {
        let n = self.covered_by(h)?;
        self.restored = false;
        self.queue.ack_first(n, h);
        self.awaiting_ack = false;
        Ok(n)
    }

    /// Whether to send an `<r/>` at `now`, in milliseconds of any clock. `inactive` is what the client says of itself
    /// (XEP-0352); `force` asks even if little is outstanding, and at once. To be called whenever something has been sent.
    ///
    /// A request and its answer cost more than the stanza that they are about, so on a stream that can be resumed what
    /// comes in quick succession is asked about once: the first at once, then when nothing more comes, at the latest after
    /// a second (XEP-0198 §4 leaves it to the entity when to ask).
    pub fn wants_ack(&mut self, inactive: bool, force: bool, now: u64) -> Ask {
        if self.awaiting_ack || self.is_hibernating() {
            return Ask::No;
        }
        let allowed = if inactive {
            self.limits.inactive_unacked.min(self.limits.queue_stanzas)
        } else {
            self.limits.unacked
        };
        let out = self.out();
        if force {
            return Ask::Now;
        }
        let outstanding = out.since(self.queue.acked()) as usize;
        // Asking twice for the same count would make a loop with a peer that counts wrongly.
        if outstanding <= allowed || self.requested == Some(out) {
            return Ask::No;
        }
        // What is not acknowledged when a stream that nobody resumes is lost, has to be returned. And a clock that went
        // back is no reason to wait.
        let asked = self.requested_at.filter(|&at| (at..at + ASK_EVERY).contains(&now));
        let waits = self.unasked.is_some_and(|u| u.quiet_since <= now) || asked.is_some();
        if self.owner.is_none() || !waits || outstanding > allowed.saturating_add(ASK_AT_ONCE) {
            return Ask::Now;
        }
        let unasked = self.unasked.get_or_insert(Unasked { since: now, out, quiet_since: now });
        if unasked.out != out {
            (unasked.out, unasked.quiet_since) = (out, now);
        }
        let due = (unasked.quiet_since + QUIET).min(unasked.since + ASK_EVERY);
        if due > now { Ask::In(due - now) } else { Ask::Now }
    }

    /// Notes that an `<r/>` goes out at `now`, in milliseconds of the same clock.
    pub fn requested(&mut self, now: u64) {
        self.requested_at = Some(now);
        self.unasked = None;
        self.awaiting_ack = true;
        self.requested = Some(self.out());
    }

    /// Whether an `<r/>` is unanswered.
    pub fn is_awaiting_ack(&self) -> bool {
        self.awaiting_ack
    }

    /// What is unacknowledged.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Whether the client is away.
    pub fn is_hibernating(&self) -> bool {
        matches!(self.state, State::Hibernating(_))
    }

    /// Connected or since when not.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether what is pushed now goes out at once: the peer is there and has been sent what is older.
    pub fn sends_now(&self) -> bool {
        !self.is_hibernating() && self.resend_from.is_none()
    }

    /// What its host allows.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// By what it can be resumed, if it can.
    pub fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    pub(crate) fn hibernate(&mut self, now: u64) {
        self.state = State::Hibernating(now);
        self.awaiting_ack = false;
        self.resend_from = None;
        self.unsent_from.get_or_insert(self.queue.end());
    }

    pub(crate) fn wake(&mut self) {
        // A connection that is replaced while it was live has been sent everything, but for what it was still owed.
        self.unsent_from.get_or_insert(self.queue.end());
        self.resend_from = Some(self.queue.first());
        self.state = State::Live;
        self.awaiting_ack = false;
        (self.requested, self.requested_at, self.unasked) = (None, None, None);
        if self.queue.is_empty() {
            self.resent(self.queue.end());
        }
    }
}
