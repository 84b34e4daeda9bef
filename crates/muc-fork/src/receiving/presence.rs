//! Presence from a room: of the account itself, of others, and errors.

use crate::accounts::Accounts;
use crate::change::Change;
use crate::decision::{Decision, Edit, Id};
use crate::input::{FromRoom, MucUser, Presence};
use crate::joining::admitted::Answer;
use crate::membership::{Client, Maybe, Phase, REPEATING, SETTLE_TIMEOUT, Stage};
use crate::memory::Full;
use crate::serving::set_id;
use crate::view::likeness;

impl Accounts {
    /// A room's presence. `presence` are its bytes without `to`, and without `id` if it is the account's own.
    pub fn presence_from_room(
        &mut self,
        from: FromRoom,
        kind: Presence,
        said: MucUser,
        presence: &[u8],
        now: u64,
    ) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        let m = self.accounts.get_mut(from.account)?.rooms.get_mut(from.room)?;
        m.heard = now;
        match kind {
            Presence::Error => {
                if self.probe_refused(from, &mut out) {
                    if said.condition == Some("not-acceptable") {
                        self.ping(from.account, from.room, now, &mut out);
                    }
                } else {
                    self.refused(from, said, presence, now, &mut out);
                }
            }
            Presence::Available => {
                // A room may have a presence of its own (ejabberd's do); it is kept as that of an occupant without a name.
                let nick = from.nick.unwrap_or("");
                let marked = said.codes.contains(&110) && from.nick.is_some();
                let named = from.nick == Some(&m.nick);
                let answers = from.id == Some(&m.join_id);
                match m.phase {
                    Phase::Joining if marked || (named && answers) => {
                        if answers || !m.is_quiet() {
                            let answer =
                                Answer { nick, codes: said.codes, presence, in_hand: true, sure: answers };
                            self.let_in(from.account, from.room, answer, now, &mut out);
                        } else {
                            // It may be of the stay that is ending.
                            self.may_be_in(from, nick, said.codes, true, presence, now, &mut out);
                        }
                    }
                    Phase::Joining => {
                        self.occupant(from, nick, presence, &mut out);
                        if named {
                            // Some rooms do not say which presence is one's own.
                            self.may_be_in(from, nick, said.codes, false, presence, now, &mut out);
                        }
                    }
                    Phase::Leaving if marked => {}
                    Phase::Joined if marked || named => {
                        if now < m.guessed {
                            // This is the answer, or may be, and its history follows.
                            if answers {
                                m.guessed = 0;
                                m.unconfirmed = 0;
                            }
                            m.expect_repeats();
                            m.repeats_until = now + REPEATING;
                            m.late_until = now + SETTLE_TIMEOUT;
                        }
                        if *m.nick != *nick {
                            m.nick = nick.into();
                            out.push(Decision::Persist { account: from.account.into() });
                        }
                        m.own = Some(presence.into());
                        m.note_codes(said.codes);
                        if m.clients.iter().any(Client::is_in) {
                            m.untold.clear();
                        }
                        for client in m.clients.iter().filter(|c| c.is_in()) {
                            let id = match (&m.changed_by, from.id) {
                                (Some((id, by)), Some(this)) if **id == *this && *by == client.resource => {
                                    Id::Keep
                                }
                                _ => Id::Remove,
                            };
                            let with = if marked { Vec::new() } else { vec![110] };
                            let edit = Edit { id, with, ..Edit::default() };
                            out.push(Decision::Forward { resource: client.resource.clone(), edit });
                        }
                        for i in 0..m.clients.len() {
                            m.let_client_in(from.account, from.room, i, &mut out);
                        }
                    }
                    Phase::Joined | Phase::Leaving => self.occupant(from, nick, presence, &mut out),
                    Phase::Away => {}
                }
            }
            Presence::Unavailable => {
                if m.phase == Phase::Joining
                    && said.codes.contains(&303)
                    && m.other_ids
                    && m.unconfirmed == 0
                    && matches!(&m.maybe, Some(Maybe::In { nick, .. }) if from.nick == Some(nick))
                {
                    self.take_for_answer(from.account, from.room, now, &mut out);
                }
                let m = self.accounts.get_mut(from.account)?.rooms.get_mut(from.room)?;
                let own = said.codes.contains(&110) || from.nick == Some(&m.nick);
                if !own {
                    self.occupant_gone(from, from.nick.unwrap_or(""), &mut out);
                    let joined =
                        self.membership(from.account, from.room).is_some_and(|m| m.phase == Phase::Joined);
                    if from.nick.is_none_or(str::is_empty) && joined {
                        // The room itself is not there any more, it says.
                        self.doubt(from.account, from.room, now, &mut out);
                    }
                } else if said.codes.contains(&303) && m.is_quiet() {
                    // The clients go by the nickname that they know until the account is in again; see `let_in`.
                } else if said.codes.contains(&303) {
                    let old = m.nick.clone();
                    if let Some(room) = self.rooms.get_mut(from.room) {
                        room.not_another(from.room, m, &old, &mut self.changes);
                    }
                    if let Some(new) = said.new_nick {
                        m.nick = new.into();
                        m.own = None; // the new one's presence follows
                        for client in &mut m.clients {
                            let asked =
                                m.renames.iter().any(|r| r.resource == client.resource && *r.nick == *new);
                            if client.asked == old || asked {
                                client.asked = new.into();
                            }
                        }
                        m.renames.retain(|r| *r.nick != *new);
                    }
                    for client in m.clients.iter().filter(|c| c.was_told() || !c.stays()) {
                        out.push(Decision::Forward {
                            resource: client.resource.clone(),
                            edit: Edit::default(),
                        });
                    }
                } else {
                    self.out_of_room(from, said, now, &mut out);
                }
            }
        }
        Some(out)
    }

    /// An occupant is there, or changed.
    pub(crate) fn occupant(&mut self, from: FromRoom, nick: &str, presence: &[u8], out: &mut Vec<Decision>) {
        let Some(a) = self.accounts.get_mut(from.account) else { return };
        let (Some(m), Some(room)) = (a.rooms.get_mut(from.room), self.rooms.get_mut(from.room)) else {
            return;
        };
        let growth = room.view.growth(nick, presence);
        let full = if room.view.bytes() + growth > self.limits.room {
            Some((&mut room.full, Full::Room(from.room.into())))
        } else if a.memory.used() + presence.len() > self.limits.account {
            Some((&mut a.full, Full::Account(from.account.into())))
        } else if self.memory.used() + growth > self.limits.server {
            Some((&mut self.full, Full::Server))
        } else {
            None
        };
        let kept = full.is_none();
        if let Some((known, notice)) = full
            && !std::mem::replace(known, true)
        {
            self.notices.push(notice);
        }
        if !kept {
            // It reaches who is there, and is not kept. What was known of it holds no more.
            if room.view.remove(&mut m.seen, nick) {
                self.changes.push(Change::Gone { room: from.room.into(), nick: nick.into() });
            }
        } else if let Some(likeness) = room.view.tell(&mut m.seen, nick, presence) {
            self.changes.push(Change::Occupant { room: from.room.into(), nick: nick.into(), likeness });
        }
        let silent = m.is_quiet();
        let mut news = true;
        if let Some(known) = &mut m.known {
            let likeness = likeness(presence);
            let before = if kept { known.insert(nick.into(), likeness) } else { known.remove(nick) };
            news = before.is_none_or(|before| likeness.is_news_after(before));
        }
        for client in &m.clients {
            let gets = match client.stage {
                Stage::In { held: None } => news,
                // It has just been let in, and has been told of nobody who comes after that.
                Stage::In { held: Some(_) } => true,
                // While the account joins again they wait for all of it.
                Stage::Waiting { .. } => !silent,
                Stage::Leaving { .. } => true,
            };
            if gets {
                out.push(Decision::Forward { resource: client.resource.clone(), edit: Edit::default() });
            }
        }
    }

    pub(crate) fn occupant_gone(&mut self, from: FromRoom, nick: &str, out: &mut Vec<Decision>) {
        let Some(a) = self.accounts.get_mut(from.account) else { return };
        let (Some(m), Some(room)) = (a.rooms.get_mut(from.room), self.rooms.get_mut(from.room)) else {
            return;
        };
        if room.view.remove(&mut m.seen, nick) {
            self.changes.push(Change::Gone { room: from.room.into(), nick: nick.into() });
        }
        if let Some(known) = &mut m.known {
            known.remove(nick);
        }
        let silent = m.is_quiet();
        for client in &m.clients {
            // Who knows the occupant already is not told of those who are gone when it is let in.
            if silent && client.stays() && !m.knows_occupants(client) {
                continue;
            }
            out.push(Decision::Forward { resource: client.resource.clone(), edit: Edit::default() });
        }
    }

    /// The room does not answer a client's probe.
    fn probe_refused(&mut self, from: FromRoom, out: &mut Vec<Decision>) -> bool {
        let Some(a) = self.accounts.get_mut(from.account) else { return false };
        let Some(asked) = from.id.and_then(|id| a.requests.asked_mut(id)) else { return false };
        if &*asked.room != from.room {
            return false;
        }
        if let Some(resource) = asked.resource.take() {
            let id = (!asked.id.is_empty()).then_some(&*asked.id);
            let edit = Edit { id: set_id(id), ..Edit::default() };
            out.push(Decision::Forward { resource, edit });
        }
        true
    }
}
