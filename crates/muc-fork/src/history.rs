//! The discussion that a client gets when it joins (XEP-0045 §7.2.13 to §7.2.15).

use crate::memory::{Meter, Weight};
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
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

    /// Whether it asks for nothing at all.
    pub fn wants_none(&self) -> bool {
        self.maxstanzas == Some(0) || self.maxchars == Some(0)
    }
}

/// One message, without a `to`.
#[derive(Debug)]
pub struct Said {
    /// Its bytes.
    pub stanza: Arc<[u8]>,
    /// When it was said, in seconds since 1970.
    pub at: u64,
    /// It has the room's own `<delay/>`, which says so.
    pub stamped: bool,
    /// The same for a message and its copy in the room's history.
    pub key: u64,
    /// What it takes.
    pub weight: Weight,
}

impl Said {
    /// What a message of so many bytes takes.
    pub fn weigh(meter: &Meter, bytes: usize) -> Weight {
        Weight::new(meter, bytes + size_of::<Said>() + 32)
    }
}

/// What identifies a message when it comes again with a delay: who, which id, which text.
pub fn key(from: &str, id: Option<&str>, body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (from, id, body).hash(&mut hasher);
    hasher.finish()
}

/// The last messages of a membership, oldest first.
pub type History = VecDeque<Arc<Said>>;

/// Where in `history` begins what was asked for: as many of the newest as fit. `to` is how many characters the address
/// adds to each; `default` how many there are without a request.
pub fn begin(history: &History, request: &Request, to: usize, default: usize) -> usize {
    let most = request.maxstanzas.unwrap_or(if request.is_default() { default } else { usize::MAX });
    let (mut n, mut chars) = (0, 0);
    for said in history.iter().rev() {
        chars += said.stanza.len() + to;
        let too_old = request.since.is_some_and(|since| said.at < since);
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
                Arc::new(Said { stanza, at: 1000 + n, stamped: false, key: n, weight: Weight::default() })
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
