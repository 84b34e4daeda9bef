//! The steps of a `<resume/>` (XEP-0198 §5).
//!
//! A session may still have its old connection, with stanzas that came in on it and are not processed yet. Before the client
//! is told what was handled, they are. So a request is looked at first, then the session is given time to settle, then it
//! is looked at again, since much may have happened meanwhile; and only when whoever owns the session has made it ready is
//! it resumed. Until that last step nothing has changed, and a refusal leaves the session as it was.

use crate::negotiate::Refusal;
use crate::registry::{Resumed, StreamKey};

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Have the session of that stream process what it has read, and look again.
    Settle(StreamKey),
    /// It can be granted, with this: make the session ready, and go on.
    Prepare(Resumed),
    /// It is granted: the stream is live.
    Resumed(Resumed),
    /// `<failed/>`.
    Refuse(Refusal),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Asked,
    Settled,
    Prepared,
    Over,
}

/// A `<resume/>` that is being decided on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resumption {
    phase: Phase,
}

impl Resumption {
    /// Whether the next look is the one that changes something: [`crate::Registry::resume`], else
    /// [`crate::Registry::resumable`].
    pub fn is_for_good(&self) -> bool {
        self.phase == Phase::Prepared
    }

    /// Goes on with what a look at the registry has found.
    pub fn next(&mut self, found: Result<Resumed, Refusal>) -> Step {
        let (phase, step) = match (self.phase, found) {
            (Phase::Over, _) => (Phase::Over, Step::Refuse(Refusal::NotFound)),
            (_, Err(refusal)) => (Phase::Over, Step::Refuse(refusal)),
            (Phase::Asked, Ok(found)) => (Phase::Settled, Step::Settle(found.key)),
            (Phase::Settled, Ok(found)) => (Phase::Prepared, Step::Prepare(found)),
            (Phase::Prepared, Ok(resumed)) => (Phase::Over, Step::Resumed(resumed)),
        };
        self.phase = phase;
        step
    }

    /// It cannot be granted, for another reason than the registry knows.
    pub fn refuse(&mut self, refusal: Refusal) -> Step {
        self.phase = Phase::Over;
        Step::Refuse(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::H;

    fn resumed() -> Resumed {
        // Any key will do: nothing is looked up.
        Resumed { key: StreamKey::default(), h: H(1), acked: 0, hibernating_since: None }
    }

    #[test]
    fn it_is_looked_at_twice_before_anything_changes() {
        let mut resumption = Resumption::default();
        assert!(!resumption.is_for_good());
        assert_eq!(resumption.next(Ok(resumed())), Step::Settle(resumed().key));
        assert!(!resumption.is_for_good());
        assert_eq!(resumption.next(Ok(resumed())), Step::Prepare(resumed()));
        assert!(resumption.is_for_good());
        assert_eq!(resumption.next(Ok(resumed())), Step::Resumed(resumed()));
        assert!(!resumption.is_for_good());
        assert_eq!(resumption.next(Ok(resumed())), Step::Refuse(Refusal::NotFound), "it is over");
    }

    #[test]
    fn what_is_refused_once_is_refused() {
        for looks in 0..3 {
            let mut resumption = Resumption::default();
            for _ in 0..looks {
                resumption.next(Ok(resumed()));
            }
            assert_eq!(resumption.next(Err(Refusal::MissingH)), Step::Refuse(Refusal::MissingH));
            assert!(!resumption.is_for_good());
            assert!(matches!(resumption.next(Ok(resumed())), Step::Refuse(_)));
        }
        let mut resumption = Resumption::default();
        resumption.next(Ok(resumed()));
        assert_eq!(resumption.refuse(Refusal::ConnectionLost), Step::Refuse(Refusal::ConnectionLost));
        assert!(matches!(resumption.next(Ok(resumed())), Step::Refuse(_)));
    }
}
