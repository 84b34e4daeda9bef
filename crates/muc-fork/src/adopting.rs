//! A room that outlived the restart with the account still in it: the account is in, and the room is not asked for anything.
//!
//! What the room would answer to a join is handed in instead, and goes the way of that answer: what clients know already they are
//! not told, what changed they are.

use crate::accounts::Accounts;
use crate::chat;
use crate::decision::Decision;
use crate::from_rooms::serve_in_hand;
use crate::input::{FromRoom, MucUser, Presence, Talk};
use crate::membership::Phase;
use crate::restored::Restored;
use crate::view::likeness;

/// A room as the account would be told of it now. Stanzas are bytes without `to`.
#[derive(Clone, Debug, Default)]
pub struct Remembered<'a> {
    /// The nickname under which it has the account.
    pub nick: &'a str,
    /// The account's own presence, with 110 and without `id`.
    pub own: &'a [u8],
    /// What the account last told the room, without address and `id`.
    pub shown: &'a [u8],
    /// All clients that were in the room are back: it shows what the one of them said that spoke last.
    pub all_back: bool,
    /// The occupants: nickname and presence. The account itself may be among them.
    pub occupants: Vec<(&'a str, &'a [u8])>,
    /// What the room would send of the discussion, the oldest first, with the times of it.
    pub history: Vec<&'a [u8]>,
    /// The subject, empty or not.
    pub subject: &'a [u8],
}

impl Accounts {
    /// As [`Accounts::restore`], of an account that the room has.
    pub fn adopt(
        &mut self,
        account: &str,
        kept: Restored,
        remembered: &Remembered,
        online: bool,
        now: u64,
    ) -> Vec<Decision> {
        let room = kept.room.clone();
        let mut out = self.restore(account, kept, online, now);
        let Some(m) = self.membership_mut(account, &room) else { return out };
        let Phase::Joining(joining) = &m.phase else {
            return out; // it was there already, or is on its way out
        };
        out.retain(|decision| !matches!(decision, Decision::Send { .. }));
        let join_id = joining.id.clone();
        if likeness(remembered.shown) != likeness(&m.shown.presence) {
            m.shown.presence = remembered.shown.into();
            // What is kept of a client is not written with each presence of it.
            let latest = m.clients.iter_mut().filter(|c| c.is_in()).max_by_key(|c| c.turn);
            if let Some(client) = latest.filter(|_| remembered.all_back) {
                client.presence = m.shown.presence.clone();
            }
        }
        if *m.nick != *remembered.nick {
            // Its clients were told so when the room changed it.
            for client in m.clients.iter_mut().filter(|client| client.asked == m.nick) {
                client.asked = remembered.nick.into();
            }
            m.nick = remembered.nick.into();
        }
        if !m.never_in {
            m.own = Some(remembered.own.into());
        }
        // There is no stanza in hand: what would be done with it is done with what the room would have sent.
        let serve = |told: Option<Vec<Decision>>, stanza: &[u8], out: &mut Vec<Decision>| {
            let mut told = told.unwrap_or_default();
            serve_in_hand(&mut told, FromRoom { account, room: &room, nick: None, id: None }, stanza);
            out.append(&mut told);
        };
        let from = |nick, id| FromRoom { account, room: &room, nick: Some(nick), id };
        for &(nick, presence) in remembered.occupants.iter().filter(|(nick, _)| *nick != remembered.nick) {
            let told = self.presence_from_room(
                from(nick, None),
                Presence::Available,
                MucUser::default(),
                presence,
                now,
            );
            serve(told, presence, &mut out);
        }
        let said = MucUser { codes: &[110], ..MucUser::default() };
        let told = self.presence_from_room(
            from(remembered.nick, Some(&join_id)),
            Presence::Available,
            said,
            remembered.own,
            now,
        );
        serve(told, remembered.own, &mut out);
        // Of the subject it cannot be seen whether it is the one that they have; but they were told when it was set.
        let m = self.membership(account, &room);
        let has_subject = m.into_iter().flat_map(|m| &m.clients).filter(|c| c.has_subject);
        let has_subject: Vec<Box<str>> = has_subject.map(|c| c.resource.clone()).collect();
        for &stanza in remembered.history.iter().chain([&remembered.subject]) {
            let mut copies = Vec::new();
            let chat = chat::read(stanza, &room);
            let is_subject = chat.talk == Talk::Subject;
            let told = self.groupchat(from("", None), &chat, now, |resource| {
                if !(is_subject && has_subject.iter().any(|has| **has == *resource)) {
                    copies.push(Decision::Forward { resource: resource.into(), edit: Default::default() });
                }
            });
            let mut told = told.unwrap_or_default();
            told.append(&mut copies);
            serve(Some(told), stanza, &mut out);
        }
        if let Some(mut stay) = self.stay(account, &room, &mut out) {
            stay.settle();
        }
        out
    }
}
