//! When a peer is asked for an ack, when its answer is late, and when silence means that nobody is there.
//!
//! XEP-0198 §4 leaves it to the entity when to ask. A request and its answer cost more than the stanza that they are about,
//! so on a stream that can be resumed what comes in quick succession is asked about once: the first at once, then when
//! nothing more comes, at the latest after a second.
//!
//! All times are milliseconds of one clock, which may go back.

use crate::h::H;
use crate::limits::Limits;

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

/// What is to be done when the time for an answer may be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lateness {
    /// Nothing is unanswered any more.
    Answered,
    /// That request was answered, another was not: look again in so many milliseconds.
    Wait(u64),
    /// The answer is late: whoever wants to know is told, once per request.
    Late,
}

/// What is to be done when nothing has come in for as long as the server waits before it takes a connection for dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Nobody has asked yet: ask, and go on.
    Ask,
    /// It was asked a while ago: it may still answer.
    Wait,
    /// It was asked before the last silence, had all the time since, and said nothing.
    Dead,
}

/// What was sent since the last request.
#[derive(Clone, Copy, Debug)]
struct Unasked {
    since: u64,
    /// The count when it was last looked at, and since when it has been that.
    out: H,
    quiet_since: u64,
}

/// The counts that a question is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing {
    /// What the peer will say when it has all that went out on this connection.
    pub out: H,
    /// What it said last.
    pub acked: H,
    /// Its account may come back to it.
    pub resumable: bool,
}

/// The requests of one stream.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    awaiting: bool,
    /// The count up to which an ack was last asked for, and when.
    requested: Option<H>,
    requested_at: Option<u64>,
    unasked: Option<Unasked>,
    /// Somebody will look whether the answer is late.
    is_watched: bool,
    /// When nothing had come in for long, the last time: when that was over, with a request if one followed from it.
    silent_at: Option<u64>,
    /// A request follows from that silence.
    silence_asks: bool,
}

impl Asking {
    /// Whether an `<r/>` is unanswered.
    pub fn is_awaiting(&self) -> bool {
        self.awaiting
    }

    /// How many stanzas have gone out since what was asked about last, if that is unanswered.
    pub fn sent_since(&self, out: H) -> Option<u32> {
        self.requested.filter(|_| self.awaiting).map(|requested| out.since(requested))
    }

    /// See [`crate::Stream::wants_ack`].
    pub fn wants(&mut self, limits: &Limits, counts: Outgoing, inactive: bool, force: bool, now: u64) -> Ask {
        let Outgoing { out, acked, resumable } = counts;
        let allowed = match inactive {
            true => limits.inactive_unacked.min(limits.queue_stanzas),
            false => limits.unacked,
        };
        if self.awaiting {
            return Ask::No;
        }
        if force {
            return Ask::Now;
        }
        let outstanding = out.since(acked) as usize;
        // Asking twice for the same count would make a loop with a peer that counts wrongly.
        if outstanding <= allowed || self.requested == Some(out) {
            return Ask::No;
        }
        // What is not acknowledged when a stream that nobody resumes is lost, has to be returned. And a clock that went
        // back is no reason to wait.
        let asked = self.requested_at.filter(|&at| (at..at + ASK_EVERY).contains(&now));
        let waits = self.unasked.is_some_and(|u| u.quiet_since <= now) || asked.is_some();
        if !resumable || !waits || outstanding > allowed.saturating_add(ASK_AT_ONCE) {
            return Ask::Now;
        }
        let unasked = self.unasked.get_or_insert(Unasked { since: now, out, quiet_since: now });
        if unasked.out != out {
            (unasked.out, unasked.quiet_since) = (out, now);
        }
        let due = (unasked.quiet_since + QUIET).min(unasked.since + ASK_EVERY);
        if due > now { Ask::In(due - now) } else { Ask::Now }
    }

    /// See [`crate::Stream::requested`].
    pub fn requested(&mut self, limits: &Limits, out: H, now: u64) -> Option<u64> {
        self.requested_at = Some(now);
        self.unasked = None;
        self.awaiting = true;
        self.requested = Some(out);
        if std::mem::take(&mut self.silence_asks) {
            self.silent_at = Some(now);
        }
        let patience = patience(limits);
        let watches = patience > 0 && !self.is_watched;
        self.is_watched |= watches;
        watches.then_some(patience)
    }

