//! The room was asked to let the account in.

use crate::input::Refusal;
use crate::membership::joined::{Guess, Joined};
use std::sync::Arc;

#[derive(Debug, Default)]
pub struct Joining {
    /// The `id` of the account's join.
    pub id: String,
    /// The password in it.
    pub password: Option<Box<str>>,
    /// Until when the account waits for the answer.
    pub until: u64,
    /// What may be the answer.
    pub maybe: Option<Maybe>,
    /// No join is under way: the next one is sent when it is due.
    pub put_off: bool,
    /// The room has confirmed meanwhile that a stay from before is over.
    pub started_over: bool,
    /// The bookmark was published anew meanwhile.
    pub bookmark_changed: bool,
}

/// What may be the answer to the account's join, though it has not the join's `id` (which XEP-0045 does not ask for).
#[derive(Debug)]
pub enum Maybe {
    /// The account is in.
    In {
        nick: Box<str>,
        codes: Vec<u16>,
        /// It has status 110.
        marked: bool,
        presence: Arc<[u8]>,
    },
    /// The room says no.
    Refused { refusal: Refusal, presence: Arc<[u8]> },
}

impl Joining {
    /// The account's join was sent, under an `id`, and is waited for until then.
    pub fn asked(id: String, until: u64) -> Joining {
        Joining { id, until, ..Joining::default() }
    }

    /// The account is in. `guessed`: until when the answer may still come, if something else was taken for it; `late_until`:
    /// until when there may be more of the history.
    pub fn let_in(&mut self, guessed: Option<u64>, late_until: u64) -> Joined {
        let Joining { id, password, bookmark_changed, .. } = std::mem::take(self);
        let guess = guessed.map(|until| Guess { until, bookmark_changed });
        Joined { join_id: id, password, guess, late_until, ping: false, doubt: false }
    }

    /// What was taken for the answer was of a stay before, which is over; the answer is waited for until then.
    pub fn resumed(joined: &mut Joined, until: u64) -> Joining {
        let id = std::mem::take(&mut joined.join_id);
        let bookmark_changed = joined.guess.as_ref().is_some_and(|guess| guess.bookmark_changed);
        let password = joined.password.take();
        Joining { password, started_over: true, bookmark_changed, ..Joining::asked(id, until) }
    }

    /// Whether what came may be the account's own presence.
    pub fn may_be_in(&self) -> bool {
        matches!(self.maybe, Some(Maybe::In { .. }))
    }
}
