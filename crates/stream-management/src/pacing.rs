//! How fast what is queued is sent again after a resumption (XEP-0198 §5).
//!
//! A queue may hold much more than a connection takes at once. What the connection cannot take would lie in memory a second
//! time; so it is handed over in turns, and the rest stays where it is until the connection has taken the last one.

/// Stanzas are handed over in pieces of about so many bytes: each is one write.
const PIECE: usize = 16 << 10;
/// So many bytes in one turn.
const BATCH: usize = 256 << 10;
/// If the connection does not say that it has taken a turn, the next one begins after so many seconds.
const PATIENCE: u64 = 5;

/// How the connection takes stanzas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// As a stream of bytes: many at a time.
    Stream,
    /// A frame each, as WebSockets have it (RFC 7395 §3.3.3).
    Frames,
}

/// One turn, from when it is begun until it is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    left: usize,
}

impl Turn {
    pub fn new() -> Turn {
        Turn { left: BATCH }
    }

    /// How many bytes the next piece may have, beyond its first stanza; `None`: the turn is over.
    pub fn piece(&self, framing: Framing) -> Option<usize> {
        let piece = match framing {
            Framing::Stream => PIECE,
            Framing::Frames => 0,
        };
        (self.left > 0).then_some(piece)
    }

    /// So many bytes were handed over.
    pub fn sent(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }
}

/// What follows a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterTurn {
    /// All has been handed over. The peer is asked for an ack at once: it has much to acknowledge.
    Done,
    /// More is there: the next turn begins when the connection has taken this one, or after so many seconds.
    More(u64),
}

impl AfterTurn {
    pub(crate) fn of(is_more: bool) -> AfterTurn {
        match is_more {
            true => AfterTurn::More(PATIENCE),
            false => AfterTurn::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_over_when_its_bytes_are_used_up() {
        let mut turn = Turn::new();
        let mut pieces = 0;
        while let Some(piece) = turn.piece(Framing::Stream) {
            turn.sent(piece);
            pieces += 1;
        }
        assert_eq!(pieces, BATCH / PIECE);
        assert_eq!(turn.piece(Framing::Frames), None);
        let mut turn = Turn::new();
        assert_eq!(turn.piece(Framing::Frames), Some(0), "one stanza");
        turn.sent(usize::MAX);
        assert_eq!(turn.piece(Framing::Frames), None);
    }
}
