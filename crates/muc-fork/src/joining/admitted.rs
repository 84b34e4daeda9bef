//! The room lets the account in, or may have.

use crate::accounts::Accounts;
use crate::address::at;
use crate::build;
use crate::decision::{Decision, Edit, Id, Outcome};
use crate::history::Request;
use crate::input::FromRoom;
use crate::membership::client::Stage;
use crate::membership::codes::PERSONAL;
use crate::membership::discussion::{SETTLE_TIMEOUT, SOON};
use crate::membership::joining::Maybe;
use crate::membership::{Membership, Phase};
use crate::serving::set_id;
use crate::stay::Stay;
use std::sync::Arc;

/// The account's own presence, when it is let in.
pub(crate) struct Answer<'a> {
    pub(crate) nick: &'a str,
    pub(crate) codes: &'a [u16],
    pub(crate) presence: &'a [u8],
    /// It is the stanza in hand.
    pub(crate) in_hand: bool,
    /// It has the join's `id`.
    pub(crate) sure: bool,
}

/// How things stood before the account was let in.
struct Before {
    /// Whoever waits has not been told of the others yet.
    quiet: bool,
    nick: Box<str>,
    own: Option<Arc<[u8]>>,
    entry: Vec<u16>,
}

impl Membership {
    /// From joining to joined.
    fn be_in(&mut self, answer: &Answer, join_timeout: u64, now: u64) -> Option<Before> {
        let quiet = self.is_quiet();
        let guessed = (!answer.sure && quiet).then_some(now + join_timeout);
        let joined = self.joining_mut()?.let_in(guessed, now + SETTLE_TIMEOUT);
        if joined.guess.is_none() {
            self.unconfirmed = 0;
        }
        self.phase = Phase::Joined(joined);
        self.other_ids = !answer.sure;
        self.contact.failures = 0;
        self.contact.trouble = None;
        self.repeats.history_begins();
        self.repeats.end_soon(now);
        let nick = std::mem::replace(&mut self.nick, answer.nick.into());
        let own = self.own.replace(answer.presence.into());
        let entry = self.codes.entry.clone();
        if !std::mem::take(&mut self.restored) {
            self.codes.entry.clear(); // it says what it is now; but not all do to whom they have still
        }
        self.codes.note(answer.codes);
        self.sees_jids = self.may_see_jids();
        self.lacks_jids = false;
        Some(Before { quiet, nick, own, entry })
    }
}

impl Accounts {
    /// Something came that may be the answer to the join. If nothing better comes soon, it is. `marked`: it has status 110.
    pub(crate) fn may_be_in(
        &mut self,
        from: FromRoom,
        codes: &[u16],
        marked: bool,
        presence: &[u8],
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        m.repeats.history_begins();
        // The answer to a join before a restart, or before a leave that was lost, tells what that to the next one does not tell.
        if m.codes.note_news(codes) {
            out.push(Decision::Persist { account: from.account.into() });
        }
        let (quiet, due) = (m.is_quiet(), m.due);
        let other_ids = m.other_ids;
        let Some(joining) = m.joining_mut() else { return };
        if !marked && matches!(joining.maybe, Some(Maybe::In { marked: true, .. })) {
            return;
        }
        let nick = from.nick.unwrap_or_default().into();
        joining.maybe = Some(Maybe::In { nick, codes: codes.into(), marked, presence: presence.into() });
        let at = match (quiet, other_ids) {
            (false, _) => now + SOON,
            (true, true) => now + SETTLE_TIMEOUT,
            // So far it had the join's.
            (true, false) => joining.until,
        };
        if due > at {
            self.wake(from.account, from.room, at);
        }
    }

    /// What may be the answer to the join is taken for it.
    pub(crate) fn take_for_answer(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let Some(m) = self.membership_mut(account, room) else { return };
        match m.joining_mut().and_then(|joining| joining.maybe.take()) {
            Some(Maybe::In { nick, codes, presence, .. }) => {
                let answer =
                    Answer { nick: &nick, codes: &codes, presence: &presence, in_hand: false, sure: false };
                self.let_in(account, room, answer, now, out);
            }
            Some(Maybe::Refused { refusal, presence }) => {
                self.turned_away(account, room, refusal, Some(presence), now, out);
            }
            None => {}
        }
    }

