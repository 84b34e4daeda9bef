//! A join was refused: whose it was is told, and whoever wishes for something else is tried next, each wish once.
//!
//! A wish is a nickname and a password. A client that has none of its own, and the account itself, has the password that is known; so
//! has who is in already, as far as it knows, and that goes by the account's nickname.

use crate::accounts::Accounts;
use crate::build;
use crate::decision::Decision;
use crate::history::Request;
use crate::input::Refusal;
use crate::joining::WIDE;
use crate::membership::Membership;
use crate::membership::client::{Client, Stage};
use crate::membership::joining::Joining;
use std::sync::Arc;

/// What the account asks for next.
struct Wish {
    nick: Box<str>,
    /// The client's own.
    password: Option<Box<str>>,
    request: Request,
}

impl Accounts {
    /// The account's join was refused, for good, by the error in hand or by another. Says whether it asks for something else.
    pub(crate) fn try_next(
        &mut self,
        account: &str,
        room: &str,
        refusal: Refusal,
        error: Option<&Arc<[u8]>>,
        now: u64,
        out: &mut Vec<Decision>,
    ) -> bool {
        let stays = self.stays(account, room, false, now);
        let online = self.accounts.get(account).is_some_and(|a| a.online);
        let Some(m) = self.membership_mut(account, room) else { return false };
        let Some(joining) = m.joining_mut() else { return false };
        let tried = joining.password.take();
        let (started_over, bookmark_changed) = (joining.started_over, joining.bookmark_changed);
        if refusal == Refusal::Password {
            m.passwords.refuse(tried.as_deref());
        }
        // What the bookmark has now is tried by itself, after this.
        let again = refusal == Refusal::Password && stays && !bookmark_changed;
        let Some(wish) = m.next_wish(tried.as_deref(), again) else { return false };
        let clients = std::mem::take(&mut m.clients);
        let (left, refused) =
            clients.into_iter().partition(|c| c.stays() && !m.is_refused(c, tried.as_deref()));
        m.clients = left;
        m.tell_refused(account, room, &refused, error, out);
        let Some(a) = self.accounts.get_mut(account) else { return false };
        let Some(mut m) = a.rooms.remove(room) else { return false };
        if let Some(r) = self.rooms.get_mut(room) {
            r.forget_seen(room, &mut m, &mut self.changes);
            r.accounts -= 1;
        }
        m.nick = wish.nick;
        m.passwords.prefer(wish.password.as_deref());
        let clients = &m.clients;
        m.nicknames.renames.retain(|r| clients.iter().any(|c| c.resource == r.resource));
        for rename in &mut m.nicknames.renames {
            rename.waits = true;
        }
        m.shown.presence =
            m.latest().map_or_else(|| build::unattended(online).into(), |client| client.presence.clone());
        m.shown.changed_by = None;
        self.begin(account, room, m, &wish.request, now, out);
        if let Some(joining) = self.membership_mut(account, room).and_then(Membership::joining_mut) {
            *joining = Joining { started_over, bookmark_changed, ..std::mem::take(joining) };
        }
        true
    }
}

impl Membership {
    /// The nickname that a client wants the account to have.
    fn wanted_by<'a>(&'a self, client: &'a Client) -> &'a str {
        if client.was_told() { &self.nick } else { &client.asked }
    }

    /// Whether the refusal of a join with this password, which is known no more if that was the reason, holds for a client.
    fn is_refused(&self, client: &Client, tried: Option<&str>) -> bool {
        let same = match (client.password(), self.passwords.first()) {
            (Some(own), _) => Some(own) == tried,
            (None, None) => true,
            (None, known) => known == tried || (tried.is_none() && !client.was_told()),
        };
        same && *self.wanted_by(client) == *self.nick
    }

    /// What to ask for after a join with this password was refused. `again`: for the account itself, if there is another password.
    fn next_wish(&self, tried: Option<&str>, again: bool) -> Option<Wish> {
        let left = self.clients.iter().filter(|c| c.stays() && !self.is_refused(c, tried));
        // Who is in, as far as it knows, comes before those who are not.
        let Some(client) = left.min_by_key(|c| (!c.was_told(), c.turn)) else {
            let again = again && self.passwords.first().is_some();
            return again.then(|| Wish { nick: self.nick.clone(), password: None, request: WIDE });
        };
        let request = match &client.stage {
            Stage::Waiting { request, .. } if !self.repeats.expected => *request,
            _ => WIDE,
        };
        Some(Wish {
            nick: self.wanted_by(client).into(),
            password: client.password().map(Into::into),
            request,
        })
    }
}
