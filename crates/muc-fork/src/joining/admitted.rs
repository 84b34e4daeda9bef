//! The room lets the account in, or may have.

use crate::accounts::Accounts;
use crate::address::at;
use crate::build;
use crate::decision::{Decision, Edit, Id, Outcome};
use crate::history::Request;
use crate::input::FromRoom;
use crate::membership::{Maybe, PERSONAL, Phase, REPEATING, SETTLE_TIMEOUT, SOON, Stage};
use crate::serving::set_id;
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

impl Accounts {
    /// Something came that may be the answer to the join. If nothing better comes soon, it is.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn may_be_in(
        &mut self,
        from: FromRoom,
        nick: &str,
        codes: &[u16],
        marked: bool,
        presence: &[u8],
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        m.repeat_again();
        // The answer to a join before a restart, or before a leave that was lost, tells what that to the next one does not tell.
        if m.note_news(codes) {
            out.push(Decision::Persist { account: from.account.into() });
        }
        if !marked && matches!(m.maybe, Some(Maybe::In { marked: true, .. })) {
            return;
        }
        m.maybe =
            Some(Maybe::In { nick: nick.into(), codes: codes.into(), marked, presence: presence.into() });
        let at = match (m.is_quiet(), m.other_ids) {
            (false, _) => now + SOON,
            (true, true) => now + SETTLE_TIMEOUT,
            // So far it had the join's.
            (true, false) => m.until,
        };
        if m.due > at {
            self.wake(from.account, from.room, at);
        }
    }

    /// What may be the answer to the join is taken for it.
    pub(crate) fn take_for_answer(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let Some(m) = self.membership_mut(account, room) else { return };
        match m.maybe.take() {
            Some(Maybe::In { nick, codes, presence, .. }) => {
                let answer =
                    Answer { nick: &nick, codes: &codes, presence: &presence, in_hand: false, sure: false };
                self.let_in(account, room, answer, now, out);
            }
            Some(Maybe::Refused { transient, presence }) => {
                self.turned_away(account, room, transient, Some(presence), now, out);
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
        let Some(a) = self.accounts.get_mut(account) else { return };
        let (Some(m), Some(room)) = (a.rooms.get_mut(name), self.rooms.get_mut(name)) else { return };
        // Whoever waits has not been told of the others yet.
        let silent = m.is_quiet();
        m.phase = Phase::Joined;
        m.failures = 0;
        m.maybe = None;
        m.other_ids = !answer.sure;
        m.guessed = if answer.sure || !silent { 0 } else { now + join_timeout };
        m.repeat_again();
        m.repeats_until = now + REPEATING;
        m.late_until = now + SETTLE_TIMEOUT;
        m.trouble = None;
        m.retry = false;
        let restored = std::mem::take(&mut m.restored);
        // Clients are told of a leave that the room never confirmed before they are told that they are in.
        let old_nick = std::mem::replace(&mut m.nick, answer.nick.into());
        let own: Arc<[u8]> = answer.presence.into();
        let before = m.own.replace(own.clone());
        let was = m.entry.clone();
        if !restored {
            m.entry.clear(); // it says what it is now; but not all do to whom they have still
        }
        m.note_codes(answer.codes);
        // It may have been taken for somebody else's.
        room.not_another(name, m, answer.nick, &mut self.changes);
        room.doubt_no_more(name, &mut self.changes);
        if m.guessed == 0 {
            m.unconfirmed = 0;
        }
        m.started_over = false;
        m.clients.retain(|client| match &client.stage {
            Stage::Leaving { id } => {
                let stanza = build::unavailable(&at(name, &old_nick), None, &[110]).into();
                let edit = Edit { id: set_id(id.as_deref()), ..Edit::default() };
                let (account, resource) = (account.into(), client.resource.clone());
                out.push(Decision::Serve { account, resource, stanza, edit });
                false
            }
            _ => true,
        });
        if let Some(known) = &mut m.known {
            known.remove(&old_nick);
            known.remove(answer.nick);
            // Who of the others is gone is known when the last has come, before one's own presence (XEP-0045 §7.2.3). In some
            // rooms they come after it: see `settle`.
            let comparing = m.clients.iter().filter(|c| c.was_told() || m.never_in);
            m.comparing = comparing.map(|c| c.resource.clone()).collect();
            let complete = room.view.occupants(&m.seen).next().is_some();
            if complete || m.clients.iter().any(|c| !c.is_in()) {
                m.tell_gone(account, name, room, &mut self.changes, out);
            }
            if old_nick != m.nick {
                let renamed: Arc<[u8]> = build::renamed(&at(name, &old_nick), &m.nick).into();
                // Somebody else may have the old one by now.
                let successor = room.view.get(&m.seen, &old_nick).cloned();
                for client in m.clients.iter_mut().filter(|c| c.was_told()) {
                    client.asked = m.nick.clone();
                    for stanza in [Some(&renamed), successor.as_ref()].into_iter().flatten() {
                        out.push(Decision::Serve {
                            account: account.into(),
                            resource: client.resource.clone(),
                            stanza: stanza.clone(),
                            edit: Edit::default(),
                        });
                    }
                }
            }
            if before.as_deref() != Some(answer.presence) || was != m.entry || !m.untold.is_empty() {
                let mut news = std::mem::take(&mut m.untold);
                let mut told = false;
                for client in m.clients.iter().filter(|c| c.was_told()) {
                    m.serve_own(account, client, Id::Remove, &news, out);
                    told = true;
                    news.retain(|code| *code != 201);
                }
                if !told {
                    m.untold = news;
                }
            }
        }
        let first = !m.rejoined;
        for i in 0..m.clients.len() {
            let Stage::Waiting { id, request, .. } = &mut m.clients[i].stage else { continue };
            let id = id.take();
            // What the room sends now is what was asked for, if nobody asked for anything in particular.
            let in_full = first && !silent && m.asked_default && request.is_default();
            let held = (!in_full).then_some(*request);
            if silent {
                m.serve_occupants(account, &room.view, &m.clients[i], out);
            }
            let client = &m.clients[i];
            // The first one is told what nobody has been told, that the room is new included.
            let news = std::mem::take(&mut m.untold);
            let with = m.codes_for(client, &news);
            let edit = Edit { id: set_id(id.as_deref()), without: PERSONAL, with, ..Edit::default() };
            let resource = client.resource.clone();
            out.push(if answer.in_hand {
                Decision::Forward { resource, edit }
            } else {
                Decision::Serve { account: account.into(), resource, stanza: own.clone(), edit }
            });
            m.clients[i].stage = Stage::In { held };
            m.clients[i].has_subject = false;
            if held.is_none() {
                // Some rooms begin with it.
                m.serve_history(account, name, &m.clients[i], &Request::default(), out);
            }
        }
        m.never_in = false;
        if first {
            // Who asked for a part of the history gets that before.
            if !m.clients.iter().any(|c| matches!(c.stage, Stage::In { held: Some(_) })) {
                m.release(account, name, &mut self.changes, out);
            }
        }
        if m.ending && !answer.in_hand {
            // All that was to come has come since.
            m.settle(account, name, room, &mut self.changes, out);
        }
        m.answer_pam(account, name, Outcome::In(answer.nick.into()), out);
        out.push(Decision::Persist { account: account.into() });
        let settles = now + if m.ending || !m.held.is_empty() { SOON } else { SETTLE_TIMEOUT };
        self.wake(account, name, settles);
        self.show_latest(account, name, out);
        self.ask_for_nicks(account, name, out);
    }
}
