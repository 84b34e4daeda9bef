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
}

/// The answer to "how much may be said to have been handled".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// This much. Never less than was claimed before.
    pub h: H,
    /// What was asked for will be true when the disk has it, and [`Sessions::settled`](crate::Sessions::settled) tells.
    pub pending: bool,
}

/// Up to where one stream's claims are true.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// What the operating system has.
    committed: H,
    /// What the disk itself has.
    durable: H,
    /// What it is going to have, with the position in the journal at which it has, the oldest first.
    waiting: VecDeque<(u64, H)>,
}

impl Claims {
    /// Both are true of what came from the disk, or was told before.
    pub fn kept(h: H) -> Claims {
        Claims { committed: h, durable: h, waiting: VecDeque::new() }
    }

    /// What may be claimed without anything having been written.
    pub fn standing(&self, level: Level) -> Claim {
        let h = if level == Level::Power { self.durable } else { self.committed };
        Claim { h, pending: false }
    }

    /// The operating system has what `h` covers. At [`Level::Power`] it has to reach the disk: `position` asks for that
    /// and says when it will have, the disk has everything up to `durable`.
    pub fn committed(&mut self, h: H, level: Level, durable: u64, position: impl FnOnce() -> u64) -> Claim {
        self.committed = h;
        if level != Level::Power {
            return Claim { h, pending: false };
        }
        let known = match self.waiting.back() {
            Some(&(_, last)) => last == h,
            None => self.durable == h,
        };
        if !known {
            self.waiting.push_back((position(), h));
        }
        self.settle(durable);
        Claim { h: self.durable, pending: !self.waiting.is_empty() }
    }

    /// The disk has everything up to there: what may be claimed now that could not before.
    pub fn settle(&mut self, durable: u64) -> Option<H> {
        let mut news = None;
        while let Some(&(_, h)) = self.waiting.front().filter(|(position, _)| *position <= durable) {
            self.waiting.pop_front();
            self.durable = h;
            news = Some(h);
        }
        news
    }

    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_waits_for_the_disk_at_level_power_only() {
        let mut claims = Claims::default();
        for level in [Level::None, Level::Process] {
            let claim = claims.committed(H(3), level, 0, || panic!("the disk is not asked"));
            assert_eq!(claim, Claim { h: H(3), pending: false });
        }
        assert_eq!(claims.committed(H(4), Level::Power, 0, || 10), Claim { h: H(0), pending: true });
        // The same count is not asked for twice, a higher one is.
        let again = claims.committed(H(4), Level::Power, 9, || panic!("it was asked"));
        assert_eq!(again, Claim { h: H(0), pending: true });
        assert_eq!(claims.committed(H(5), Level::Power, 9, || 20), Claim { h: H(0), pending: true });
        assert_eq!(claims.settle(9), None);
        assert_eq!(claims.settle(15), Some(H(4)));
        assert!(claims.is_waiting());
        assert_eq!(claims.settle(20), Some(H(5)));
        assert_eq!(claims.standing(Level::Power), Claim { h: H(5), pending: false });
    }

    #[test]
    fn what_others_asked_of_the_disk_serves_too() {
        let mut claims = Claims::default();
        assert_eq!(claims.committed(H(1), Level::Power, 30, || 30), Claim { h: H(1), pending: false });
    }
}