    /// An answer came that can be true.
    pub fn answered(&mut self) {
        self.awaiting = false;
    }

    /// The connection that was asked is gone: nobody will answer.
    pub fn disconnected(&mut self) {
        self.awaiting = false;
    }

    /// There is another connection, on which nothing has been asked.
    pub fn reconnected(&mut self) {
        self.awaiting = false;
        (self.requested, self.requested_at, self.unasked) = (None, None, None);
        (self.silent_at, self.silence_asks) = (None, false);
    }

    /// See [`crate::Stream::lateness`].
    pub fn lateness(&mut self, limits: &Limits, now: u64) -> Lateness {
        let patience = patience(limits);
        let asked = self.requested_at.filter(|_| self.awaiting);
        // A clock that went back makes nobody wait for longer than that.
        let left = asked.map(|at| (at + patience).saturating_sub(now).min(patience));
        let lateness = match left {
            None => Lateness::Answered,
            Some(0) => Lateness::Late,
            Some(left) => Lateness::Wait(left),
        };
        self.is_watched = matches!(lateness, Lateness::Wait(_));
        lateness
    }

    /// See [`crate::Stream::silence`].
    pub fn silence(&mut self, now: u64) -> Silence {
        let last = self.silent_at.replace(now);
        if !self.awaiting {
            self.silence_asks = true;
            return Silence::Ask;
        }
        match (self.requested_at, last) {
            (Some(asked), Some(last)) if asked <= last => Silence::Dead,
            _ => Silence::Wait,
        }
    }
}

fn patience(limits: &Limits) -> u64 {
    u64::from(limits.ack_delay) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(ack_delay: u32) -> Limits {
        Limits { ack_delay, ..Limits::default() }
    }

    #[test]
    fn an_answer_is_late_once_per_request() {
        let limits = limits(30);
        let mut asking = Asking::default();
        assert_eq!(asking.requested(&limits, H(1), 1_000), Some(30_000), "somebody has to look");
        assert_eq!(asking.lateness(&limits, 30_999), Lateness::Wait(1));
        assert_eq!(asking.lateness(&limits, 31_000), Lateness::Late);
        // It may be asked anew on another connection only; nobody looks until then.
        asking.reconnected();
        assert_eq!(asking.requested(&limits, H(1), 40_000), Some(30_000));
    }

    #[test]
    fn one_look_serves_all_requests_until_it_comes() {
        let limits = limits(30);
        let mut asking = Asking::default();
        assert_eq!(asking.requested(&limits, H(1), 0), Some(30_000));
        asking.answered();
        assert_eq!(asking.requested(&limits, H(2), 20_000), None, "one looks already");
        assert_eq!(asking.lateness(&limits, 30_000), Lateness::Wait(20_000));
        asking.answered();
        assert_eq!(asking.lateness(&limits, 50_000), Lateness::Answered);
        assert_eq!(asking.requested(&limits, H(3), 60_000), Some(30_000));
    }

    #[test]
    fn nobody_looks_if_lateness_is_switched_off_and_a_clock_that_goes_back_makes_nobody_wait_longer() {
        let mut asking = Asking::default();
        assert_eq!(asking.requested(&limits(0), H(1), 0), None);
        let mut asking = Asking::default();
        asking.requested(&limits(30), H(1), 3_600_000);
        assert_eq!(asking.lateness(&limits(30), 0), Lateness::Wait(30_000));
    }

    #[test]
    fn a_connection_is_dead_when_it_was_asked_and_had_a_whole_period_to_answer() {
        let limits = limits(30);
        let mut asking = Asking::default();
        assert_eq!(asking.silence(1_000), Silence::Ask);
        asking.requested(&limits, H(1), 1_001); // a little later
        assert_eq!(asking.silence(2_000), Silence::Dead);
        // Asked since the last silence, for another reason.
        asking.answered();
        assert_eq!(asking.silence(3_000), Silence::Ask);
        asking.requested(&limits, H(1), 3_000);
        asking.answered();
        asking.requested(&limits, H(2), 3_500);
        assert_eq!(asking.silence(4_000), Silence::Wait);
        assert_eq!(asking.silence(5_000), Silence::Dead);
    }
}
