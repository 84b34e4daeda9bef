//! Whether the account is still in a room: it pings its own nickname (XEP-0410).

use crate::accounts::Accounts;
use crate::address::at;
use crate::build;
use crate::decision::{Decision, Id};
use crate::input::{FromRoom, Iq, is_about_the_way};
use crate::membership::Phase;
use crate::requests::{ANSWER_TIMEOUT, Asked};

/// A ping that is not answered is sent again, so many times.
const PING_TRIES: u32 = 3;
/// A room that gives reasons to doubt is asked no sooner than so many seconds after the last time.
const DOUBT_PAUSE: u64 = 5;

impl Accounts {
    /// Asks a room that the account is in.
    pub(crate) fn ping(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let patience = self.config(account).patience();
        let id = self.new_id();
        let Some(m) = self.membership_mut(account, room) else { return };
        let to = at(room, &m.nick);
        let Some(joined) = m.joined_mut().filter(|joined| !joined.ping) else { return };
        joined.ping = true;
        out.push(Decision::Send { stanza: build::self_ping(account, &to, &id) });
        let until = now + ANSWER_TIMEOUT;
        let asked = Asked { room: room.into(), resource: None, to, id: "".into(), ping: true, until };
        if let Some(a) = self.accounts.get_mut(account) {
            a.requests.ask(&id, asked, now);
        }
        self.wake(account, room, now + patience);
    }

    /// What a ping to one's own nickname told (XEP-0410 §3.3).
    pub(crate) fn pinged(
        &mut self,
        from: FromRoom,
        kind: Iq,
        condition: Option<&str>,
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        let silence = self.config(from.account).silence;
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        let Phase::Joined(joined) = &mut m.phase else { return };
        joined.ping = false;
        joined.doubt = false;
        m.contact.looked = now;
        // Somebody under another nickname is in; but it is known which nickname the account has.
        let between_nicks = m.own.is_none() || !m.nicknames.renames.is_empty();
        let there = kind == Iq::Result
            || matches!(condition, Some("service-unavailable" | "feature-not-implemented"))
            || (condition == Some("item-not-found") && between_nicks);
        if there {
            m.contact.failures = 0;
            m.contact.trouble = None;
            self.wake(from.account, from.room, now + silence);
        } else if condition.is_some_and(is_about_the_way) {
            self.unanswered(from.account, from.room, now, out);
        } else {
            self.rejoin(from.account, from.room, now, out);
        }
    }

    /// The room did not answer. After some tries, and some time, the account is out as far as its clients are concerned.
    pub(crate) fn unanswered(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let (patience, outage) = (self.config(account).patience(), self.config(account).outage());
        let Some(m) = self.membership_mut(account, room) else { return };
        m.contact.failures += 1;
        let trouble = *m.contact.trouble.get_or_insert(now);
        if m.contact.failures < PING_TRIES || now < trouble + outage {
            self.wake(account, room, now + patience);
            return;
        }
        for client in &m.clients {
            m.serve_left(account, room, client, Id::Remove, &[110, 333], out);
        }
        self.give_up(account, room, true, now, out);
    }

    /// Something that a room said gives reason to look whether the account is still in.
    pub(crate) fn doubt(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let Some(m) = self.membership_mut(account, room) else { return };
        let next = m.contact.looked + DOUBT_PAUSE;
        let Some(joined) = m.joined_mut() else { return };
        joined.doubt = true;
        if joined.ping {
            // The answer tells.
        } else if next <= now {
            self.ping(account, room, now, out);
        } else {
            self.wake(account, room, next);
        }
    }
}
