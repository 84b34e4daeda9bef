//! One managed stream.

use crate::asking::{Ask, Asking, Lateness, Outgoing, Silence};
use crate::ending::{Cause, Closer, Closing, End, Ending};
use crate::h::H;
use crate::limits::Limits;
use crate::negotiate::ResumptionId;
use crate::pacing::{AfterTurn, Framing, Turn};
use crate::queue::{AckError, Queue, Queued};
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

/// What is sent again in one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The number of its first stanza.
    pub first: u64,
    /// The number of the first one that is not to be sent again.
    pub end: u64,
    /// At most so many bytes, unless the first stanza is longer.
    pub budget: usize,
}

/// How a stream's account may resume it.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The id that was given in `<enabled/>`.
    pub id: ResumptionId,
    /// How long the stream may wait, in seconds.
    pub timeout: u32,
}

/// One stream: both counters and its queue; what is asked, answered, sent again and ended on it.
#[derive(Debug)]
pub struct Stream {
    inbound: H,
    /// How many came in while this stream was managed here; does not wrap.
    received: u64,
    queue: Queue,
    state: State,
    pub(crate) owner: Option<Owner>,
    limits: Arc<Limits>,
    asking: Asking,
    end: End,
    /// What comes in counts. Not yet on a stream that this server asked to manage, before `<enabled/>`.
    counts_inbound: bool,
    /// Stanzas are being handed to the connection again.
    turn: Option<Turn>,
    /// It was kept elsewhere, and may have sent a little more than is known: see [`Stream::covered_by`].
    restored: bool,
    /// The number of the first stanza that has never gone to the peer, if not all have.
    unsent_from: Option<u64>,
    /// The number of the first stanza that has not gone out on this connection, if not all have.
    resend_from: Option<u64>,
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
            owner: None,
            limits,
            asking: Asking::default(),
            end: End::default(),
            counts_inbound: true,
            turn: None,
            restored: false,
            unsent_from: None,
            resend_from: None,
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

    /// The same of `n` stanzas.
    pub fn received_behind(&mut self, before: H, n: usize) -> H {
        self.inbound = before.plus(n);
        self.received = self.received.saturating_add(n as u64);
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
                let ignored = self.asking.sent_since(self.out()).is_some_and(|n| n as usize > slack);
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
        // It may have had on its old connection what was to be sent again.
        if self.resend_from.is_some() && self.queue.is_empty() {
            self.resent(self.queue.end());
        }
        self.asking.answered();
        Ok(n)
    }

    // Asking ------------------------------------------------------------------------------------------------------------

    /// Whether to send an `<r/>` at `now`, in milliseconds of any clock. `inactive` is what the client says of itself
    /// (XEP-0352); `force` asks even if little is outstanding, and at once. To be called whenever something has been sent.
    pub fn wants_ack(&mut self, inactive: bool, force: bool, now: u64) -> Ask {
        if self.is_hibernating() || self.end.closed().is_some() {
            return Ask::No;
        }
        let counts = Outgoing { out: self.out(), acked: self.queue.acked(), resumable: self.owner.is_some() };
        self.asking.wants(&self.limits, counts, inactive, force, now)
    }

    /// Notes that an `<r/>` goes out at `now`, in milliseconds of the same clock. If nobody looks yet whether the answer is
    /// late, somebody has to, by [`Stream::lateness`], in so many milliseconds.
    pub fn requested(&mut self, now: u64) -> Option<u64> {
        let out = self.out();
        self.asking.requested(&self.limits, out, now)
    }

    /// Whether an `<r/>` is unanswered.
    pub fn is_awaiting_ack(&self) -> bool {
        self.asking.is_awaiting()
    }

    /// Whether an answer is late at `now`, in milliseconds of the same clock: after `smacks_max_ack_delay`.
    pub fn lateness(&mut self, now: u64) -> Lateness {
        self.asking.lateness(&self.limits, now)
    }

    /// Nothing has come in on the connection for as long as the server waits, at `now`, in milliseconds of the same clock.
    pub fn silence(&mut self, now: u64) -> Silence {
        self.asking.silence(now)
    }

    // Answering, and the end --------------------------------------------------------------------------------------------

    /// What comes in does not count before [`Stream::count_from_here`].
    pub fn count_later(&mut self) {
        self.counts_inbound = false;
    }

    /// What comes in counts from here on.
    pub fn count_from_here(&mut self) {
        self.counts_inbound = true;
    }

    /// What an `<a/>` may say that answers an `<r/>`, if one may be sent: nothing follows the end tag. `stamped` is the count
    /// as it was when the `<r/>` came in: when that is answered, all before it has been processed. Without it what waits is
    /// left out, as in [`Stream::handled`].
    pub fn answer(&self, stamped: Option<H>, waiting: usize) -> Option<H> {
        self.end.closed().is_none().then(|| stamped.unwrap_or_else(|| self.handled(waiting)))
    }

    /// The stream is closed on purpose, its end tag goes out next; it is not to be resumed. Nothing if it was closed before.
    /// `waiting`: how many of the stanzas that came in have not been processed; none if there is no connection.
    pub fn close(&mut self, by: Closer, waiting: Option<usize>) -> Option<Closing> {
        let last_ack = waiting.filter(|_| self.counts_inbound).map(|waiting| self.handled(waiting));
        self.end.close(by).then_some(Closing { last_ack })
    }

    /// Who has closed the stream, if somebody has.
    pub fn closed_by(&self) -> Option<Closer> {
        self.end.closed()
    }

    /// The session has to end. True if that is news: then ask for its [`Stream::ending`] in a moment, when whoever is
    /// sending has finished. What is queued until then keeps its order.
    pub fn must_end(&mut self, cause: Cause) -> bool {
        self.end.must_come(cause)
    }

    /// How the session ends, if it still has to.
    pub fn ending(&mut self, cause: Cause) -> Option<Ending> {
        let is_away = self.is_hibernating();
        self.end.comes(cause, is_away)
    }

    // Sending again -----------------------------------------------------------------------------------------------------

    /// Begins to hand over what is to be sent again. False if that is under way: a connection may ask for more within the
    /// call that gives it some.
    pub fn begin_turn(&mut self) -> bool {
        let begins = self.turn.is_none();
        self.turn.get_or_insert(Turn::new());
        begins
    }

    /// What the next piece is: from this number up to and without that one, of so many bytes, but one stanza at least.
    /// Nothing if the turn is over.
    pub fn next_piece(&self, framing: Framing) -> Option<Piece> {
        let budget = self.turn?.piece(framing)?;
        Some(Piece { first: self.resend_from()?, end: self.queue.end(), budget })
    }

    /// Everything before number `next` has been handed over, in a piece of so many bytes.
    pub fn handed_over(&mut self, next: u64, bytes: usize) {
        self.resent(next);
        if let Some(turn) = &mut self.turn {
            turn.sent(bytes);
        }
    }

    /// Ends the turn.
    pub fn end_turn(&mut self) -> AfterTurn {
        self.turn = None;
        AfterTurn::of(self.resend_from.is_some())
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
        self.asking.disconnected();
        self.resend_from = None;
        self.unsent_from.get_or_insert(self.queue.end());
    }

    pub(crate) fn wake(&mut self) {
        // A connection that is replaced while it was live has been sent everything, but for what it was still owed.
        self.unsent_from.get_or_insert(self.queue.end());
        self.resend_from = Some(self.queue.first());
        self.state = State::Live;
        self.asking.reconnected();
        self.end.is_back();
        if self.queue.is_empty() {
            self.resent(self.queue.end());
        }
    }
}
