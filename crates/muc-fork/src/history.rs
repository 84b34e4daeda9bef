//! The discussion that a client gets when it joins (XEP-0045 §7.2.13 to §7.2.15).

use crate::memory::{Meter, Weight};
use std::collections::VecDeque;
use std::sync::Arc;

/// How much of the discussion a client asks for. Nothing asked: as much as the room gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// At most so many messages.
    pub maxstanzas: Option<usize>,
    /// At most so many characters, counting whole stanzas; taken for bytes.
    pub maxchars: Option<usize>,
    /// Nothing older, in seconds since 1970.
    pub since: Option<u64>,
}

impl Request {
    /// Whether nothing was asked.
    pub fn is_default(&self) -> bool {
        *self == Request::default()
    }

    /// Whether one more message fits that comes late, after what was served by this.
    pub fn takes(&mut self, at: u64) -> bool {
        if self.wants_none() || self.maxchars.is_some() || self.since.is_some_and(|since| at < since) {
            return false;
        }
        if let Some(most) = &mut self.maxstanzas {
            *most -= 1;
        }
        true
    }

    /// Whether it asks for nothing at all.
    pub fn wants_none(&self) -> bool {
        self.maxstanzas == Some(0) || self.maxchars == Some(0)
    }
}

/// One message, without a `to`.
#[derive(Debug)]
pub struct HistoryMessage {
    /// Its bytes.
    pub stanza: Arc<[u8]>,
    /// It has the room's own `<delay/>`, which says when it was said.
    pub stamped: bool,
    /// How it is known again, and when it was said.
    pub mark: Mark,
    /// What it takes.
    pub weight: Weight,
}

impl HistoryMessage {
    /// What a message of so many bytes takes.
    pub fn weigh(meter: &Meter, bytes: usize) -> Weight {
        Weight::new(meter, bytes + size_of::<HistoryMessage>() + 32)
    }
}

/// What is known of a message when it comes again from the room's history. Stays the same across restarts of a build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mark {
    /// Who said it, its `origin-id` or `id`, and its text.
    pub words: u64,
    /// The room's own name for it (XEP-0359).
    pub archived: Option<u64>,
    /// When it was said, or came, in seconds since 1970.
    pub at: u64,
}

/// The clocks of two servers may differ so much, in seconds, for messages with an `id` of their author's.
const CLOCKS: u64 = 60;
/// Without one the same words may be another message: it comes at once, if not to the second.
const LATE: u64 = 3;

impl Mark {
    /// Whether this, from the room's history, is a message that came before. `named`: it has an `id`. In doubt it is not: told
    /// twice is better than never.
    pub fn repeats(&self, before: &Mark, named: bool) -> bool {
        if let (Some(this), Some(that)) = (self.archived, before.archived) {
            return this == that;
        }
        let (early, late) = if named { (CLOCKS, CLOCKS) } else { (LATE, 1) };
        self.words == before.words && self.at + early >= before.at && self.at <= before.at + late
    }
}

/// The last messages of a membership, oldest first.
pub type History = VecDeque<Arc<HistoryMessage>>;

/// Where in `history` begins what was asked for: as many of the newest as fit. `to` is how many characters the address
/// adds to each; `default` how many there are without a request.
pub fn begin(history: &History, request: &Request, to: usize, default: usize) -> usize {
    let most = request.maxstanzas.unwrap_or(if request.is_default() { default } else { usize::MAX });
    let (mut n, mut chars) = (0, 0);
    for said in history.iter().rev() {
        chars += said.stanza.len() + to;
        let too_old = request.since.is_some_and(|since| said.mark.at < since);
        if n == most || too_old || request.maxchars.is_some_and(|max| chars > max) {
            break;
        }
        n += 1;
    }
    history.len() - n
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        (0..10u64)
            .map(|n| {
                let stanza: Arc<[u8]> = vec![b'x'; 90].into();
                let mark = Mark { at: 1000 + n, ..Mark::default() };
                Arc::new(HistoryMessage { stanza, stamped: false, mark, weight: Weight::default() })
            })
            .collect()
    }

    #[test]
    fn honours_each_limit_and_the_narrowest() {
        let h = history();
        let ask = |maxstanzas, maxchars, since| begin(&h, &Request { maxstanzas, maxchars, since }, 10, 7);
        assert_eq!(ask(None, None, None), 3);
        assert_eq!(ask(Some(0), None, None), 10);
        assert_eq!(ask(Some(4), None, None), 6);
        assert_eq!(ask(Some(400), None, None), 0);
        assert_eq!(ask(None, Some(0), None), 10);
        assert_eq!(ask(None, Some(299), None), 8);
        assert_eq!(ask(None, Some(300), None), 7);
        assert_eq!(ask(None, None, Some(1008)), 8);
        assert_eq!(ask(None, None, Some(0)), 0);
        assert_eq!(ask(Some(5), Some(200), Some(1003)), 8);
        assert_eq!(ask(Some(1), Some(2000), Some(1003)), 9);
    }
}