    /// The account is in: its own presence came (XEP-0045 §7.2.3).
    pub(crate) fn let_in(
        &mut self,
        account: &str,
        name: &str,
        answer: Answer,
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        let join_timeout = self.config(account).join_timeout;
        let Some(mut stay) = self.stay(account, name, out) else { return };
        let Some(before) = stay.m.be_in(&answer, join_timeout, now) else { return };
        // It may have been taken for somebody else's.
        stay.room.not_another(name, stay.m, answer.nick, stay.changes);
        stay.room.doubt_no_more(name, stay.changes);
        stay.confirm_leaves(&before.nick);
        if stay.m.comparison.known.is_some() {
            stay.compare_occupants(&before.nick);
            stay.tell_new_nick(&before.nick);
            stay.tell_changed_own(&answer, &before);
        }
        stay.let_clients_in(&answer, before.quiet);
        stay.m.never_in = false;
        // Who asked for a part of the history gets that before.
        let some_wait = stay.m.clients.iter().any(|c| matches!(c.stage, Stage::In { held: Some(_) }));
        if !stay.m.repeats.expected && !some_wait {
            stay.release();
        }
        if stay.m.discussion.ending && !answer.in_hand {
            // All that was to come has come since.
            stay.settle();
        }
        stay.m.answer_pam(account, name, Outcome::In(answer.nick.into()), stay.out);
        stay.persist();
        let soon = stay.m.discussion.ending || !stay.m.discussion.held.is_empty();
        self.wake(account, name, now + if soon { SOON } else { SETTLE_TIMEOUT });
        self.show_latest(account, name, out);
        self.ask_for_nicks(account, name, out);
    }
}

impl Stay<'_> {
    /// Clients are told of a leave that the room never confirmed before they are told that they are in.
    fn confirm_leaves(&mut self, old_nick: &str) {
        let is_leaving = |stage: &Stage| matches!(stage, Stage::Leaving { .. });
        for client in self.m.clients.extract_if(.., |client| is_leaving(&client.stage)) {
            let Stage::Leaving { id } = &client.stage else { continue };
            self.out.push(Decision::Serve {
                account: self.account.into(),
                resource: client.resource,
                stanza: build::unavailable(&at(self.name, old_nick), None, &[110]).into(),
                edit: Edit { id: set_id(id.as_deref()), ..Edit::default() },
            });
        }
    }

    /// Clients that were in before are told if the account has another nickname now.
    fn tell_new_nick(&mut self, old_nick: &str) {
        let m = &mut *self.m;
        if *old_nick == *m.nick {
            return;
        }
        let renamed: Arc<[u8]> = build::renamed(&at(self.name, old_nick), &m.nick).into();
        // Somebody else may have the old one by now.
        let successor = self.room.view.get(&m.seen, old_nick).cloned();
        for client in m.clients.iter_mut().filter(|c| c.was_told()) {
            client.asked = m.nick.clone();
            for stanza in [Some(&renamed), successor.as_ref()].into_iter().flatten() {
                self.out.push(Decision::Serve {
                    account: self.account.into(),
                    resource: client.resource.clone(),
                    stanza: stanza.clone(),
                    edit: Edit::default(),
                });
            }
        }
    }

    /// And of its own presence, if that tells anything new.
    fn tell_changed_own(&mut self, answer: &Answer, before: &Before) {
        let m = &mut *self.m;
        let same = before.own.as_deref() == Some(answer.presence) && before.entry == m.codes.entry;
        if same && m.codes.untold.is_empty() {
            return;
        }
        let mut news = std::mem::take(&mut m.codes.untold);
        let mut told = false;
        for client in m.clients.iter().filter(|c| c.was_told()) {
            m.serve_own(self.account, client, Id::Remove, &news, self.out);
            told = true;
            // One client makes the room that is new.
            news.retain(|code| *code != 201);
        }
        if !told {
            m.codes.untold = news;
        }
    }

    /// Clients that waited are told that they are in.
    fn let_clients_in(&mut self, answer: &Answer, quiet: bool) {
        let m = &mut *self.m;
        let first = !m.repeats.expected;
        for i in 0..m.clients.len() {
            let Stage::Waiting { id, request, .. } = &mut m.clients[i].stage else { continue };
            let id = id.take();
            // What the room sends now is what was asked for, if nobody asked for anything in particular.
            let in_full = first && !quiet && m.discussion.asked_default && request.is_default();
            let held = (!in_full).then_some(*request);
            if quiet {
                m.serve_occupants(self.account, &self.room.view, &m.clients[i], self.out);
            }
            let client = &m.clients[i];
            // The first one is told what nobody has been told, that the room is new included.
            let news = std::mem::take(&mut m.codes.untold);
            let with = m.codes_for(client, &news);
            let edit = Edit { id: set_id(id.as_deref()), without: PERSONAL, with, ..Edit::default() };
            let resource = client.resource.clone();
            self.out.push(match &m.own {
                Some(own) if !answer.in_hand => {
                    Decision::Serve { account: self.account.into(), resource, stanza: own.clone(), edit }
                }
                _ => Decision::Forward { resource, edit },
            });
            m.clients[i].stage = Stage::In { held };
            m.clients[i].has_subject = false;
            if held.is_none() {
                // Some rooms begin with it.
                m.serve_history(self.account, self.name, &m.clients[i], &Request::default(), self.out);
            }
        }
    }
}
