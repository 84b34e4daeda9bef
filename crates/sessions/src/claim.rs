//! What may be claimed to have been handled: the `h` of an `<a/>` and of a `<resumed/>` (XEP-0198 §4, §5).
//!
//! Knows nothing of how anything is kept, only up to where it is.

use enjamb_stream_management::H;
use std::collections::VecDeque;

/// What must be true of the consequences of a stanza before it is acknowledged: `smacks_durability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `"none"`: nothing.
    None,
    /// `"process"`: they survive the death of the process, having been handed to the operating system.
    Process,
    /// `"power"`: they survive the machine's, being on the disk itself.
    Power,
    /// `"replicated"`: they survive the loss of the machine and its disk, being in the copy elsewhere.
    Replicated,
}

impl Level {
    /// Whether something has to get somewhere first that takes its time: the disk itself, or the copy.
    fn waits(self) -> bool {
        matches!(self, Level::Power | Level::Replicated)
    }
}

/// Up to where the journal is safe: positions in it, by what waits for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Safe {
    /// On the disk itself ([`Journal::durable`](enjamb_journal::Journal::durable)).
    pub disk: u64,
    /// In the copy elsewhere ([`Journal::copied`](enjamb_journal::Journal::copied)); 0 if there is none.
    pub copy: u64,
}

impl Safe {
    /// What counts at that level.
    pub fn at(self, level: Level) -> u64 {
        match level {
            Level::Replicated => self.copy,
            Level::None | Level::Process | Level::Power => self.disk,
        }
    }
}

/// The answer to "how much may be said to have been handled".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// This much. Never less than was claimed before. Nothing, if that cannot be told yet: the stream came back after the
    /// death of the process, and whether the disk has what was found is not known before it has synced that.
    pub h: Option<H>,
    /// What was asked for will be true when the disk has it, and [`Sessions::settled`](crate::Sessions::settled) tells.
    pub pending: bool,
}

/// Up to where one stream's claims are true.
#[derive(Debug)]
pub(crate) struct Claims {
    /// What the operating system has.
    committed: H,
    /// What the disk itself has, or the copy, if that is known.
    durable: Option<H>,
    /// What it is going to have, with the position in the journal at which it has, the oldest first. Where nothing is
    /// waited for it takes no room.
    #[allow(clippy::box_collection)] // three words less in every stream
    waiting: Option<Box<VecDeque<(u64, H)>>>,
    /// Something has been noted since that the disk must have before the next claim is settled, even if that is the same.
    noted: bool,
}

impl Default for Claims {
    fn default() -> Claims {
        Claims::told(H(0))
    }
}

impl Claims {
    /// Of a stream whose peer was told this much.
    pub fn told(h: H) -> Claims {
        Claims { committed: h, durable: Some(h), waiting: None, noted: false }
    }

    /// Of a stream that came back. What was found is in the operating system, but a process that was killed may not have
    /// got round to having it synced.
    pub fn found(h: H) -> Claims {
        Claims { committed: h, durable: None, waiting: None, noted: false }
    }

    /// The peer is there again. What is sent to it from here on counts as sent only if the journal has this.
    pub fn resumed(&mut self) {
        self.noted = true;
    }

    /// What may be claimed without anything having been written.
    pub fn standing(&self, level: Level) -> Claim {
        let h = if level.waits() { self.durable } else { Some(self.committed) };
        Claim { h, pending: false }
    }

    /// The operating system has what `h` covers. At [`Level::Power`] it has to reach the disk, at [`Level::Replicated`] the copy:
    /// `position` asks for that and says when it will have, which has everything up to `durable`.
    pub fn committed(&mut self, h: H, level: Level, durable: u64, position: impl FnOnce() -> u64) -> Claim {
        self.committed = h;
        if !level.waits() {
            return Claim { h: Some(h), pending: false };
        }
        let known = match self.waiting.as_ref().and_then(|waiting| waiting.back()) {
            Some(&(_, last)) => last == h,
            None => self.durable == Some(h),
        };
        if !known || std::mem::take(&mut self.noted) {
            self.waiting.get_or_insert_default().push_back((position(), h));
        }
        self.settle(durable);
        Claim { h: self.durable, pending: self.is_waiting() }
    }

    /// The disk has everything up to there: what may be claimed now that could not before.
    pub fn settle(&mut self, durable: u64) -> Option<H> {
        let waiting = self.waiting.as_mut()?;
        let mut news = None;
        while let Some(&(_, h)) = waiting.front().filter(|(position, _)| *position <= durable) {
            waiting.pop_front();
            news = Some(h);
        }
        if waiting.is_empty() {
            self.waiting = None;
        }
        self.durable = news.or(self.durable);
        news
    }

    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(h: u32, pending: bool) -> Claim {
        Claim { h: Some(H(h)), pending }
    }

    #[test]
    fn a_claim_waits_for_the_disk_at_level_power_only() {
        let mut claims = Claims::default();
        for level in [Level::None, Level::Process] {
            let answer = claims.committed(H(3), level, 0, || panic!("the disk is not asked"));
            assert_eq!(answer, claim(3, false));
        }
        assert_eq!(claims.committed(H(4), Level::Power, 0, || 10), claim(0, true));
        // The same count is not asked for twice, a higher one is.
        let again = claims.committed(H(4), Level::Power, 9, || panic!("it was asked"));
        assert_eq!(again, claim(0, true));
        assert_eq!(claims.committed(H(5), Level::Power, 9, || 20), claim(0, true));
        assert_eq!(claims.settle(9), None);
        assert_eq!(claims.settle(15), Some(H(4)));
        assert!(claims.is_waiting());
        assert_eq!(claims.settle(20), Some(H(5)));
        assert_eq!(claims.standing(Level::Power), claim(5, false));
    }

    #[test]
    fn what_others_asked_of_the_disk_serves_too() {
        let mut claims = Claims::default();
        assert_eq!(claims.committed(H(1), Level::Power, 30, || 30), claim(1, false));
    }

    #[test]
    fn after_a_resumption_the_disk_is_asked_though_the_count_is_the_same() {
        let mut claims = Claims::told(H(3));
        claims.resumed();
        assert_eq!(claims.committed(H(3), Level::Power, 0, || 9), claim(3, true));
        assert_eq!(claims.committed(H(3), Level::Power, 9, || panic!("it was asked")), claim(3, false));
    }

    #[test]
    fn what_was_found_is_not_claimed_before_the_disk_has_it() {
        let mut claims = Claims::found(H(7));
        assert_eq!(claims.standing(Level::Power), Claim { h: None, pending: false });
        assert_eq!(claims.standing(Level::Process), claim(7, false));
        assert_eq!(claims.committed(H(7), Level::Power, 0, || 5), Claim { h: None, pending: true });
        assert_eq!(claims.settle(5), Some(H(7)));
    }
}
